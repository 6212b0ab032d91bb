"""Graph-based segmentation (Felzenszwalb and Huttenlocher 2004) with the label maps of OpenCV's ximgproc.

Four things make it fast. An edge between two pixels is held once, not twice. Edges are sorted once for all thresholds
k, as integers. All that the smallest k decides about a segment before it first refuses one of its edges, every larger k
decides alike: these are nine tenths of all mergers, and they are done once. From there each k works not on pixels but
on what is left, some thousands of segments and the edges between them.
"""

import cv2
import numpy as np

from proseco.base.machine_code import compiler

_compiled = compiler(__file__)
_inlined = compiler(__file__, inline="always")

MIN_SIZE = 100  # OpenCV's default: smaller segments are merged with a neighbour
SIGMA = float(np.float32(0.8))  # of the blur; OpenCV's presets hold it as a float, which is not 0.8
_ABSENT = np.float32(np.inf)  # weight of edges that would lead out of the image
_BLOCK = 128  # edges
# Indices are unsigned, here and below: numba checks whether a signed one is negative.
_ONE = np.uint32(1)


def sorted_edges(image: np.ndarray) -> np.ndarray:
    """The edges between neighbouring pixels, weighted by the distance of their blurred colours.

    :param image: (H, W) or (H, W, C) uint8.
    :returns: (E,) uint64, ascending by weight; among equals, in the order of the image. The upper 32 bits are those of
        the float32 weight: floats that are not negative sort as their bits do. The lower 32 are the edge's number:
        2 * pixel for the one to the right, 2 * pixel + 1 for the one below, with pixels numbered row by row.
    """
    height, width = image.shape[:2]
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), SIGMA, sigmaY=SIGMA)
    planes = np.empty((blurred.size // (height * width), height, width), np.float32)
    cv2.split(blurred, list(planes))
    del blurred  # 12 bytes per pixel of a photograph, which the sort needs more
    weights = _weights(planes)
    del planes
    edges = np.arange(weights.size, dtype=np.uint64)
    edges.view(np.float32)[1::2] = weights
    del weights
    edges.sort()
    return edges[: height * (width - 1) + (height - 1) * width]


@_compiled
def _weights(planes):
    """Euclidean distances, (2 * H * W,) float32, rounded where OpenCV rounds: squares in double, their sum in float."""
    channels, height, width = planes.shape
    weights = np.empty((height, width, 2), np.float32)
    right, down = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(height):
        right[:] = 0
        down[:] = 0
        for c in range(channels):
            here, below = planes[c, y], planes[c, min(y + 1, height - 1)]
            for x in range(width - 1):
                difference = np.float64(here[x] - here[x + 1])
                right[x] = np.float32(np.float64(right[x]) + difference * difference)
            for x in range(width):
                difference = np.float64(here[x] - below[x])
                down[x] = np.float32(np.float64(down[x]) + difference * difference)
        right[width - 1] = _ABSENT
        if y + 1 == height:
            down[:] = _ABSENT
        for x in range(width):
            weights[y, x, 0] = np.sqrt(right[x])
            weights[y, x, 1] = np.sqrt(down[x])
    return weights.reshape(-1)


@_inlined
def _find(parent, p):
    """The root of p; paths are halved on the way."""
    while parent[p] != p:
        parent[p] = parent[parent[p]]
        p = parent[p]
    return p


@_inlined
def _nearer(parent, p):
    """The ancestor of p two steps up, which becomes its parent. It has no branch, so that many run at once."""
    parent[p] = parent[parent[p]]
    return parent[p]


@_inlined
def _join(parent, size, a, b):
    """Join two roots; the one that remains."""
    if size[a] < size[b]:
        a, b = b, a
    parent[b] = a
    size[a] += size[b]
    return a


@_compiled
def _agreed(edges, pixels, width, k):
    """Merge pixels as long as all thresholds from ``k`` up decide alike.

    A segment is open until one of its edges is refused or leads to a segment that is not open. Open segments are the
    same for every larger k, which allows all that a smaller one allows, and so is the decision about an edge that joins
    two of them.

    :param edges: of :func:`sorted_edges`; afterwards it begins with the edges that are left.
    :returns: the parent of each pixel, the size and heaviest edge of each root, and the number of edges left.
    """
    steps = np.array([1, width], np.uint32)
    k = np.float32(k)
    parent = np.arange(pixels).astype(np.uint32)
    size = np.ones(pixels, np.int32)
    heaviest = np.zeros(pixels, np.float32)
    limit = np.full(pixels, k, np.float32)  # heaviest edge allowed; -1, none, for a segment that is not open
    block = np.empty(_BLOCK, np.uint64)
    weights = block.view(np.float32)[1::2]
    first, second = np.empty(_BLOCK, np.uint32), np.empty(_BLOCK, np.uint32)
    total, left = np.uint64(edges.size), np.uint64(0)
    for start in range(np.uint64(0), total, np.uint64(_BLOCK)):
        # A first pass over a block lets many reads of distant memory overlap, and drops most edges within a segment.
        kept = np.uint64(0)
        for i in range(start, min(start + np.uint64(_BLOCK), total)):
            edge = np.uint32(edges[i])
            p = edge >> _ONE
            q = p + steps[edge & _ONE]
            a, b = _nearer(parent, p), _nearer(parent, q)
            block[kept], first[kept], second[kept] = edges[i], a, b
            kept += np.uint64(a != b)
        for i in range(kept):
            a, b = _find(parent, first[i]), _find(parent, second[i])
            if a == b:
                continue
            if weights[i] <= min(limit[a], limit[b]):
                root = _join(parent, size, a, b)
                heaviest[root] = weights[i]
                limit[root] = weights[i] + k / np.float32(size[root])
            else:
                limit[a] = limit[b] = np.float32(-1)
                edges[left] = block[i]
                left += np.uint64(1)
    return parent, size, heaviest, left


@_compiled
def _numbered(parent):
    """Number the roots in the order of their first members.

    :returns: the number of each member, (n,) int32, and the root of each number.
    """
    number = np.full(parent.size, -1, np.int32)
    numbers, roots = np.empty(parent.size, np.int32), np.empty(parent.size, np.uint32)
    count = np.int32(0)
    for p in range(np.uint32(parent.size)):
        root = _find(parent, p)
        if number[root] < 0:
            number[root], roots[count] = count, root
            count += np.int32(1)
        numbers[p] = number[root]
    return numbers, roots[:count].copy()


@_compiled
def _between(edges, pieces, width):
    """(n, 2) uint32 pieces that edges connect and (n,) float32 weights, without edges within a piece."""
    steps = np.array([1, width], np.uint32)
    ends, weights = np.empty((edges.size, 2), np.uint32), np.empty(edges.size, np.float32)
    bits = weights.view(np.uint32)
    kept = np.uint64(0)
    for edge in edges:
        p = np.uint32(edge) >> _ONE
        a, b = pieces[p], pieces[p + steps[np.uint32(edge) & _ONE]]
        ends[kept, 0], ends[kept, 1], bits[kept] = a, b, np.uint32(edge >> np.uint64(32))
        kept += np.uint64(a != b)
    return ends[:kept], weights[:kept]


@_compiled
def _merged(ends, weights, size, heaviest, k):
    """The segmentation of one threshold, from pieces: (pieces,) int32 labels, numbered in order of appearance."""
    size = size.copy()
    k = np.float32(k)
    parent = np.arange(size.size).astype(np.uint32)
    limit = np.empty(size.size, np.float32)
    for p in range(size.size):
        limit[p] = heaviest[p] + k / np.float32(size[p])
    refused = np.empty((weights.size, 2), np.uint32)
    left = np.uint64(0)
    first, second, weight = np.empty(_BLOCK, np.uint32), np.empty(_BLOCK, np.uint32), np.empty(_BLOCK, np.float32)
    total = np.uint64(weights.size)
    for start in range(np.uint64(0), total, np.uint64(_BLOCK)):
        kept = np.uint64(0)
        for i in range(start, min(start + np.uint64(_BLOCK), total)):
            a, b = _nearer(parent, ends[i, 0]), _nearer(parent, ends[i, 1])
            first[kept], second[kept], weight[kept] = a, b, weights[i]
            kept += np.uint64(a != b)
        for i in range(kept):
            a, b = _find(parent, first[i]), _find(parent, second[i])
            if a == b:
                continue
            if weight[i] <= min(limit[a], limit[b]):
                root = _join(parent, size, a, b)
                limit[root] = weight[i] + k / np.float32(size[root])
            else:
                refused[left, 0], refused[left, 1] = a, b
                left += np.uint64(1)
    for start in range(np.uint64(0), left, np.uint64(_BLOCK)):
        kept = np.uint64(0)
        for i in range(start, min(start + np.uint64(_BLOCK), left)):
            a, b = _nearer(parent, refused[i, 0]), _nearer(parent, refused[i, 1])
            first[kept], second[kept] = a, b
            kept += np.uint64((a != b) & (min(size[a], size[b]) < MIN_SIZE))  # sizes only grow
        for i in range(kept):
            a, b = _find(parent, first[i]), _find(parent, second[i])
            if a != b and min(size[a], size[b]) < MIN_SIZE:
                _join(parent, size, a, b)
    return _numbered(parent)[0]


def _meet(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(thresholds, pieces) labels -> (pieces,) int32, equal where all labels are, numbered as they appear; and the
    first piece of each number.
    """
    code = labels[0].astype(np.int64)
    for other in labels[1:]:
        _, code = np.unique(code * (other.max() + 1) + other, return_inverse=True)
    _, first, code = np.unique(code, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int32)[code], np.sort(first)


def segment(edges: np.ndarray, height: int, width: int, thresholds) -> tuple[np.ndarray, list[np.ndarray]]:
    """Segmentations by several thresholds, as one map of fragments, which no segmentation divides, and their labels.

    :param edges: of :func:`sorted_edges`; overwritten.
    :param thresholds: values of k, how different from its surroundings a segment must be; larger k, larger segments.
    :returns: (H, W) int32 fragments, and for each threshold (fragments,) int32 labels. Both are numbered in the order
        in which they appear, row by row.
    """
    parent, size, heaviest, left = _agreed(edges, height * width, width, min(thresholds))
    edges = edges[:left].copy()  # all edges of a photograph take as much memory as all that follows
    pieces, roots = _numbered(parent)
    del parent
    size, heaviest = size[roots], heaviest[roots]
    ends, weights = _between(edges, pieces, width)
    labels = np.stack([_merged(ends, weights, size, heaviest, k) for k in thresholds])
    fragment, first = _meet(labels)
    return np.take(fragment, pieces).reshape(height, width), list(labels[:, first])
