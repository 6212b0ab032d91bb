"""From a sample to a training example: callables ``(sample, rng) -> Example``, made of :mod:`proseco.data.augment`.

Those whose views differ in size have a method ``frame(width, height, rng)``: the width and height that the views of a
stored image of that size will have, from an equal ``rng``, so that a batch can be chosen before any image is read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from proseco.data import augment, masks
from proseco.data.sample import Sample


@dataclass
class Crop:
    """A view in a frame of its own: ``image`` (h, w, 3) uint8; ``boxes_cxcywh`` (n, 4) float32 in 0..1 of it."""

    image: np.ndarray
    boxes_cxcywh: np.ndarray


@dataclass
class Example:
    """Views of one image, all of one size and in one frame, or crops, each in its own; one of the two may be empty.

    ``views``: list of (H, W, 3) uint8; ``boxes_cxcywh`` (n, 4) float32 in 0..1; ``labels`` (n,) int64;
    ``size``: width and height of the stored image in pixels; ``crops``: as many in every example of a method, each
    with the size that its place in the list has in all of them; ``object_masks`` (n, H, W) uint8, 1 on the object, or
    None where they are unknown or not asked for.
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
    """Mixin of those whose frame is that of T1: they draw its geometry first, with ``weak``: keywords of
    :func:`augment.weak_geometry`.
    """

    weak: dict

    def frame(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int]:
        """Width and height of the views."""
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
    """Weak view x' and strong view x'' = t2(x') in one frame, with K boxes drawn of all that the crop leaves.

    :param boxes: K; where fewer boxes are left, all of them.
    :param strong: keywords of :func:`augment.strong`.
    """

    weak: dict
    boxes: int
    strong: dict = field(default_factory=dict)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        weak, boxes, _ = augment.weak(sample.image, sample.boxes_xyxy, rng, **self.weak)
        drawn = rng.choice(len(boxes), min(self.boxes, len(boxes)), replace=False)
        strong = augment.strong(weak, rng, **self.strong)
        none = np.zeros(len(drawn), np.int64)
        return Example(sample.key, [weak, strong], relative(boxes[drawn], weak), none, _size(sample.image))


@dataclass
class FixedView:
    """The whole image at one size, without chance: for prediction."""

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
        image, none = augment.crop(sample.image, sample.boxes_xyxy, left, top, width, height)
        image = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            image, _ = augment.flip(image, none)
        return Example(sample.key, [image], np.zeros((0, 4), np.float32), sample.labels, _size(sample.image))


@dataclass
class Search:
    """Proposals made on the spot, of the image squeezed to a square: DETReg's public code has 128 pixels, for which
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
    """One weak view with the first K of the image's boxes, less what the crop leaves nothing of: DETReg's top K.

    :param boxes: K; all of them where there are fewer.
    :param draw: K at random of all instead.
    :param search: where the boxes come from; None: the stored ones.
    """

    weak: dict
    boxes: int
    draw: bool = False
    search: Search | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        ranked = sample.boxes_xyxy
        if self.search is not None:  # with numbers of its own: the frame is known from this rng's first draws
            ranked = self.search(sample.image, rng.spawn(1)[0])
        image, boxes, kept = augment.weak(sample.image, ranked, rng, **self.weak)
        count = min(self.boxes, len(kept))
        chosen = rng.choice(len(kept), count, replace=False) if self.draw else np.arange(count)
        boxes = boxes[np.isin(np.flatnonzero(kept), chosen)]
        none = np.zeros(len(boxes), np.int64)
        return Example(sample.key, [image], relative(boxes, image), none, _size(sample.image))


@dataclass
class RandomPatches(WeakFrame):
    """One weak view with boxes at random, which know nothing of the image: UP-DETR's query patches.

    Each side is uniform from ``min_side`` pixels to that much less than the image's, and so is its place.

    :param patches: how many; every image has as many.
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
        none = np.zeros(self.patches, np.int64)
        return Example(sample.key, [image], relative(boxes, image), none, _size(sample.image))
