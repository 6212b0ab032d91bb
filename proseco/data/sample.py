"""What every source of images gives, shards or folders: ``len(source)``, ``source[number] -> Sample``."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Sample:
    """An image and what is known of it.

    ``image`` (H, W, 3) RGB uint8; ``boxes_xyxy`` (n, 4) float32 pixels; ``labels`` (n,) int64, empty where unknown;
    ``outlines`` None, or the polygons of each object (:mod:`proseco.data.masks`).
    """

    key: str
    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    outlines: list[list[np.ndarray]] | None = None
