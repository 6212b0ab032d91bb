"""Histograms of colour and texture of each segment, as OpenCV's Selective Search has them.

Pixels are counted once, by fragment; a segment of any of the label maps is some fragments, whose counts add up.
"""

import cv2
import numpy as np
from numba import njit

from proseco.proposals import _gradients
from proseco.proposals._gradients import DIRECTIONS, TILE
from proseco.proposals._vectors import LANES, fma

COLOUR_BINS = 25
TEXTURE_BINS = 10
#: Bin of each byte, as calcHist has it.
_COLOUR_BIN = np.floor(np.arange(256) * (COLOUR_BINS / 256)).astype(np.uint32)
#: A derivative is counted as 0..9, its bin, where it is >= 0, and as 10..19, 10 + its bin, where it is negative.
_CODES = 2 * TEXTURE_BINS
#: Counts of each plane of an image: the codes of each direction, then the bins of its colours.
_COUNTS = DIRECTIONS * _CODES + COLOUR_BINS


@njit(cache=True, nogil=True)
def _extremes(view):
    """Lowest and highest derivative of each direction and plane, (4, 4) float32 each."""
    height, width = view.image.shape[0], view.image.shape[1] // LANES
    low = np.full((DIRECTIONS, TILE * LANES), np.float32(np.inf))
    high = np.full((DIRECTIONS, TILE * LANES), -np.float32(np.inf))
    room, derivatives = _gradients.scratch(), np.empty((DIRECTIONS, TILE, TILE * LANES), np.float32)
    for y0 in range(0, height, TILE):
        for x0 in range(0, width, TILE):
            rows, columns = min(TILE, height - y0), min(TILE, width - x0)
            _gradients.derive(view, y0, x0, rows, columns, room, derivatives)
            for direction in range(DIRECTIONS):
                least, most = low[direction], high[direction]
                for y in range(rows):
                    line = derivatives[direction, y]
                    for i in range(columns * LANES):
                        least[i] = line[i] if line[i] < least[i] else least[i]
                        most[i] = line[i] if line[i] > most[i] else most[i]
    for i in range(LANES, TILE * LANES):
        for direction in range(DIRECTIONS):
            low[direction, i % LANES] = min(low[direction, i % LANES], low[direction, i])
            high[direction, i % LANES] = max(high[direction, i % LANES], high[direction, i])
    return low[:, :LANES], high[:, :LANES]


