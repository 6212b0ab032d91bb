"""Derivatives of an image along four directions, tile by tile, with the bits of OpenCV's Scharr and warpAffine.

OpenCV's Selective Search takes the two diagonal ones by turning the image by 45 degrees, deriving along its axes and
turning the whole of both results back, plane by plane. Here all planes are turned at once, a pixel's values lying side
by side, and of the turned image only what a tile needs is derived and turned back: that stays in the cache, and a
photograph needs no more memory than a small picture.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numba import njit

from proseco.proposals._vectors import LANES, blend, fma

DIRECTIONS = 4  # 0, 90, 45 and 135 degrees
TILE = 64  # pixels
_SPAN = 2 * TILE  # no less than a tile's diagonal and what interpolation and Scharr need around it


class Turned(NamedTuple):
    """An image and what it looks like turned by 45 degrees."""

    image: np.ndarray  # (H, W * 4) uint8, a pixel's planes side by side
    turned: np.ndarray  # (h, w * 4) uint8
    back: np.ndarray  # (2, 3) float32: from a pixel of the frame that is turned back to one of the turned image
    corner: np.ndarray  # (2,) int64 column and row of that frame at which the image begins
    even: int  # columns of the frame that OpenCV takes in whole vectors; what is left it rounds otherwise


def turn(image: np.ndarray) -> Turned:
    """
    :param image: (H, W, 4) uint8.
    """
    height, width = image.shape[:2]
    centre = (width / 2, height / 2)
    _, _, wide, high = cv2.RotatedRect(centre, (width, height), 45).boundingRect()
    there = cv2.getRotationMatrix2D(centre, 45, 1)
    there[:, 2] += (wide / 2 - centre[0], high / 2 - centre[1])
    turned = cv2.warpAffine(image, there, (wide, high))
    back = cv2.invertAffineTransform(cv2.getRotationMatrix2D((wide // 2, high // 2), -45, 1))
    corner = np.array([max(0, (wide - width) // 2), max(0, (high - height) // 2)])
    frame = max(wide, corner[0] + width)  # a narrow image is longer than its turned frame
    return Turned(
        image.reshape(height, -1), turned.reshape(high, -1), back.astype(np.float32), corner, frame // 16 * 16
    )


@njit(cache=True, nogil=True)
def _scharr(image, y, first, last, along_x, along_y, smooth, steep):
    """Derivatives of columns ``first`` to ``last`` - 1 of row y; outside of the image they are 0."""
    height, width = image.shape[0], image.shape[1] // LANES
    along_x[: LANES * (last - first)] = 0
    along_y[: LANES * (last - first)] = 0
    left, right = max(first, 0), min(last, width)
    if not 0 <= y < height or left >= right:
        return
    begin, end = LANES * max(left - 1, 0), LANES * min(right + 1, width)
    # Beyond the border lies the row or column before it (BORDER_REFLECT_101).
    above = image[y - 1 if y > 0 else min(1, height - 1), begin:end]
    here = image[y, begin:end]
    below = image[y + 1 if y + 1 < height else max(height - 2, 0), begin:end]
    place = begin - LANES * (left - 1)
    s, t = smooth[place:], steep[place:]
    for i in range(here.size):
        s[i] = 3 * (np.int32(above[i]) + np.int32(below[i])) + 10 * np.int32(here[i])
        t[i] = np.int32(below[i]) - np.int32(above[i])
    end = LANES * (right - left + 1)  # of the columns left - 1 to right in ``smooth`` and ``steep`` the place of the last
    for i in range(LANES):
        if left == 0:
            source = (2 * LANES if width > 1 else LANES) + i
            smooth[i], steep[i] = smooth[source], steep[source]
        if right == width:
            source = (end - 2 * LANES if width > 1 else LANES) + i
            smooth[end + i], steep[end + i] = smooth[source], steep[source]
    to_x, to_y = along_x[LANES * (left - first) :], along_y[LANES * (left - first) :]
    for i in range(LANES * (right - left)):
        to_x[i] = smooth[i + 2 * LANES] - smooth[i]
    for i in range(LANES * (right - left)):
        to_y[i] = 3 * (steep[i] + steep[i + 2 * LANES]) + 10 * steep[i + LANES]


@njit(cache=True, nogil=True)
def _origins(back, corner, even, y, x0, columns, left, top, row, place, right, lower):
    """Where the pixels of a row come from: place of the pixel above left, and the shares of its right and lower ones.

    Coordinates are floats, rounded where OpenCV rounds.
    """
    first, v = corner[0] + x0, np.float32(corner[1] + y)
    a, b, c = back[0, 0], v * back[0, 1], back[0, 2]
    d, e, f = back[1, 0], v * back[1, 1], back[1, 2]
    for x in range(columns):
        u = np.float32(first + x)
        whole = first + x < even
        sx = fma(u, a, b + c) if whole else fma(u, a, b) + c
        sy = fma(u, d, e + f) if whole else fma(u, d, e) + f
        fx, fy = np.floor(sx), np.floor(sy)
        right[x], lower[x] = sx - fx, sy - fy
        place[x] = (np.int32(fy) - top) * row + (np.int32(fx) - left) * LANES


@njit(cache=True, nogil=True)
def scratch():
    """Room for :func:`derive`."""
    line = LANES * (_SPAN + 2)
    return np.empty((2, LANES * _SPAN * _SPAN), np.float32), np.empty(line, np.int32), np.empty(line, np.int32)


@njit(cache=True, nogil=True)
def derive(view, y0, x0, rows, columns, room, out):
    """The derivatives of a tile.

    :param view: of :func:`turn`.
    :param room: of :func:`scratch`.
    :param out: (4, TILE, TILE * 4) float32: direction, row, column and plane.
    """
    image, turned, back, corner, even = view
    planes, smooth, steep = room
    for y in range(rows):
        _scharr(image, y0 + y, x0, x0 + columns, out[0, y], out[1, y], smooth, steep)
    # The corners of the tile bound where its pixels come from; a pixel more on each side, as they are rounded otherwise.
    xs, ys = np.empty(4, np.float32), np.empty(4, np.float32)
    for n in range(4):
        u, v = corner[0] + x0 + (n & 1) * (columns - 1), corner[1] + y0 + (n >> 1) * (rows - 1)
        xs[n] = back[0, 0] * u + back[0, 1] * v + back[0, 2]
        ys[n] = back[1, 0] * u + back[1, 1] * v + back[1, 2]
    left, top = np.int64(np.floor(xs.min())) - 1, np.int64(np.floor(ys.min())) - 1
    wide, high = np.int64(np.floor(xs.max())) + 3 - left, np.int64(np.floor(ys.max())) + 3 - top
    row = LANES * wide
    for y in range(high):
        begin, end = y * row, (y + 1) * row
        _scharr(turned, top + y, left, left + wide, planes[0, begin:end], planes[1, begin:end], smooth, steep)
    place, right, lower = np.empty(TILE, np.uint32), np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for y in range(rows):
        _origins(back, corner, even, y0 + y, x0, columns, left, top, row, place, right, lower)
        for direction in range(2):
            plane, line = planes[direction], out[2 + direction, y]
            for x in range(np.uint64(columns)):
                above = np.uint64(place[x])
                blend(plane, above, above + np.uint64(row), right[x], lower[x], line, x * np.uint64(LANES))
