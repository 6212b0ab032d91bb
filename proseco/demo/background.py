"""The background of the demo's pictures: one or two materials with a grain, lines and specks, and what a camera adds.

Pixels are computed only by operations that have one exact result everywhere (sums, products, roots, integer rasters; no
sines, no BLAS, no resampling), so that a seed gives equal bytes on every processor.
"""

import colorsys
import math
from functools import lru_cache

import cv2
import numpy as np

from proseco.demo.shapes import round_path, wave

#: Colours of the background's materials, (hue, saturation, value): sky, grass, sand, wood, stone, brick, ...
MATERIALS = (
    (0.58, 0.35, 0.85),
    (0.27, 0.45, 0.48),
    (0.11, 0.35, 0.80),
    (0.07, 0.50, 0.50),
    (0.60, 0.07, 0.55),
    (0.03, 0.45, 0.52),
    (0.51, 0.40, 0.52),
    (0.60, 0.05, 0.88),
    (0.08, 0.38, 0.30),
    (0.74, 0.22, 0.48),
    (0.21, 0.38, 0.38),
    (0.13, 0.15, 0.68),
)
_CIRCLE = round_path(1, np.arange(12) / 12)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A uniform random number from ``low`` to ``high``."""
    # Not rng.uniform: in C that is a product and a sum, which some compilers fuse into an operation rounded once.
    return low + (high - low) * rng.random()


def direction(rng: np.random.Generator) -> np.ndarray:
    """A random unit vector ``(2,)``, (x, y)."""
    # Rounded, because the last bit of a cosine differs between C libraries.
    angle = between(rng, 0, 2 * math.pi)
    return np.array([round(math.cos(angle), 6), round(math.sin(angle), 6)])


def colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB ``(3, 1, 1)`` float32, 0..255, of a hue (1 is a full turn), a saturation and a value (clipped to 0..1)."""
    rgb = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return np.array(rgb, np.float32)[:, None, None] * np.float32(255)


