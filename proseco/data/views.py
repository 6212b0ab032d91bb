"""From a sample to a training example: callables ``(sample, rng) -> Example``, made of :mod:`proseco.data.augment`.

Those whose views differ in size have a method ``frame(width, height, rng)``: the width and height of the views that
they make of an image of that size with an equal ``rng``, so that batches can be formed before any image is read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from proseco.data import augment, masks
from proseco.data.sample import Sample

#: ``(sample, rng) -> Example``.
Transform = Callable[[Sample, np.random.Generator], "Example"]


@dataclass
class Crop:
    """A view in a frame of its own: ``image`` (h, w, 3) uint8; ``boxes_cxcywh`` (n, 4) float32 in 0..1 of it."""

    image: np.ndarray
    boxes_cxcywh: np.ndarray


@dataclass
class Example:
    """Views of one image, all of one size and in one frame, and crops, each in its own; either may be empty.

    ``views``: list of (H, W, 3) uint8; ``boxes_cxcywh`` (n, 4) float32 in 0..1; ``labels`` (n,) int64;
    ``size``: width and height of the stored image in pixels; ``crops``: as many in every example of a method, the n-th
    of one size in all of them; ``object_masks`` (n, H, W) uint8, 1 on the object, or None where unknown or not wanted.
    """

    key: str
    views: list[np.ndarray]
    boxes_cxcywh: np.ndarray
    labels: np.ndarray
    size: tuple[int, int]
    crops: list[Crop] = field(default_factory=list)
    object_masks: np.ndarray | None = None


def relative(boxes_xyxy: np.ndarray, image: np.ndarray) -> np.ndarray:
    """xyxy pixels -> cxcywh in 0..1 of the image."""
    h, w = image.shape[:2]
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    return (np.concatenate([(low + high) / 2, high - low], 1) / np.float32([w, h, w, h])).astype(np.float32)


def _size(image: np.ndarray) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


class WeakFrame:
    """Mixin for views whose frame T1 decides. They must draw ``weak_geometry`` first.

    ``weak``: keywords of :func:`augment.weak_geometry`.
    """

    weak: dict

    def frame(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int]:
        """Width and height of the views of an image of that size."""
        return augment.weak_geometry(width, height, rng, **self.weak).size


@dataclass
class WeakView(WeakFrame):
    """One weakly augmented view, for supervised training.

    Where a sample has outlines, they are moved with the image and drawn at its new size.
    """

    weak: dict

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        points = None if sample.outlines is None else masks.flatten(sample.outlines)
        image, boxes, kept = augment.weak(sample.image, sample.boxes_xyxy, rng, points, **self.weak)
        example = Example(sample.key, [image], relative(boxes, image), sample.labels[kept], _size(sample.image))
        if points is not None:
            example.object_masks = masks.draw(sample.outlines, points, np.flatnonzero(kept), image.shape[:2])
        return example


@dataclass
class TwoViews(WeakFrame):
    """Weak view x' and strong view x'' = t2(x') in one frame, with K boxes drawn from those that the crop leaves.

    :param boxes: K; all that are left if they are fewer.
    :param strong: keywords of :func:`augment.strong`.
    """

    weak: dict
    boxes: int
    strong: dict = field(default_factory=dict)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        weak, boxes, _ = augment.weak(sample.image, sample.boxes_xyxy, rng, **self.weak)
        drawn = rng.choice(len(boxes), min(self.boxes, len(boxes)), replace=False)
        strong = augment.strong(weak, rng, **self.strong)
        labels = np.zeros(len(drawn), np.int64)
        return Example(sample.key, [weak, strong], relative(boxes[drawn], weak), labels, _size(sample.image))


@dataclass
class FixedView:
    """The whole image at one size, without randomness: for prediction."""

    short_edge: int
    long_edge: int | None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        image, boxes = augment.resize(sample.image, sample.boxes_xyxy, self.short_edge, self.long_edge)
        return Example(sample.key, [image], relative(boxes, image), sample.labels, _size(sample.image))


@dataclass
class SquareCrop:
    """A random window of the image, resized to a square, perhaps mirrored: for classification.

    :param side: pixels of the square.
    :param area: range of the window's share of the image.
    """

    side: int
    area: tuple[float, float]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        h, w = sample.image.shape[:2]
        share = np.sqrt(rng.uniform(*self.area))
        width, height = max(1, round(w * share)), max(1, round(h * share))
        left, top = int(rng.integers(w - width + 1)), int(rng.integers(h - height + 1))
        image, boxes = augment.crop(sample.image, sample.boxes_xyxy, left, top, width, height)
        image = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            image, _ = augment.flip(image, boxes)
        return Example(sample.key, [image], np.zeros((0, 4), np.float32), sample.labels, _size(sample.image))


@dataclass
class Search:
    """Proposals made on the fly, of the image squeezed to a square: DETReg's public code has 128 pixels, in which
    Selective Search finds few and large regions.

    :param propose: ``(image, seed=)`` -> boxes (n, 4) xyxy in its pixels, best first (:mod:`proseco.proposals`).
    :param side: pixels of the square.
    """

    propose: Callable
    side: int

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Boxes in pixels of the image."""
        square, _ = augment.resize_to(image, np.zeros((0, 4), np.float32), self.side, self.side)
        boxes = self.propose(np.ascontiguousarray(square), seed=int(rng.integers(2**63)))
        h, w = image.shape[:2]
        return boxes * np.float32([w, h, w, h]) / np.float32(self.side)


@dataclass
class TopBoxes(WeakFrame):
    """One weak view with those of the image's first K boxes that the crop leaves something of: DETReg's top K.

    :param boxes: K; all of them if they are fewer.
    :param draw: take K at random instead of the first.
    :param search: finds the boxes; None: the stored ones.
    """

    weak: dict
    boxes: int
    draw: bool = False
    search: Search | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        ranked = sample.boxes_xyxy
        if self.search is not None:  # with an rng of its own: `frame` relies on the first draws from this one
            ranked = self.search(sample.image, rng.spawn(1)[0])
        image, boxes, kept = augment.weak(sample.image, ranked, rng, **self.weak)
        count = min(self.boxes, len(kept))
        chosen = rng.choice(len(kept), count, replace=False) if self.draw else np.arange(count)
        boxes = boxes[np.isin(np.flatnonzero(kept), chosen)]
        labels = np.zeros(len(boxes), np.int64)
        return Example(sample.key, [image], relative(boxes, image), labels, _size(sample.image))


@dataclass
class RandomPatches(WeakFrame):
    """One weak view with random boxes that do not depend on the image's content: UP-DETR's query patches.

    Each side is uniform between ``min_side`` pixels and that much less than the view's; the place is uniform too.

    :param patches: number of boxes of every image.
    """

    weak: dict
    patches: int
    min_side: int

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        image, _, _ = augment.weak(sample.image, sample.boxes_xyxy, rng, **self.weak)
        size = np.array(_size(image))
        least = np.minimum(self.min_side, size)
        sides = rng.integers(least, np.maximum(size - self.min_side, least), (self.patches, 2), endpoint=True)
        low = rng.integers(0, size - sides, endpoint=True)
        boxes = np.concatenate([low, low + sides], 1).astype(np.float32)
        labels = np.zeros(self.patches, np.int64)
        return Example(sample.key, [image], relative(boxes, image), labels, _size(sample.image))
