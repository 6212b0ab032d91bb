"""Batches of images whose views have similar sizes, to reduce padding."""

import numpy as np


def group_by_size(frames: np.ndarray, count: int) -> list[np.ndarray]:
    """Distribute samples to batches of equal length.

    As in a k-d tree the samples are cut in two by their widths or by their heights, whichever needs fewer pixels, then
    each half, and so on until a part is a batch. Deterministic: samples of equal size keep their order.

    :param frames: (n, 2) widths and heights of the views; n is a multiple of ``count``.
    :param count: number of batches.
    :returns: numbers of the samples of each batch; each sample is in one.
    """
    return _cut(frames, np.arange(len(frames)), count)


def _cut(frames: np.ndarray, chosen: np.ndarray, count: int) -> list[np.ndarray]:
    if count == 1:
        return [chosen]
    first = count // 2
    middle = len(chosen) // count * first
    orders = [chosen[np.argsort(frames[chosen, side], kind="stable")] for side in (0, 1)]
    halves = min(((order[:middle], order[middle:]) for order in orders), key=lambda pair: _pixels(frames, pair))
    return _cut(frames, halves[0], first) + _cut(frames, halves[1], count - first)


def _pixels(frames: np.ndarray, parts: tuple[np.ndarray, ...]) -> int:
    """Pixels of all samples, each padded to the largest width and height of its part."""
    return sum(int(frames[part].max(0).prod()) * len(part) for part in parts)
