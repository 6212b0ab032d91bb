"""Histograms of colour and texture of each segment, equal to those of OpenCV's Selective Search.

Pixels are counted once, by fragment. A segment of any label map consists of fragments, whose counts are added.
"""

import cv2
import numpy as np

from proseco.base.machine_code import compiler
from proseco.proposals import _gradients
from proseco.proposals._gradients import CODES, COLOUR_BINS, COUNTS, DIRECTIONS, TEXTURE_BINS, TILE
from proseco.proposals._turning import turn

_compiled = compiler(__file__)
_inlined = compiler(__file__, inline="always")

#: Bin of each byte value, as calcHist chooses it.
_COLOUR_BIN = np.floor(np.arange(256) * (COLOUR_BINS / 256)).astype(np.uint32)


def _scale(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Factors and summands that bring low..high to 0..255, as OpenCV's convertTo does: (2, 4, 4) float32."""
    low, span = low.astype(np.float64), high.astype(np.float64) - low
    flat = span == 0  # OpenCV divides by zero, and casts the result to 0
    span[flat] = 1
    return np.where(flat, 0, np.stack([255 / span, -255 * low / span])).astype(np.float32)


def count(image: np.ndarray, fragments: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Count pixels, for :func:`histograms`.

    :param image: (H, W) or (H, W, 3) uint8.
    :param fragments: (H, W) int32, 0 to ``number`` - 1.
    :returns: (number, planes * COUNTS) uint32 counts, and the bins of a derivative of 0.
    """
    planes = 1 if image.ndim == 2 else image.shape[2]
    view = turn(cv2.cvtColor(image, cv2.COLOR_GRAY2BGRA if planes == 1 else cv2.COLOR_BGR2BGRA))
    low, high = _gradients.extremes(view)
    up, down = _scale(np.maximum(low, 0), np.maximum(high, 0)), _scale(np.minimum(low, 0), np.minimum(high, 0))
    rows = [np.tile(scale, TILE) for scale in (up, down)]
    return _gradients.count(view, fragments, number, planes, *rows, _COLOUR_BIN), _gradients.zeros(up, down)


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
                parts[0, zeros[0, d, c]] += negative
                parts[1, zeros[1, d, c]] += positive
                begin = (c * DIRECTIONS + d) * CODES
                texture[r, begin : begin + CODES] = parts.reshape(-1)
        _normalise(colour[r])
        _normalise(texture[r])
    return colour, texture
