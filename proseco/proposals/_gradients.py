"""Derivatives of an image along four directions, and what Selective Search counts of them, tile by tile.

Derivatives equal those of OpenCV's Scharr and warpAffine bit for bit. For the two diagonal ones OpenCV's Selective
Search turns the image by 45 degrees, takes derivatives along the axes and turns both results back, plane by plane. Here
all planes are turned at once, with a pixel's values side by side, and only the part of the turned image that a tile
needs is derived and turned back: it stays in the cache, and a photograph needs no more memory than a small picture.
"""

import numpy as np

from proseco.base.machine_code import compiler
from proseco.proposals._vectors import LANES, blend, fma

_compiled = compiler(__file__)
_inlined = compiler(__file__, inline="always")

DIRECTIONS = 4  # 0, 90, 45 and 135 degrees
COLOUR_BINS = 25
TEXTURE_BINS = 10
#: The code under which a derivative is counted: its bin, 0..9, where it is >= 0, else 10 + its bin, 10..19.
CODES = 2 * TEXTURE_BINS
#: Counts per plane of an image: the codes of each direction, then the bins of its colours.
COUNTS = DIRECTIONS * CODES + COLOUR_BINS
TILE = 64  # pixels
_SPAN = 2 * TILE  # at least a tile's diagonal and what interpolation and Scharr need around it


@_compiled
def _scharr(image, y, first, last, along_x, along_y, smooth, steep):
    """Derivatives in columns ``first`` to ``last`` - 1 of row y; outside the image they are 0.

    :param along_x, along_y: results, LANES per column.
    :param smooth, steep: scratch memory.
    """
    height, width = image.shape[0], image.shape[1] // LANES
    along_x[: LANES * (last - first)] = 0
    along_y[: LANES * (last - first)] = 0
    left, right = max(first, 0), min(last, width)
    if not 0 <= y < height or left >= right:
        return
    begin, end = LANES * max(left - 1, 0), LANES * min(right + 1, width)
    # The border is mirrored (BORDER_REFLECT_101).
    above = image[y - 1 if y > 0 else min(1, height - 1), begin:end]
    here = image[y, begin:end]
    below = image[y + 1 if y + 1 < height else max(height - 2, 0), begin:end]
    place = begin - LANES * (left - 1)
    s, t = smooth[place:], steep[place:]
    for i in range(here.size):
        s[i] = 3 * (np.int32(above[i]) + np.int32(below[i])) + 10 * np.int32(here[i])
        t[i] = np.int32(below[i]) - np.int32(above[i])
    end = LANES * (right - left + 1)  # place of column ``right``; that of ``left`` - 1 is 0
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


@_compiled
def _origins(back, corner, even, y, x0, columns, left, top, row, place, right, lower):
    """Where the pixels of a row come from: the place of the upper left pixel, the shares of the right and lower ones.

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


@_compiled
def _scratch():
    """Scratch memory for :func:`_derive`."""
    line = LANES * (_SPAN + 2)
    return np.empty((2, LANES * _SPAN * _SPAN), np.float32), np.empty(line, np.int32), np.empty(line, np.int32)


@_compiled
def _derive(view, y0, x0, rows, columns, room, out):
    """The derivatives of a tile.

    :param view: of :func:`turn`.
    :param room: of :func:`_scratch`.
    :param out: (4, TILE, TILE * 4) float32: direction, row, column and plane.
    """
    image, turned, back, corner, even = view
    planes, smooth, steep = room
    for y in range(rows):
        _scharr(image, y0 + y, x0, x0 + columns, out[0, y], out[1, y], smooth, steep)
    # The tile's corners bound where its pixels come from, give or take a pixel, as those are rounded differently.
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


@_compiled
def extremes(view):
    """The lowest and the highest derivatives, (4, 4) float32 each: direction, plane."""
    height, width = view.image.shape[0], view.image.shape[1] // LANES
    low = np.full((DIRECTIONS, TILE * LANES), np.float32(np.inf))
    high = np.full((DIRECTIONS, TILE * LANES), -np.float32(np.inf))
    room, derivatives = _scratch(), np.empty((DIRECTIONS, TILE, TILE * LANES), np.float32)
    for y0 in range(0, height, TILE):
        for x0 in range(0, width, TILE):
            rows, columns = min(TILE, height - y0), min(TILE, width - x0)
            _derive(view, y0, x0, rows, columns, room, derivatives)
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


@_inlined
def _bin(value, factor, summand):
    """Bin of a derivative: it is scaled to a byte, as OpenCV does."""
    byte = np.rint(fma(value, factor, summand))
    byte = min(max(byte, np.float32(0)), np.float32(255))
    return np.uint8(byte / np.float32(256 / TEXTURE_BINS))


@_compiled
def _code(line, up_factor, up_summand, down_factor, down_summand, codes):
    """Codes of a row of derivatives. ``up`` scales those >= 0, ``down`` the others."""
    for i in range(codes.size):
        positive, negative = _bin(line[i], up_factor[i], up_summand[i]), _bin(line[i], down_factor[i], down_summand[i])
        codes[i] = positive if line[i] >= 0 else np.uint8(negative + np.uint8(TEXTURE_BINS))


@_compiled
def count(view, fragments, number, planes, up, down, bins):
    """How many pixels of each fragment have each code and colour, (number, planes * COUNTS) uint32.

    Derivatives are computed again: keeping those of :func:`extremes` would take 48 bytes per pixel.

    :param fragments: (H, W) int32, 0 to ``number`` - 1.
    :param up, down: (2, 4, TILE * 4) float32, factors and summands of each direction, along a row of a tile.
    """
    height, width = fragments.shape
    counts = np.zeros((number, planes * COUNTS), np.uint32)
    flat = counts.reshape(-1)
    room, derivatives = _scratch(), np.empty((DIRECTIONS, TILE, TILE * LANES), np.float32)
    codes = np.empty((DIRECTIONS, TILE * LANES), np.uint8)
    one, lanes, codes_each = np.uint32(1), np.uint64(LANES), np.uint64(CODES)
    for y0 in range(0, height, TILE):
        for x0 in range(0, width, TILE):
            rows, columns = min(TILE, height - y0), min(TILE, width - x0)
            _derive(view, y0, x0, rows, columns, room, derivatives)
            for y in range(rows):
                for d in range(DIRECTIONS):
                    line = codes[d, : columns * LANES]
                    _code(derivatives[d, y], up[0, d], up[1, d], down[0, d], down[1, d], line)
                regions, pixels = fragments[y0 + y, x0:], view.image[y0 + y, x0 * LANES :]
                for x in range(np.uint64(columns)):
                    at = np.uint64(regions[x]) * np.uint64(planes * COUNTS)
                    for c in range(np.uint64(planes)):
                        i = x * lanes + c
                        for d in range(np.uint64(DIRECTIONS)):
                            flat[at + d * codes_each + codes[d, i]] += one
                        flat[at + np.uint64(DIRECTIONS) * codes_each + bins[pixels[i]]] += one
                        at += np.uint64(COUNTS)
    return counts


@_compiled
def zeros(up, down):
    """Bins of a derivative of 0, (2, 4, 4): among the positive and among the negative parts, direction, plane."""
    bins = np.empty((2, DIRECTIONS, LANES), np.int64)
    for d in range(DIRECTIONS):
        for c in range(LANES):
            bins[0, d, c] = _bin(np.float32(0), up[0, d, c], up[1, d, c])
            bins[1, d, c] = _bin(np.float32(0), down[0, d, c], down[1, d, c])
    return bins
