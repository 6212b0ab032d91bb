"""Size, bounding box and neighbours of each segment."""

import numpy as np

from proseco.base.machine_code import compiler

_compiled = compiler(__file__)

_RECENT = 8  # a power of 2


@_compiled
def geometry(labels, count):
    """Sizes and boxes of the segments in a map of labels 0 to ``count`` - 1.

    :returns: (count,) int64 pixels; (count, 4) int64 boxes xyxy, the far edges exclusive.
    """
    height, width = labels.shape
    size = np.zeros(count, np.int64)
    box = np.empty((count, 4), np.int64)
    box[:, 0], box[:, 1], box[:, 2], box[:, 3] = width, height, 0, 0
    for y in range(height):
        row, begin = labels[y], 0
        for x in range(1, width + 1):
            if x < width and row[x] == row[begin]:
                continue
            r = row[begin]
            size[r] += x - begin
            box[r, 0], box[r, 1] = min(box[r, 0], begin), min(box[r, 1], y)
            box[r, 2], box[r, 3] = max(box[r, 2], x), y + 1
            begin = x
    return size, box


@_compiled
def gather(size, box, labels, segments):
    """:func:`geometry` of the segments of a label map, from that of its fragments.

    :param labels: (fragments,) int32, the segment of each fragment.
    """
    sizes = np.zeros(segments, np.int64)
    boxes = np.empty((segments, 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = np.iinfo(np.int64).max, 0
    for f in range(labels.size):
        r = labels[f]
        sizes[r] += size[f]
        for c in range(2):
            boxes[r, c] = min(boxes[r, c], box[f, c])
            boxes[r, 2 + c] = max(boxes[r, 2 + c], box[f, 2 + c])
    return sizes, boxes


@_compiled
def _touching(labels, count):
    """Codes a * count + b of labels a < b that touch, also diagonally; a code may come more than once."""
    height, width = labels.shape
    codes = np.empty(4 * (height + width), np.int64)
    # A border is met pixel after pixel; what was met lately is not written down again.
    recent = np.full((count, _RECENT), -1, np.int32)
    used = 0
    # OpenCV begins at the second row and column: segments that touch along the first alone are no neighbours.
    for y in range(1, height):
        if codes.size - used < 3 * width:
            larger = np.empty(2 * codes.size, np.int64)
            larger[:used] = codes[:used]
            codes = larger
        row, before = labels[y], labels[y - 1]
        for x in range(1, width):
            r, left, above, corner = row[x], row[x - 1], before[x], before[x - 1]
            if r == left and r == above and r == corner:
                continue
            for other in (left, above, corner):
                slot = other & (_RECENT - 1)
                if other != r and recent[r, slot] != other:
                    recent[r, slot] = other
                    codes[used] = np.int64(min(r, other)) * count + max(r, other)
                    used += 1
    return codes[:used]


def neighbours(labels: np.ndarray, count: int) -> np.ndarray:
    """Pairs of labels that touch, (n, 2) int64, ascending, the smaller label of a pair first."""
    return _pairs(_touching(labels, count), count)


def gather_neighbours(pairs: np.ndarray, labels: np.ndarray, segments: int) -> np.ndarray:
    """:func:`neighbours` among the segments of a label map, from those among its fragments.

    :param labels: (fragments,) int32, the segment of each fragment.
    """
    a, b = labels[pairs].T.astype(np.int64)
    apart = a != b
    return _pairs((np.minimum(a, b) * segments + np.maximum(a, b))[apart], segments)


def _pairs(codes: np.ndarray, count: int) -> np.ndarray:
    """Codes a * count + b -> distinct pairs (a, b), (n, 2), ascending."""
    return np.stack(np.divmod(np.unique(codes), count), 1)
