"""What Selective Search knows of each segment: size, box, neighbours, and histograms of colour and texture."""

import cv2
import numpy as np
from numba import njit

COLOUR_BINS = 25
TEXTURE_BINS = 10
DIRECTIONS = 8
#: Bin of each byte, as calcHist has it.
_COLOUR_BIN = np.floor(np.arange(256) * (COLOUR_BINS / 256)).astype(np.uint32)
#: Up to so many segments, neighbours are marked in a table of their pairs; beyond, pairs are sorted.
_TABLE = 2048


@njit(cache=True, nogil=True)
def geometry(labels, count):
    """
    :returns: (count,) int64 sizes in pixels, and (count, 4) int64 boxes: first column and row, last column and row + 1.
    """
    height, width = labels.shape
    size = np.zeros(count, np.int64)
    box = np.empty((count, 4), np.int64)
    box[:, 0], box[:, 1], box[:, 2], box[:, 3] = width, height, 0, 0
    for y in range(height):
        for x in range(width):
            r = labels[y, x]
            size[r] += 1
            box[r, 0] = min(box[r, 0], x)
            box[r, 1] = min(box[r, 1], y)
            box[r, 2] = max(box[r, 2], x + 1)
            box[r, 3] = max(box[r, 3], y + 1)
    return size, box


@njit(cache=True, nogil=True)
def _touching(labels, count):
    """Codes a * count + b, a < b, of labels side by side, above each other or diagonal; many of them repeatedly."""
    height, width = labels.shape
    codes = np.empty(4 * (height + width), np.int64)
    found = 0
    # OpenCV begins at the second row and column: segments that touch along the first alone are no neighbours.
    for y in range(1, height):
        if codes.size - found < 3 * width:
            larger = np.empty(2 * codes.size, np.int64)
            larger[:found] = codes[:found]
            codes = larger
        for x in range(1, width):
            r, left, above, corner = labels[y, x], labels[y, x - 1], labels[y - 1, x], labels[y - 1, x - 1]
            if r == left and r == above and r == corner:
                continue
            for other in (left, above, corner):
                if other != r:
                    codes[found] = np.int64(min(r, other)) * count + max(r, other)
                    found += 1
    return codes[:found]


