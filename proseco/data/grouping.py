"""Batches of images whose views are of about one size, so that little of them is padding."""

import numpy as np


def group_by_size(frames: np.ndarray, count: int) -> list[np.ndarray]:
    """Deal samples out to batches of one length.

    The samples are cut in two by their widths or by their heights, whichever leaves the smaller frames, each half
    again, and so on until a part is a batch, as k-d trees do. A function of its arguments; equals keep their order.

    :param frames: (n, 2) widths and heights; n is a multiple of ``count``.
    :param count: how many batches.
    :returns: numbers of the samples of each batch, each sample in one.
    """
    return _cut(frames, np.arange(len(frames)), count)


def _cut(frames: np.ndarray, chosen: np.ndarray, count: int) -> list[np.ndarray]:
    if count == 1:
        return [chosen]
    first = count // 2
    place = len(chosen) // count * first
    sides = [frames[chosen, side] for side in (0, 1)]
    sorted_ = [chosen[np.argsort(lengths, kind="stable")] for lengths in sides]
    halves = min(((found[:place], found[place:]) for found in sorted_), key=lambda pair: _pixels(frames, pair))
    return _cut(frames, halves[0], first) + _cut(frames, halves[1], count - first)


def _pixels(frames: np.ndarray, parts: tuple[np.ndarray, ...]) -> int:
    """Pixels of the samples of each part in a frame that holds any of them."""
    return sum(int(frames[part].max(0).prod()) * len(part) for part in parts)
