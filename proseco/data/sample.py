"""Samples, and what every source of them has, shards or folders."""

from dataclasses import dataclass, field
from typing import Protocol

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


class Source(Protocol):
    """Samples by number, from 0."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Sample: ...


class SizedSource(Source, Protocol):
    """A source that knows keys and sizes without reading an image, which grouping steps by view size needs."""

    def key(self, number: int) -> str:
        """Key of a sample."""

    def size(self, number: int) -> tuple[int, int]:
        """Width and height of a sample's image."""


def evenly_spaced(total: int, count: int) -> list[int]:
    """``count`` of the numbers 0 to ``total`` - 1, ascending, the first one 0; all of them if there are fewer."""
    count = min(count, total)
    return [i * total // count for i in range(count)]
