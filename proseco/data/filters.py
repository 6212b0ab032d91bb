"""Which of an image's proposals are stored."""

import numpy as np


def keep(
    boxes_xyxy: np.ndarray,
    width: int,
    height: int,
    *,
    min_side: float | None,
    aspect: tuple[float, float] | None,
    size: tuple[float, float] | None,
    limit: int | None,
) -> np.ndarray:
    """The boxes that pass every filter, best first; None turns a filter off.

    SoCo (Wei et al. 2021) has ``min_side=32, aspect=(1 / 3, 3), size=(0.3, 0.8)``.

    :param boxes_xyxy: (n, 4) pixels of an image of ``width`` x ``height``, best first.
    :param min_side: pixels that either side has at least.
    :param aspect: range of a box's width over its height, both ends included.
    :param size: range of the root of a box's share of the image's area, both ends included.
    :param limit: largest number of boxes; the best that pass.
    """
    wide, high = (boxes_xyxy[:, 2:].astype(np.float64) - boxes_xyxy[:, :2]).T
    good = np.ones(len(boxes_xyxy), bool)
    if min_side is not None:
        good &= (wide >= min_side) & (high >= min_side)
    if aspect is not None:
        good &= (wide >= aspect[0] * high) & (wide <= aspect[1] * high)
    if size is not None:
        share = np.sqrt(wide * high / (width * height))
        good &= (share >= size[0]) & (share <= size[1])
    return boxes_xyxy[good][:limit]
