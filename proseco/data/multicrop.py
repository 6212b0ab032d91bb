"""SwAV's views: crops of several sizes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from proseco.data import augment
from proseco.data.sample import Sample
from proseco.data.views import Crop, Example


@dataclass
class MultiCrop:
    """Two large crops of an image, then small ones, each with its own changes of colour and sharpness.

    :param side: pixels of the large squares; ``area``: range of their windows' share of the image.
    :param small_side, small_area: likewise of the small ones, ``small_crops`` of them.
    :param photometric: keywords of :func:`augment.strong`.
    """

    side: int
    area: tuple[float, float]
    small_side: int
    small_area: tuple[float, float]
    small_crops: int
    photometric: Mapping

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        no_boxes = np.zeros((0, 4), np.float32)
        crops = []
        for side, area in [(self.side, self.area)] * 2 + [(self.small_side, self.small_area)] * self.small_crops:
            image, _ = augment.resized_crop(sample.image, no_boxes, rng, side=side, area=area)
            crops.append(Crop(augment.strong(image, rng, **self.photometric), no_boxes))
        height, width = sample.image.shape[:2]
        return Example(sample.key, [], no_boxes, np.zeros(0, np.int64), (width, height), crops)
