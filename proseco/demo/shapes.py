"""The kinds of object in the demo: the outline, the usual texture and the usual hue of each."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np


class Kind(NamedTuple):
    """A kind of object.

    :ivar texture: of 85 % of its objects.
    :ivar hue: middle, 0..1, of the hues of 70 % of its objects.
    """

    name: str
    texture: str
    hue: float


#: The first ``DETECTION`` rows are the classes of COCO, VOC and FSOD's train part; single objects are of all rows.
KINDS = (
    Kind("star", "stripes", 0.14),
    Kind("ring", "plain", 0.00),
    Kind("heart", "dots", 0.93),
    Kind("moon", "speckle", 0.60),
    Kind("gear", "rings", 0.08),
    Kind("leaf", "chevron", 0.33),
    Kind("fish", "checks", 0.50),
    Kind("cross", "marble", 0.76),
    Kind("disc", "dots", 0.22),
    Kind("brick", "marble", 0.04),
    Kind("bolt", "plain", 0.42),
    Kind("arrow", "stripes", 0.68),
)
DETECTION = 8


def round_path(radii, turns) -> np.ndarray:
    """Points ``(N, 2)`` at ``radii`` and ``turns`` of a circle; rounded, as C libraries differ in the last bit."""
    angles = np.asarray(turns, float) * 2 * math.pi
    points = [(round(math.cos(a), 6), round(math.sin(a), 6)) for a in angles.tolist()]
    return np.array(points) * np.broadcast_to(np.asarray(radii, float), len(points))[:, None]


@cache
def outline(name: str) -> list[np.ndarray]:
    """Closed paths ``(N, 2)`` within the unit circle; a second path, inside the first, is a hole.

    The arrays are cached: do not change them.
    """
    circle = np.arange(40) / 40
    if name == "star":
        return [round_path(np.where(np.arange(10) % 2, 0.46, 1), np.arange(10) / 10)]
    if name == "ring":
        return [round_path(0.95, circle), round_path(0.5, circle)]
    if name == "heart":
        (c, s), double, triple = (
            round_path(1, circle).T,
            round_path(1, 2 * circle)[:, 0],
            round_path(1, 3 * circle)[:, 0],
        )
        return [np.stack([16 * s**3, 2 - 13 * c + 5 * double + 2 * triple], axis=1) / 18]
    if name == "moon":
        # From horn to horn along the unit circle, and back along a circle of radius 0.8 around (0.35, 0).
        inner = round_path(0.8, 0.5 + np.linspace(0.3197, -0.3197, 25))[1:-1] + np.array([0.35, 0])
        return [np.concatenate([round_path(1, np.linspace(0.129, 0.871, 33)), inner])]
    if name == "gear":
        teeth = np.arange(32) // 2 % 2
        return [
            round_path(np.where(teeth, 0.72, 1), (np.arange(32) + 0.5 * (np.arange(32) % 2)) / 32),
            round_path(0.28, circle),
        ]
    if name == "leaf":
        x = np.linspace(-0.8, 1, 17)
        y = 0.62 * (1 - ((x - 0.1) / 0.9) ** 2) * (1 - 0.25 * x)
        stem = np.array([[-0.99, 0.05], [-0.99, -0.05]])
        return [np.concatenate([np.stack([x, -y], 1), np.stack([x, y], 1)[-2:0:-1], [[-0.78, 0.05]], stem])]
    if name == "fish":
        body = round_path(1, np.linspace(-0.44, 0.44, 25)) * (0.68, 0.46) + (0.3, 0)
        return [np.concatenate([body, [[-0.88, 0.47], [-0.7, 0], [-0.88, -0.47]]])]
    if name == "cross":
        a, b = 0.94, 0.3
        quarter = np.array([[a, -b], [a, b], [b, b]])
        turned = [quarter, quarter @ [[0, 1], [-1, 0]], -quarter, quarter @ [[0, -1], [1, 0]]]
        return [np.concatenate(turned)]
    if name == "disc":
        return [round_path(0.9, circle)]
    if name == "brick":
        return [np.array([[-0.88, -0.46], [0.88, -0.46], [0.88, 0.46], [-0.88, 0.46]])]
    if name == "bolt":
        return [np.array([[0.95, 0.1], [0.05, 0.42], [0.12, 0.08], [-0.95, -0.05], [-0.05, -0.45], [-0.05, -0.08]])]
    if name == "arrow":
        return [np.array([[1, 0], [0.2, 0.68], [0.2, 0.26], [-0.95, 0.26], [-0.95, -0.26], [0.2, -0.26], [0.2, -0.68]])]
    raise ValueError(f"no outline named {name!r}")


def wave(x: np.ndarray) -> np.ndarray:
    """A smooth wave of period 1, 1 at whole numbers and 0 halfway: like a cosine, but with exact results everywhere."""
    t = np.abs((x - np.floor(x)) * 2 - 1)
    return t * t * (3 - 2 * t)


def texture(name: str, u: np.ndarray, v: np.ndarray, noise: np.ndarray, *, waves: float) -> np.ndarray:
    """Share ``(H, W)`` of the second colour, 0..1.

    :param u, v: the pixels' places ``(H, W)`` in the object's own coordinates, where 1 is its radius.
    :param noise: ``(H, W)``, about -1..1.
    :param waves: periods of the pattern per radius.
    """
    if name == "plain":
        return 0.25 + 0.3 * noise
    if name == "stripes":
        return wave(u * waves)
    if name == "dots":
        a, b = (u + v) * (0.8 * waves), (u - v) * (0.8 * waves)
        a, b = a - np.floor(a) - 0.5, b - np.floor(b) - 0.5
        return np.clip((0.13 - a * a - b * b) * 12, 0, 1)
    if name == "checks":
        a, b = wave(u * waves * 0.8), wave(v * waves * 0.8)
        return a + b - 2 * a * b
    if name == "rings":
        return wave(np.sqrt(u * u + v * v) * waves)
    if name == "chevron":
        return wave((u - np.abs(v)) * waves)
    if name == "marble":
        return wave((u + v) * (0.4 * waves) + 0.9 * noise)
    if name == "speckle":
        return np.clip(0.35 + 1.6 * noise, 0, 1)
    raise ValueError(f"no texture named {name!r}")
