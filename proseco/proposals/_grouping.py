"""Hierarchical grouping (Uijlings et al. 2013, Algorithm 1): merge the two most similar neighbours until none is left.

OpenCV sorts the list of all similarities at every merger. Here they lie in a heap. An entry whose region has been
merged since is skipped when it comes up, or dropped when room is needed: a region with thousands of neighbours, such as
a sky behind leaves, makes that many new entries at each of thousands of mergers.
"""

import numpy as np

from proseco.base.machine_code import compiler

_compiled = compiler(__file__)

#: Weights of colour, fill, texture and size in a similarity, in OpenCV's order and with its rounding.
ALL = np.array([0.25, 0.25, 0.25, 0.25], np.float32)
NO_COLOUR = np.array([0, 0.3333, 0.3333, 0.3333], np.float32)
FILL = np.array([0, 1, 0, 0], np.float32)
SIZE = np.array([0, 0, 0, 1], np.float32)


@_compiled
def _intersections(histograms, a, others, out):
    """Intersections of histogram ``a`` with ``others``, written to ``out`` (n,).

    Each sum runs in order, as another order would round differently and could change which pair is most similar. Four
    sums run at once, as within one of them each addition waits for the one before.
    """
    one, end = histograms[a], len(others) // 4 * 4
    for n in range(0, end, 4):
        p, q, r, s = (
            histograms[others[n]],
            histograms[others[n + 1]],
            histograms[others[n + 2]],
            histograms[others[n + 3]],
        )
        sum_p = sum_q = sum_r = sum_s = np.float32(0)
        for i in range(one.size):
            sum_p += min(one[i], p[i])
            sum_q += min(one[i], q[i])
            sum_r += min(one[i], r[i])
            sum_s += min(one[i], s[i])
        out[n], out[n + 1], out[n + 2], out[n + 3] = sum_p, sum_q, sum_r, sum_s
    for n in range(end, len(others)):
        p, sum_p = histograms[others[n]], np.float32(0)
        for i in range(one.size):
            sum_p += min(one[i], p[i])
        out[n] = sum_p


@_compiled
def _similarities(a, others, weights, colour, texture, size, box, area):
    """Similarities of region ``a`` with each of ``others``: (n,) float32."""
    similar = np.empty(len(others), np.float32)
    colours, textures = np.empty_like(similar), np.empty_like(similar)
    if weights[0] > 0:
        _intersections(colour, a, others, colours)
    if weights[2] > 0:
        _intersections(texture, a, others, textures)
    one, zero = np.float32(1), np.float32(0)
    for n in range(len(others)):
        b = others[n]
        total, parts = np.float32(0), np.float32(0)
        both = size[a] + size[b]
        if weights[0] > 0:
            total += weights[0] * colours[n]
            parts += weights[0]
        if weights[1] > 0:
            width = max(box[a, 2], box[b, 2]) - min(box[a, 0], box[b, 0])
            height = max(box[a, 3], box[b, 3]) - min(box[a, 1], box[b, 1])
            total += weights[1] * max(min(one - np.float32(width * height - both) / np.float32(area), one), zero)
            parts += weights[1]
        if weights[2] > 0:
            total += weights[2] * textures[n]
            parts += weights[2]
        if weights[3] > 0:
            total += weights[3] * max(min(one - np.float32(both) / np.float32(area), one), zero)
            parts += weights[3]
        similar[n] = total / parts
    return similar


@_compiled
def _merge(histograms, a, b, into, size):
    """Write the mean of two histograms, weighted by the sizes of their regions, to row ``into``."""
    first, second = np.float32(size[a]), np.float32(size[b])
    both = np.float32(size[a] + size[b])
    for i in range(histograms.shape[1]):
        histograms[into, i] = (histograms[a, i] * first + histograms[b, i] * second) / both


@_compiled
def _before(similarity, i, j):
    """Whether pair i is merged before pair j. Of equals it is the later one, as after a stable sort."""
    return similarity[i] > similarity[j] or (similarity[i] == similarity[j] and i > j)


@_compiled
def _push(heap, used, similarity, pair):
    """Put a pair into a heap of ``used`` pairs."""
    place = used
    while place > 0:
        above = (place - 1) >> 1
        if not _before(similarity, pair, heap[above]):
            break
        heap[place] = heap[above]
        place = above
    heap[place] = pair


@_compiled
def _add(ends, link, similarity, heap, head, a, b, pair, used):
    """Link a pair, whose similarity is set, to both of its regions, and put it into the heap of ``used`` pairs."""
    ends[2 * pair], ends[2 * pair + 1] = a, b
    link[2 * pair], link[2 * pair + 1] = head[a], head[b]
    head[a], head[b] = 2 * pair, 2 * pair + 1
    _push(heap, used, similarity, pair)


