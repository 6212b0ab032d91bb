"""Views, each in its own frame, with boxes of the same regions: callables ``(sample, rng) -> Example``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from proseco import boxes as box_ops
from proseco.data import augment, filters
from proseco.data.sample import Sample
from proseco.data.views import Crop, Example, relative

#: Left, top, width and height in pixels, as :func:`augment.crop` takes them.
Window = tuple[int, int, int, int]

_TRIES = 50  # at a pair of windows, and at a box: those of SCRL's public code


@dataclass
class SharedRegions:
    """SCRL's two views (Roh et al. 2021): resized crops, and random boxes within what both windows show.

    If that is less than ``min_size`` wide or high, both windows are drawn again.

    :param side: pixels of the square views; ``area``: range of a window's share of the image.
    :param boxes: K, per image.
    :param min_size: smallest side of a box, in pixels of the view that shows it smaller; at most ``side``.
    :param max_iou: of two boxes of an image, unless each of fifty tries overlaps an earlier box by more.
    :param photometric: keywords of :func:`augment.strong` for each of the two views.
    """

    side: int
    area: tuple[float, float]
    boxes: int
    min_size: float
    max_iou: float
    photometric: Sequence[Mapping]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        windows, low, high = self._windows(sample.image, rng)
        pixel = np.array(windows)[:, 2:].max(0) / self.side  # pixels of the image, in the view that shows it smaller
        drawn = self._draw((high - low) / pixel, rng)
        boxes = (drawn * np.tile(pixel, 2) + np.tile(low, 2)).astype(np.float32)
        return _example(
            sample,
            [
                _crop(sample.image, boxes, window, self.side, options, rng)
                for window, options in zip(windows, self.photometric, strict=True)
            ],
        )

    def _windows(self, image: np.ndarray, rng: np.random.Generator) -> tuple[list[Window], np.ndarray, np.ndarray]:
        """Two windows, and the corners of what they share, in pixels of the image."""
        h, w = image.shape[:2]
        for _ in range(_TRIES):
            windows = [augment.resized_crop_window(w, h, rng, self.area) for _ in range(2)]
            corners = np.array(windows)
            low, high = corners[:, :2].max(0), (corners[:, :2] + corners[:, 2:]).min(0)
            if (high - low >= self.min_size * corners[:, 2:].max(0) / self.side).all():
                return windows, low, high
        return [windows[0]] * 2, corners[0, :2], corners[0, :2] + corners[0, 2:]

    def _draw(self, size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """K boxes (K, 4) xyxy in an area of ``size`` (width, height).

        As SCRL's public code draws them: the area is divided into a random number of columns and rows, none narrower
        than ``min_size``, and a box lies anywhere in a random cell. Uniform sides would make most boxes large.
        """
        shape = (self.boxes, _TRIES, 2)
        cells = rng.integers(1, np.maximum(size / self.min_size, 1).astype(int) + 1, shape)
        cell = size / cells
        sides = rng.uniform(np.minimum(self.min_size, cell), cell)
        corner = rng.integers(cells) * cell + rng.uniform(0, cell - sides)
        tries = torch.from_numpy(np.concatenate([corner, corner + sides], -1))
        chosen = tries[:0, 0]
        for candidates in tries:
            apart = (box_ops.iou(candidates, chosen) < self.max_iou).all(1)
            candidate = candidates[apart.int().argmax() if apart.any() else -1]
            chosen = torch.cat([chosen, candidate[None]])
        return chosen.numpy()


@dataclass
class ProposalViews:
    """SoCo's three views (Wei et al. 2021, Section 3.2) of the same K proposals, and SoCo*'s fourth.

    V1 is the whole image, V2 a resized crop of it, V3 shows the same as V2 at half the size. The K proposals are some
    of which V2 shows at least a part: that part is the box in V2 and V3; all of it, jittered, is the box in V1. The
    fourth view is another resized crop, with its own K proposals, whose boxes in V1 come after those of V2 and V3.

    :param side: pixels of the square views V1 and V2; ``area``: range of V2's share of the image.
    :param boxes: K; if V2 shows fewer proposals some are repeated; if it shows none, the one is the whole image.
    :param keep: keywords of :func:`filters.keep`, which selects the proposals to draw from.
    :param jitter: largest shift of V1's boxes and largest change of their sides, as a share of the side, at
        ``jitter_probability`` each.
    :param photometric: keywords of :func:`augment.strong` for each view.
    :param extra_side: pixels of the fourth view; None: there is none.
    """

    side: int
    area: tuple[float, float]
    boxes: int
    keep: Mapping
    jitter: float
    jitter_probability: float
    photometric: Sequence[Mapping]
    extra_side: int | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        h, w = sample.image.shape[:2]
        proposals = filters.keep(sample.boxes_xyxy, w, h, **self.keep)
        window, boxes, jittered = self._pair(proposals, w, h, rng)
        views = [(boxes, window, self.side), (boxes, window, self.side // 2)]
        if self.extra_side is not None:
            window, boxes, in_first = self._pair(proposals, w, h, rng)
            views.append((boxes, window, self.extra_side))
            jittered = np.concatenate([jittered, in_first])
        views.insert(0, (jittered, (0, 0, w, h), self.side))
        return _example(
            sample,
            [_crop(sample.image, *view, options, rng) for view, options in zip(views, self.photometric, strict=True)],
        )

    def _pair(self, proposals, w: int, h: int, rng: np.random.Generator) -> tuple[Window, np.ndarray, np.ndarray]:
        """A window, and K boxes in pixels of the image: clipped to the window, and whole and jittered for V1."""
        window = augment.resized_crop_window(w, h, rng, self.area)
        clipped, seen = _clip(proposals, window)
        if not seen.any():
            proposals = np.float32([[0, 0, w, h]])
            clipped, seen = _clip(proposals, window)
        order = rng.permutation(np.flatnonzero(seen))[: self.boxes]
        chosen = np.concatenate([order, rng.choice(order, self.boxes - len(order))])
        return window, clipped[chosen], augment.clip(self._jitter(proposals[chosen], rng), w, h)[0]

    def _jitter(self, boxes_xyxy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        moved = rng.random((len(boxes_xyxy), 1)) < self.jitter_probability
        shift, growth = moved * rng.uniform(-self.jitter, self.jitter, (2, len(boxes_xyxy), 2))
        sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        low = boxes_xyxy[:, :2] + shift * sides
        return np.concatenate([low, low + (1 + growth) * sides], 1).astype(np.float32)


def _clip(boxes_xyxy: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to a window, all in pixels of the image; and which have an area left, as :func:`augment.clip`."""
    left, top, width, height = window
    origin = np.float32([left, top, left, top])
    clipped, seen = augment.clip(boxes_xyxy - origin, width, height)
    return clipped + origin, seen


def _crop(image, boxes_xyxy, window: Window, side: int, photometric: Mapping, rng: np.random.Generator) -> Crop:
    """A window as a square view, perhaps mirrored, its colours changed; boxes are in pixels of the image."""
    view, boxes = augment.resized_window(image, boxes_xyxy, rng, window, side=side)
    return Crop(augment.strong(view, rng, **photometric), relative(boxes, view))


def _example(sample: Sample, crops: list[Crop]) -> Example:
    height, width = sample.image.shape[:2]
    return Example(sample.key, [], np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (width, height), crops)
