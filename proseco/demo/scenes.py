"""Draws the demo's pictures: objects of twelve kinds on natural-looking clutter, with masks of their visible parts.

Shaded, rotated objects that may hide parts of each other lie on a gradient, noise at three scales, stripes and thin
clutter (``background.py``). All objects of a kind have its outline, most its texture and many its hue: from outlines
alone, a small detector would take far longer to learn than the demo's minutes. As in ``background.py``, only operations
with one exact result everywhere touch a pixel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from proseco.demo.background import background, between, centred, colour, develop, direction, noise
from proseco.demo.shapes import KINDS, outline, texture

#: No object is placed where a visible share would fall below this, so that every object in a picture is labelled.
MIN_VISIBLE = 0.25
_SUPER = 4  # masks are filled at 4 x 4 samples per pixel and averaged: anti-aliasing with exact results


@dataclass(frozen=True)
class Thing:
    """One object in a picture.

    :ivar kind: row of ``KINDS``.
    :ivar mask: ``(H, W)`` bool, True on the object's visible pixels.
    :ivar visible: visible share of the whole silhouette, ``MIN_VISIBLE``..1.
    :ivar cut: whether the edge of the picture cuts off a part.
    """

    kind: int
    mask: np.ndarray
    visible: float
    cut: bool

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Tight box of the visible pixels, the far edges exclusive."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class _Body(NamedTuple):
    """An object before it is placed: coverage ``(S, S)`` float32, 0..1; axes (its rows) and area in pixels."""

    kind: int
    radius: float
    cover: np.ndarray
    axes: np.ndarray
    pixels: int


def scene(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    kinds: Sequence[int],
    count: int,
    radius: tuple[float, float] = (0.12, 0.26),
    spread: float = 0.92,
) -> tuple[np.ndarray, list[Thing]]:
    """Draw one picture.

    :param kinds: rows of ``KINDS`` to choose from, uniformly.
    :param count: number of objects to place. One that would hide too much of another, or lie too far outside, is tried
        at a few other places and then left out.
    :param radius: smallest and largest radius of an object, as shares of the longer side.
    :param spread: centres lie within this share of each side, about the middle.
    :returns: ``(H, W, 3)`` uint8 RGB, and the objects from the rearmost to the foremost.
    """
    canvas = background(rng, height, width)
    light = direction(rng)
    placed: list[tuple[_Body, np.ndarray, bool]] = []
    centres: list[np.ndarray] = []
    for _ in range(count):
        size = max(height, width) * between(rng, *radius)
        body = _silhouette(rng, int(kinds[rng.integers(len(kinds))]), size)
        for _ in range(4):
            centre = (0.5 + spread * (rng.random(2) - 0.5)) * (width, height)
            if centres and rng.random() < 0.35:  # beside an earlier one, as things often are
                centre = centres[rng.integers(len(centres))] + direction(rng) * size * between(rng, 0.9, 1.8)
            corner = np.floor(centre - len(body.cover) / 2).astype(int)
            mask = _on_canvas(body.cover, corner, height, width) > 0.5
            inside = np.count_nonzero(mask)
            shown = all(np.count_nonzero(m & ~mask) >= MIN_VISIBLE * b.pixels for b, m, _ in placed)
            if shown and inside >= 0.6 * body.pixels:
                placed = [(b, m & ~mask, cut) for b, m, cut in placed] + [(body, mask, inside < body.pixels)]
                centres.append(centre)
                _paint(rng, canvas, body, corner, light)
                break
    things = [Thing(b.kind, m, np.count_nonzero(m) / b.pixels, cut) for b, m, cut in placed]
    return develop(rng, canvas), things


def _silhouette(rng: np.random.Generator, kind: int, radius: float) -> _Body:
    """An object with its kind's outline, turned and slightly narrowed at random."""
    along = direction(rng)
    slim = between(rng, 0.82, 1.0)
    axes = np.array([along, [-along[1] * slim, along[0] * slim]]) * radius
    size = 2 * math.ceil(radius + 1.5)
    filled = np.zeros((size * _SUPER, size * _SUPER), np.uint8)
    paths = [p[:, :1] * axes[0] + p[:, 1:] * axes[1] + size / 2 for p in outline(KINDS[kind].name)]
    # OpenCV's coordinates count from the centre of the first sample, ours from its corner, half a sample away.
    cv2.fillPoly(filled, [np.rint((path * _SUPER - 0.5) * 16).astype(np.int32) for path in paths], 1, shift=4)
    filled = sum(filled[k::_SUPER] for k in range(_SUPER))
    cover = sum(filled[:, k::_SUPER] for k in range(_SUPER)).astype(np.float32) / _SUPER**2
    return _Body(kind, radius, cover, axes, np.count_nonzero(cover > 0.5))


