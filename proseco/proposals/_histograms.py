"""Histograms of colour and texture of each segment, equal to those of OpenCV's Selective Search.

Pixels are counted once, by fragment. A segment of any label map consists of fragments, whose counts are added.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from proseco.base.machine_code import compiler

_compiled = compiler(__file__)
_fused = compiler(__file__, fastmath={"contract"})  # a product and a sum rounded once, as OpenCV's vector code does
_inlined = compiler(__file__, inline="always")

DIRECTIONS = 4  # 0, 90, 45 and 135 degrees
COLOUR_BINS = 25
TEXTURE_BINS = 10
#: The code under which a derivative is counted: its bin, 0..9, where it is >= 0, else 10 + its bin, 10..19.
CODES = 2 * TEXTURE_BINS
#: Counts per plane of an image: the codes of each direction, then the bins of its colours.
COUNTS = DIRECTIONS * CODES + COLOUR_BINS

#: Bin of each byte value, as calcHist chooses it.
_COLOUR_BIN = np.floor(np.arange(256) * (COLOUR_BINS / 256)).astype(np.uint32)


def _derivatives(planes: Sequence[np.ndarray]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Number of plane, direction and derivatives (H, W) float32 of planes (H, W) uint8. Memory is used again.

    For the diagonals OpenCV's Selective Search turns a plane by 45 degrees, derives along the axes and turns back.
    """
    height, width = planes[0].shape
    centre = (width / 2, height / 2)
    _, _, wide, high = cv2.RotatedRect(centre, (width, height), 45).boundingRect()
    forth = cv2.getRotationMatrix2D(centre, 45, 1)
    forth[:, 2] += (wide / 2 - centre[0], high / 2 - centre[1])
    back = cv2.getRotationMatrix2D((wide // 2, high // 2), -45, 1)
    x, y = max(0, (wide - width) // 2), max(0, (high - height) // 2)
    # OpenCV turns back all rows, of which those below are not used. A column rounds by its place in its line.
    frame = max(wide, x + width), y + height
    turned, derived = np.empty((high, wide), np.uint8), np.empty((high, wide), np.float32)
    whole, found = np.empty(frame[::-1], np.float32), np.empty((height, width), np.float32)
    for c, plane in enumerate(planes):
        cv2.warpAffine(plane, forth, (wide, high), dst=turned)
        for axis in range(2):
            yield c, axis, cv2.Scharr(plane, cv2.CV_32F, 1 - axis, axis, dst=found)
            cv2.Scharr(turned, cv2.CV_32F, 1 - axis, axis, dst=derived)
            cv2.warpAffine(derived, back, frame, dst=whole)
            found[:] = whole[y : y + height, x : x + width]
            yield c, 2 + axis, found


def _scale(low: float, high: float) -> tuple[np.float32, np.float32]:
    """Factor and summand that bring low..high to 0..255, as OpenCV's convertTo does."""
    span = high - low  # where it is 0, OpenCV divides by it, and casts the result to 0
    return (np.float32(255 / span), np.float32(-255 * low / span)) if span else (np.float32(0), np.float32(0))


@_inlined
def _bin(value, scale):
    """Bin of a derivative: it is scaled to a byte, as OpenCV does."""
    byte = np.rint(value * scale[0] + scale[1])
    byte = min(max(byte, np.float32(0)), np.float32(255))
    return np.uint8(byte / np.float32(256 / TEXTURE_BINS))


@_fused
def _tally(derivative, fragments, up, down, counts):
    """Add the codes of derivatives (H, W) to the counts (number, CODES) of their fragments.

    :param up, down: of :func:`_scale`, for derivatives >= 0 and for the others.
    :returns: bins of a derivative of 0, among the positive and among the negative parts.
    """
    height, width = derivative.shape
    codes = np.empty(width, np.uint8)
    for y in range(height):
        line, regions = derivative[y], fragments[y]
        for x in range(width):
            positive, negative = _bin(line[x], up), _bin(line[x], down)
            codes[x] = positive if line[x] >= 0 else np.uint8(negative + np.uint8(TEXTURE_BINS))
        for x in range(np.uint64(width)):
            counts[np.uint64(regions[x]), np.uint64(codes[x])] += np.uint32(1)
    return _bin(np.float32(0), up), _bin(np.float32(0), down)


@_compiled
def _tally_colours(plane, fragments, bins, counts):
    """Add the bins of a plane's pixels to the counts (number, COLOUR_BINS) of their fragments."""
    for y in range(plane.shape[0]):
        values, regions = plane[y], fragments[y]
        for x in range(np.uint64(values.size)):
            counts[np.uint64(regions[x]), bins[values[x]]] += np.uint32(1)


def count(image: np.ndarray, fragments: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Count pixels, for :func:`histograms`.

    :param image: (H, W) or (H, W, 3) uint8.
    :param fragments: (H, W) int32, 0 to ``number`` - 1.
    :returns: (number, planes * COUNTS) uint32 counts, and (planes, DIRECTIONS, 2) the bins of a derivative of 0.
    """
    planes = cv2.split(image)
    counts = np.zeros((number, len(planes), COUNTS), np.uint32)
    zeros = np.empty((len(planes), DIRECTIONS, 2), np.int64)
    for c, d, derivative in _derivatives(planes):
        low, high, _, _ = cv2.minMaxLoc(derivative)
        up, down = _scale(max(low, 0), max(high, 0)), _scale(min(low, 0), min(high, 0))
        zeros[c, d] = _tally(derivative, fragments, up, down, counts[:, c, d * CODES : (d + 1) * CODES])
    for c, plane in enumerate(planes):
        _tally_colours(plane, fragments, _COLOUR_BIN, counts[:, c, DIRECTIONS * CODES :])
    return counts.reshape(number, -1), zeros


@_inlined
def _normalise(row):
    """Counts -> shares, in place. The sum is taken in float and in order, as by OpenCV."""
    total = np.float32(0)
    for value in row:
        total += value
    for i in range(row.size):
        row[i] /= total


@_compiled
def histograms(counts, zeros, labels, segments):
    """Histograms of the segments of a label map, float32; each row sums to 1.

    Textures are derivatives along four directions, with positive and negative parts apart, each stretched to 0..255
    over the image. A derivative >= 0 counts as 0 among the negative parts, a negative one as 0 among the positive.

    :param counts, zeros: of :func:`count`.
    :param labels: (fragments,) int32, 0 to ``segments`` - 1.
    :returns: (segments, planes * 25) colours and (segments, planes * 8 * 10) textures.
    """
    planes = counts.shape[1] // COUNTS
    sums = np.zeros((segments, counts.shape[1]), np.uint32)
    for f in range(labels.size):
        fragment, segment = counts[f], sums[labels[f]]
        for i in range(fragment.size):
            segment[i] += fragment[i]
    colour = np.empty((segments, planes * COLOUR_BINS), np.float32)
    texture = np.empty((segments, planes * DIRECTIONS * 2 * TEXTURE_BINS), np.float32)
    parts = np.zeros((2, TEXTURE_BINS), np.uint32)
    for r in range(segments):
        for c in range(planes):
            plane = sums[r, c * COUNTS : (c + 1) * COUNTS]
            colour[r, c * COLOUR_BINS : (c + 1) * COLOUR_BINS] = plane[DIRECTIONS * CODES :]
            for d in range(DIRECTIONS):
                parts[0] = plane[d * CODES : d * CODES + TEXTURE_BINS]
                parts[1] = plane[d * CODES + TEXTURE_BINS : (d + 1) * CODES]
                positive, negative = parts[0].sum(), parts[1].sum()
                parts[0, zeros[c, d, 0]] += negative
                parts[1, zeros[c, d, 1]] += positive
                begin = (c * DIRECTIONS + d) * CODES
                texture[r, begin : begin + CODES] = parts.reshape(-1)
        _normalise(colour[r])
        _normalise(texture[r])
    return colour, texture