def neighbours(labels: np.ndarray, count: int) -> np.ndarray:
    """Pairs of labels that touch, (n, 2) int64, the smaller label first, ascending."""
    codes = _touching(labels, count)
    if count <= _TABLE:  # faster than sorting them, while it fits a cache
        table = np.zeros(count * count, np.bool_)
        table[codes] = True
        codes = np.flatnonzero(table)
    else:
        codes = np.unique(codes)
    return np.stack([codes // count, codes % count], 1)


@njit(cache=True, nogil=True)
def _count_colours(plane, labels, bins, counts, channel):
    flat, regions = plane.ravel(), labels.ravel()
    for p in range(flat.size):
        counts[np.uint32(regions[p]), np.uint32(channel), bins[flat[p]]] += 1


@njit(cache=True, nogil=True)
def _normalise(counts):
    """Counts (n, ...) -> float32 (n, bins) that sum to 1, the sum in float as OpenCV's."""
    flat = counts.reshape(counts.shape[0], -1)
    histograms = np.empty(flat.shape, np.float32)
    for r in range(flat.shape[0]):
        total = np.float32(0)
        for i in range(flat.shape[1]):
            total += np.float32(flat[r, i])
        for i in range(flat.shape[1]):
            histograms[r, i] = np.float32(flat[r, i]) / total
    return histograms


def colours(planes: list[np.ndarray], label_maps: list[tuple[np.ndarray, int]]) -> list[np.ndarray]:
    """Colour histograms of each label map: (segments, channels * 25) float32, each row sums to 1."""
    found = []
    for labels, count in label_maps:
        counts = np.zeros((count, len(planes), COLOUR_BINS), np.int64)
        for channel, plane in enumerate(planes):
            _count_colours(plane, labels, _COLOUR_BIN, counts, channel)
        found.append(_normalise(counts))
    return found


def _gradients(plane: np.ndarray):
    """Derivatives along 0, 90, 45 and 135 degrees, float32 of the plane's shape, one at a time."""
    height, width = plane.shape
    yield cv2.Scharr(plane, cv2.CV_32F, 1, 0)
    yield cv2.Scharr(plane, cv2.CV_32F, 0, 1)
    centre = (width / 2, height / 2)
    _, _, wide, high = cv2.RotatedRect(centre, (width, height), 45).boundingRect()
    there = cv2.getRotationMatrix2D(centre, 45, 1)
    there[:, 2] += (wide / 2 - centre[0], high / 2 - centre[1])
    rotated = cv2.warpAffine(plane, there, (wide, high))
    back = cv2.getRotationMatrix2D((wide // 2, high // 2), -45, 1)
    x, y = max(0, (wide - width) // 2), max(0, (high - height) // 2)
    window = (max(wide, x + width), max(high, y + height))  # a narrow image is longer than its turned frame
    for direction in ((1, 0), (0, 1)):
        turned = cv2.warpAffine(cv2.Scharr(rotated, cv2.CV_32F, *direction), back, window)
        yield np.ascontiguousarray(turned[y : y + height, x : x + width])


def _bytes(low: float, high: float) -> tuple[np.float64, np.float64]:
    """Factor and summand that bring low..high to 0..255, as OpenCV's convertTo has them: in float."""
    if high == low:
        return np.float64(0), np.float64(0)  # OpenCV divides by zero, and the cast of what comes out is 0
    return np.float64(np.float32(255 / (high - low))), np.float64(np.float32(-255 * low / (high - low)))


@njit(cache=True, nogil=True, inline="always")
def _bin(value, factor, summand):
    byte = np.rint(np.float32(np.float64(value) * factor + summand))
    byte = min(max(byte, np.float32(0)), np.float32(255))
    return np.uint8(byte / np.float32(256 / TEXTURE_BINS))


@njit(cache=True, nogil=True)
def _codes(gradient, up, down):
    """One byte a pixel for two histograms: 0..9, bin of a derivative >= 0; 10..19, 10 + bin of a negative one."""
    flat = gradient.ravel()
    codes = np.empty(flat.size, np.uint8)
    for p in range(flat.size):
        positive = flat[p] >= 0
        factor, summand = up[0] if positive else down[0], up[1] if positive else down[1]
        codes[p] = _bin(flat[p], factor, summand) + np.uint8(0 if positive else TEXTURE_BINS)
    return codes


@njit(cache=True, nogil=True)
def _count_codes(codes, labels, counts, direction, zero_up, zero_down):
    regions = labels.ravel()
    flat = np.zeros(counts.shape[0] * 20, np.int32)
    for p in range(codes.size):
        flat[np.uint32(regions[p]) * np.uint32(20) + np.uint32(codes[p])] += np.int32(1)
    local = flat.reshape(-1, 20)
    for r in range(counts.shape[0]):
        for i in range(10):
            # A derivative >= 0 is 0 in the map of the negative ones, and the other way round.
            counts[r, direction, i] += local[r, i]
            counts[r, direction + 1, zero_down] += local[r, i]
            counts[r, direction + 1, i] += local[r, 10 + i]
            counts[r, direction, zero_up] += local[r, 10 + i]


def textures(planes: list[np.ndarray], label_maps: list[tuple[np.ndarray, int]]) -> list[np.ndarray]:
    """Texture histograms of each label map: (segments, channels * 8 * 10) float32, each row sums to 1.

    The derivatives along four directions, positive and negative parts apart, each stretched to 0..255 over the image.
    """
    counts = [np.zeros((count, len(planes) * DIRECTIONS, TEXTURE_BINS), np.int64) for _, count in label_maps]
    for channel, plane in enumerate(planes):
        for number, gradient in enumerate(_gradients(plane)):
            low, high, _, _ = cv2.minMaxLoc(gradient)
            up, down = _bytes(max(low, 0), max(high, 0)), _bytes(min(low, 0), min(high, 0))
            codes = _codes(gradient, up, down)
            zero_up, zero_down = _bin(np.float32(0), *up), _bin(np.float32(0), *down)
            for (labels, _), table in zip(label_maps, counts, strict=True):
                _count_codes(codes, labels, table, channel * DIRECTIONS + 2 * number, zero_up, zero_down)
    return [_normalise(table) for table in counts]