def _on_canvas(patch: np.ndarray, corner: np.ndarray, height: int, width: int) -> np.ndarray:
    """A patch with its corner at (x, y) of an empty canvas ``(H, W)``; what is outside is cut off."""
    whole = np.zeros((height, width), patch.dtype)
    target, source = _overlap(patch.shape, corner, height, width)
    whole[target] = patch[source]
    return whole


def _overlap(
    shape: tuple[int, ...], corner: np.ndarray, height: int, width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a canvas and a patch with its corner at (x, y) overlap: (rows, columns) of the canvas, and of the patch."""
    x, y = map(int, corner)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), max(min(x + shape[1], width), 0), max(min(y + shape[0], height), 0)
    source = slice(max(y0 - y, 0), max(y1 - y, 0)), slice(max(x0 - x, 0), max(x1 - x, 0))
    return (slice(y0, max(y1, y0)), slice(x0, max(x1, x0))), source


def _soften(mask: np.ndarray, reach: int) -> np.ndarray:
    """Two box blurs of ``2 * reach + 1`` pixels, zeros beyond the border. Sums of sixteenths are exact as floats."""
    window = 2 * reach + 1
    for _ in range(2):
        mask = cv2.boxFilter(mask, cv2.CV_32F, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return mask / np.float32(window**4)


def _paint(rng: np.random.Generator, canvas: np.ndarray, body: _Body, corner: np.ndarray, light: np.ndarray) -> None:
    """Paint an object and its shadow on ``canvas`` ``(3, H, W)`` in place, the corner of its patch at (x, y)."""
    height, width = canvas.shape[1:]
    reach = max(1, round(body.radius / 7))
    far = 4 * reach
    shadow = _soften(np.pad(body.cover, far), reach)
    offset = np.rint(corner - far - light * body.radius * 0.22).astype(int)
    target, source = _overlap(shadow.shape, offset, height, width)
    canvas[:, *target] *= 1 - np.float32(between(rng, 0.2, 0.4)) * shadow[source]
    colours = _surface(rng, body) * _shade(body, light, reach)
    x, y = centred(*body.cover.shape)
    spot = np.float32(0.35 * body.radius) * light.astype(np.float32)
    glint = np.clip(0.22 - ((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / np.float32(body.radius**2), 0, 1)
    colours += glint * glint * np.float32(between(rng, 300, 1600))
    target, source = _overlap(body.cover.shape, corner, height, width)
    canvas[:, *target] += (colours[:, *source] - canvas[:, *target]) * body.cover[source]


def _surface(rng: np.random.Generator, body: _Body) -> np.ndarray:
    """``(3, S, S)`` float32: a texture of two tones of one hue, in the object's own coordinates."""
    size, radius, kind = len(body.cover), body.radius, KINDS[body.kind]
    x, y = centred(size, size)
    across = (body.axes / (body.axes * body.axes).sum(axis=1)[:, None]).astype(np.float32)
    u, v = (x * dx + y * dy for dx, dy in across)
    name = kind.texture if rng.random() < 0.85 else KINDS[rng.integers(len(KINDS))].texture
    pattern = texture(name, u, v, noise(rng, size, size, max(2.2, radius / 3)), waves=min(2.2, radius / 4.5))
    hue = kind.hue + between(rng, -0.055, 0.055) if rng.random() < 0.7 else rng.random()
    saturation, value = between(rng, 0.42, 0.85), between(rng, 0.5, 0.95)
    light = colour(hue, saturation, value)
    hue, saturation = hue + between(rng, -0.05, 0.05), saturation * between(rng, 0.7, 1.2)
    dark = colour(hue, saturation, value * between(rng, 0.45, 0.68))
    wear = 1 + np.float32(0.1) * noise(rng, size, size, max(2.0, radius / 5))
    return (light + (dark - light) * pattern) * wear


def _shade(body: _Body, light: np.ndarray, reach: int) -> np.ndarray:
    """``(S, S)`` float32 factor: bright where the surface faces the light, dark at the rim and on the far side."""
    dx, dy = light.astype(np.float32)
    height = _soften(body.cover, reach) * body.cover  # steep at the rim, flat within
    slope = np.zeros_like(height)
    slope[1:-1, 1:-1] = (height[1:-1, 2:] - height[1:-1, :-2]) * dx + (height[2:, 1:-1] - height[:-2, 1:-1]) * dy
    x, y = centred(*body.cover.shape)
    facing = (x * dx + y * dy) / np.float32(body.radius)
    return np.clip(0.94 + 0.16 * facing - 0.55 * reach * slope, 0.45, 1.35) * (0.82 + 0.18 * height)