def centred(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """x ``(1, W)`` and y ``(H, 1)`` of the pixels' centres, counted from the middle of the picture, float32."""
    x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
    return x[None], (np.arange(height, dtype=np.float32) - np.float32((height - 1) / 2))[:, None]


def noise(rng: np.random.Generator, height: int, width: int, cell_y: float, cell_x: float | None = None) -> np.ndarray:
    """Smooth noise ``(H, W)`` float32, about -1..1: a quadratic B-spline over random values, one per cell.

    :param cell_y: height of a cell in pixels; ``cell_x`` its width, the same where None.
    """
    y, x = rng.integers(8, size=2).tolist()
    rows, down = _spline(height, round(cell_y * 4), y)
    columns, across = _spline(width, round((cell_x or cell_y) * 4), x)
    knots = rng.random((rows[-1] + 3, columns[-1] + 3), dtype=np.float32) * 2 - 1
    # Columns first, while the grid is small, as gathering columns is slow.
    knots = knots[:, columns] * across[0] + knots[:, columns + 1] * across[1] + knots[:, columns + 2] * across[2]
    smooth = knots[rows] * down[0][:, None]
    smooth += knots[rows + 1] * down[1][:, None]
    smooth += knots[rows + 2] * down[2][:, None]
    return smooth


@lru_cache(maxsize=8192)
def _spline(size: int, quarters: int, eighth: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The first of three knots of each pixel, and their weights.

    Sizes of cells are whole quarters of a pixel, so that there are few of them, and the cache serves most.
    """
    place = np.arange(size) * 4 / quarters + eighth / 8
    first = place.astype(np.int64)
    t = place - first
    weights = (0.5 * (1 - t) * (1 - t), 0.5 + t - t * t, 0.5 * t * t)
    return first, tuple(weight.astype(np.float32) for weight in weights)


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """``(3, H, W)`` float32, 0..255: one or two materials that meet at a wavy line, with thin clutter on them."""
    side = max(height, width)
    canvas = _material(rng, height, width)
    if rng.random() < 0.6:
        dx, dy = direction(rng) * (0.4, 1)
        x, y = centred(height, width)
        edge = (x * dx + y * dy) * 2 + between(rng, -0.5, 0.5) * side
        edge = edge + 0.15 * side * noise(rng, height, width, side / 3)
        share = np.clip(edge / np.float32(between(rng, 1, side / 8)) + 0.5, 0, 1).astype(np.float32)
        canvas += (_material(rng, height, width) - canvas) * share
    return _clutter(rng, canvas)


def develop(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """What a camera adds: a tint, darker corners, exposure and grain. ``(3, H, W)`` float32 -> ``(H, W, 3)`` uint8."""
    height, width = canvas.shape[1:]
    x, y = centred(height, width)
    corners = 1 - np.float32(between(rng, 0, 1) / (height**2 + width**2)) * (x * x + y * y)
    tint = ((0.94 + 0.12 * rng.random((3, 1, 1))) * between(rng, 0.85, 1.12)).astype(np.float32)
    grain = (rng.random((height, width), dtype=np.float32) - np.float32(0.5)) * np.float32(between(rng, 2, 14))
    picture = np.clip(np.rint(canvas * corners * tint + grain), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(picture.transpose(1, 2, 0))


def _material(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """``(3, H, W)`` float32: two tones of one colour that blend into each other, with a grain and sometimes lines."""
    side = max(height, width)
    hue, saturation, value = MATERIALS[rng.integers(len(MATERIALS))]
    hue, saturation, value = hue + between(rng, -0.03, 0.03), saturation * between(rng, 0.6, 1.3), value
    near = colour(hue, saturation, value * between(rng, 0.75, 1.1))
    far = colour(hue + between(rng, -0.05, 0.05), saturation * between(rng, 0.5, 1.2), value * between(rng, 0.75, 1.2))
    x, y = centred(height, width)
    dx, dy = direction(rng) / side
    blend = np.clip(x * np.float32(dx) + y * np.float32(dy) + 0.5 + 0.35 * noise(rng, height, width, side / 2), 0, 1)
    # Wood, water and grass have a grain: noise stretched along one axis.
    stretch = between(rng, 1, 3) if rng.random() < 0.5 else 1.0
    stretches = (stretch, 1 / stretch) if rng.random() < 0.5 else (1 / stretch, stretch)
    tone = 1.0
    for cell, strength in ((side / 5, 0.16), (side / 14, 0.12), (side / 40, 0.08)):
        strength *= between(rng, 0.4, 1.3)
        tone = tone + strength * noise(rng, height, width, cell * stretches[0], cell * stretches[1])
    if rng.random() < 0.35:  # planks, tiles, furrows
        dx, dy = direction(rng) / (side * between(rng, 0.06, 0.2))
        lines = wave(x * np.float32(dx) + y * np.float32(dy) + 0.3 * noise(rng, height, width, side / 3))
        tone = tone - between(rng, 0.1, 0.25) * lines * lines
    return (near + (far - near) * blend) * tone


def _clutter(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Add thin bent lines (twigs, wires, cracks) and small specks (pebbles, leaves), none as large as an object."""
    side, size = max(canvas.shape), np.array(canvas.shape[:0:-1])
    picture = np.clip(canvas.transpose(1, 2, 0), 0, 255, order="C").astype(np.uint8)
    lines, specks = int(rng.integers(1, 5)), int(rng.integers(3, 13))
    ends = rng.random((lines, 2, 1, 2)) * size * 1.2 - 0.1 * size
    bend = ends.mean(axis=1) + (rng.random((lines, 1, 2)) - 0.5) * side * 0.7
    reach = 0.3 + 0.5 * rng.random((lines, 1, 1))  # a twig is a part of a parabola across the picture
    t = np.arange(13)[:, None] / 12 * reach + (1 - reach) * rng.random((lines, 1, 1))
    curves = (1 - t) * (1 - t) * ends[:, 0] + 2 * t * (1 - t) * bend + t * t * ends[:, 1]
    for curve, paint in zip(np.rint(curves * 16).astype(np.int32), _earth(rng, lines), strict=True):
        cv2.polylines(picture, [curve], False, paint, 1, cv2.LINE_AA, shift=4)
    shear = (rng.random((specks, 1, 2)) - 0.5) * 2
    oval = _CIRCLE * ((0.005 + 0.016 * rng.random((specks, 1, 2))) * side)
    oval = oval + shear * oval[..., ::-1] + rng.random((specks, 1, 2)) * size
    for path, paint in zip(np.rint(oval * 16).astype(np.int32), _earth(rng, specks), strict=True):
        cv2.fillConvexPoly(picture, path, paint, cv2.LINE_AA, shift=4)
    return picture.transpose(2, 0, 1).astype(np.float32, order="C")


def _earth(rng: np.random.Generator, count: int) -> list[list[float]]:
    """RGB colours of small things: those of the materials, lighter or darker."""
    shares = rng.random((count, 3)).tolist()
    colours = []
    for material, hue, value in shares:
        h, s, v = MATERIALS[int(material * len(MATERIALS))]
        rgb = colorsys.hsv_to_rgb((h + 0.12 * hue - 0.06) % 1, s, min(v * (0.4 + 0.8 * value), 1))
        colours.append([255 * channel for channel in rgb])
    return colours