def _scale(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Factor and summand that bring low..high to 0..255, as OpenCV's convertTo has them: (2, 4, 4) float32."""
    low, span = low.astype(np.float64), high.astype(np.float64) - low
    flat = span == 0  # OpenCV divides by zero, and the cast of what comes out is 0
    span[flat] = 1
    return np.where(flat, 0, np.stack([255 / span, -255 * low / span])).astype(np.float32)


@njit(cache=True, nogil=True, inline="always")
def _bin(value, factor, summand):
    byte = np.rint(fma(value, factor, summand))
    byte = min(max(byte, np.float32(0)), np.float32(255))
    return np.uint8(byte / np.float32(256 / TEXTURE_BINS))


@njit(cache=True, nogil=True)
def _code(line, up, down, codes):
    """Codes of a row of derivatives; ``up`` and ``down`` (2, n): factors and summands of those >= 0 and of the others."""
    up_factor, up_summand, down_factor, down_summand = up[0], up[1], down[0], down[1]
    for i in range(codes.size):
        positive, negative = _bin(line[i], up_factor[i], up_summand[i]), _bin(line[i], down_factor[i], down_summand[i])
        codes[i] = positive if line[i] >= 0 else np.uint8(negative + np.uint8(TEXTURE_BINS))


@njit(cache=True, nogil=True)
def _count(view, fragments, count, planes, up, down, bins):
    """(count, planes * 105) uint32.

    :param up: and ``down``: (2, 4, TILE * 4) float32, factors and summands of each direction, along a row of a tile.
    """
    height, width = fragments.shape
    counts = np.zeros((count, planes * _COUNTS), np.uint32)
    flat = counts.reshape(-1)
    room, derivatives = _gradients.scratch(), np.empty((DIRECTIONS, TILE, TILE * LANES), np.float32)
    codes = np.empty((DIRECTIONS, TILE * LANES), np.uint8)
    one, lanes, codes_each = np.uint32(1), np.uint64(LANES), np.uint64(_CODES)
    for y0 in range(0, height, TILE):
        for x0 in range(0, width, TILE):
            rows, columns = min(TILE, height - y0), min(TILE, width - x0)
            _gradients.derive(view, y0, x0, rows, columns, room, derivatives)
            for y in range(rows):
                for d in range(DIRECTIONS):
                    line = codes[d, : columns * LANES]
                    _code(derivatives[d, y], up[:, d], down[:, d], line)
                regions, pixels = fragments[y0 + y, x0:], view.image[y0 + y, x0 * LANES :]
                for x in range(np.uint64(columns)):
                    at = np.uint64(regions[x]) * np.uint64(planes * _COUNTS)
                    for c in range(np.uint64(planes)):
                        i = x * lanes + c
                        for d in range(np.uint64(DIRECTIONS)):
                            flat[at + d * codes_each + codes[d, i]] += one
                        flat[at + np.uint64(DIRECTIONS) * codes_each + bins[pixels[i]]] += one
                        at += np.uint64(_COUNTS)
    return counts


@njit(cache=True, nogil=True)
def _zeros(up, down):
    """Bins of a derivative of 0, (2, 4, 4): in the histogram of the positive ones and in that of the negative ones."""
    bins = np.empty((2, DIRECTIONS, LANES), np.int64)
    for d in range(DIRECTIONS):
        for c in range(LANES):
            bins[0, d, c] = _bin(np.float32(0), up[0, d, c], up[1, d, c])
            bins[1, d, c] = _bin(np.float32(0), down[0, d, c], down[1, d, c])
    return bins


def count(image: np.ndarray, fragments: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`histograms` are made of.

    :param image: (H, W) or (H, W, 3) uint8.
    :param fragments: (H, W) int32, 0 to ``number`` - 1.
    :returns: (number, planes * 105) uint32 counts, and the bins of a derivative of 0.
    """
    planes = 1 if image.ndim == 2 else image.shape[2]
    view = _gradients.turn(cv2.cvtColor(image, cv2.COLOR_GRAY2BGRA if planes == 1 else cv2.COLOR_BGR2BGRA))
    low, high = _extremes(view)
    up, down = _scale(np.maximum(low, 0), np.maximum(high, 0)), _scale(np.minimum(low, 0), np.minimum(high, 0))
    rows = [np.tile(scale, TILE) for scale in (up, down)]
    return _count(view, fragments, number, planes, *rows, _COLOUR_BIN), _zeros(up, down)


@njit(cache=True, nogil=True)
def _normalise(row):
    """Counts to shares; their sum is taken in float and in order, as OpenCV's."""
    total = np.float32(0)
    for value in row:
        total += value
    for i in range(row.size):
        row[i] /= total


@njit(cache=True, nogil=True)
def histograms(counts, zeros, labels, segments):
    """Of each segment of a label map, float32, each row sums to 1.

    Textures are the derivatives along four directions, positive and negative parts apart, each stretched to 0..255 over
    the image; a derivative >= 0 is 0 in the map of the negative ones, and the other way round.

    :param counts: and ``zeros``: of :func:`count`.
    :param labels: (fragments,) int32, 0 to ``segments`` - 1.
    :returns: (segments, planes * 25) colours and (segments, planes * 8 * 10) textures.
    """
    planes = counts.shape[1] // _COUNTS
    sums = np.zeros((segments, counts.shape[1]), np.uint32)
    for f in range(labels.size):
        here, there = counts[f], sums[labels[f]]
        for i in range(here.size):
            there[i] += here[i]
    colour = np.empty((segments, planes * COLOUR_BINS), np.float32)
    texture = np.empty((segments, planes * DIRECTIONS * 2 * TEXTURE_BINS), np.float32)
    parts = np.zeros((2, TEXTURE_BINS), np.uint32)
    for r in range(segments):
        for c in range(planes):
            of = sums[r, c * _COUNTS : (c + 1) * _COUNTS]
            colour[r, c * COLOUR_BINS : (c + 1) * COLOUR_BINS] = of[DIRECTIONS * _CODES :]
            for d in range(DIRECTIONS):
                parts[0] = of[d * _CODES : d * _CODES + TEXTURE_BINS]
                parts[1] = of[d * _CODES + TEXTURE_BINS : (d + 1) * _CODES]
                positive, negative = parts[0].sum(), parts[1].sum()
                parts[0, zeros[0, d, c]] += negative
                parts[1, zeros[1, d, c]] += positive
                begin = (c * DIRECTIONS + d) * _CODES
                texture[r, begin : begin + _CODES] = parts.reshape(-1)
        _normalise(colour[r])
        _normalise(texture[r])
    return colour, texture