@_compiled
def _pop(heap, used, similarity):
    """Take the first pair out of a heap of ``used`` pairs."""
    best, last, place = heap[0], heap[used - 1], 0
    while True:
        below = 2 * place + 1
        if below >= used - 1:
            break
        if below + 1 < used - 1 and _before(similarity, heap[below + 1], heap[below]):
            below += 1
        if not _before(similarity, heap[below], last):
            break
        heap[place] = heap[below]
        place = below
    heap[place] = last
    return best


@_compiled
def _grown(array, size):
    """A longer copy of an array; the new end is not initialised."""
    larger = np.empty(size, array.dtype)
    larger[: array.size] = array
    return larger


@_compiled
def _living(ends, link, similarity, heap, head, alive, count):
    """Drop the pairs of regions that have been merged.

    The other pairs keep their order, in all chains too, as it decides between equal similarities.

    :returns: how many are left. All of them are in the heap, as a pair leaves it only to be merged or skipped.
    """
    head[:] = -1
    left = 0
    for pair in range(count):
        a, b = ends[2 * pair], ends[2 * pair + 1]
        if alive[a] and alive[b]:
            similarity[left] = similarity[pair]
            _add(ends, link, similarity, heap, head, a, b, left, left)
            left += 1
    return left


@_compiled
def group(pairs, size, box, colour, texture, weights, area):
    """Merge segments, the two most similar neighbours first, until none are left.

    :param pairs: (n, 2) touching segments, ascending.
    :param size: (s,), ``box`` (s, 4), ``colour`` (s, bins), ``texture`` (s, bins) of each segment; not changed.
    :param weights: of colour, fill, texture and size.
    :param area: pixels of the image.
    :returns: (r, 4) boxes and (r,) levels of all regions: the segments, then each merger. A segment has level 1, a
        merger one more than the higher of its parts.
    """
    segments, size, box = len(size), size.copy(), box.copy()
    colour = colour.copy() if weights[0] > 0 else colour
    texture = texture.copy() if weights[2] > 0 else texture
    most = 2 * segments - 1
    row = np.empty(most, np.int64)  # where size, box and histograms of a region are
    row[:segments] = np.arange(segments)
    level = np.ones(most, np.int64)
    boxes = np.empty((most, 4), np.int64)
    boxes[:segments] = box
    alive = np.ones(most, np.bool_)
    seen = np.full(most, -1, np.int64)
    around, rows = np.empty(segments, np.int64), np.empty(segments, np.int64)  # neighbours of a merger
    # Pairs (a, b), their similarities, and a chain of its pairs for each region: entry 2 i is a's link, 2 i + 1 b's.
    room = max(64, 4 * len(pairs))
    ends = np.empty(2 * room, np.int64)
    link = np.empty(2 * room, np.int64)
    similarity = np.empty(room, np.float32)
    heap = np.empty(room, np.int64)
    head = np.full(most, -1, np.int64)
    count, used, regions = 0, 0, segments
    begin = 0
    while begin < len(pairs):
        a, end = pairs[begin, 0], begin
        while end < len(pairs) and pairs[end, 0] == a:
            end += 1
        others = pairs[begin:end, 1].copy()
        similarity[begin:end] = _similarities(a, others, weights, colour, texture, size, box, area)
        for b in others:
            _add(ends, link, similarity, heap, head, a, b, count, used)
            count, used = count + 1, used + 1
        begin = end
    while used > 0:
        best = _pop(heap, used, similarity)
        used -= 1
        a, b = ends[2 * best], ends[2 * best + 1]
        if not (alive[a] and alive[b]):
            continue
        new, i, j = regions, row[a], row[b]
        regions += 1
        into = min(i, j)
        row[new] = into
        level[new] = max(level[a], level[b]) + 1
        if weights[0] > 0:
            _merge(colour, i, j, into, size)
        if weights[2] > 0:
            _merge(texture, i, j, into, size)
        size[into] = size[i] + size[j]
        for c in range(2):
            box[into, c] = min(box[i, c], box[j, c])
            box[into, 2 + c] = max(box[i, 2 + c], box[j, 2 + c])
        boxes[new] = box[into]
        alive[a] = alive[b] = False
        near = 0
        for part in (a, b):
            entry = head[part]
            while entry >= 0:
                other = ends[entry ^ 1]
                if alive[other] and seen[other] != new:
                    seen[other] = new
                    around[near], rows[near] = other, row[other]
                    near += 1
                entry = link[entry]
        if count + near > len(similarity):
            count = used = _living(ends, link, similarity, heap, head, alive, count)
            if 2 * (count + near) > len(similarity):
                room = 2 * (count + near)
                ends, link = _grown(ends, 2 * room), _grown(link, 2 * room)
                similarity, heap = _grown(similarity, room), _grown(heap, room)
        similarity[count : count + near] = _similarities(into, rows[:near], weights, colour, texture, size, box, area)
        for other in around[:near]:
            _add(ends, link, similarity, heap, head, new, other, count, used)
            count, used = count + 1, used + 1
    return boxes[:regions], level[:regions]
