"""The proposals of an image as they are stored: found by a plug-in (:mod:`proseco.proposals`), checked, filtered."""

import inspect
from collections.abc import Callable

import numpy as np

from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed


def find(
    image: np.ndarray,
    *,
    propose: Callable[..., np.ndarray],
    keep: Callable[..., np.ndarray],
    seed: int,
    key: str,
    path: str,
) -> np.ndarray:
    """Boxes (n, 4) float32 in pixels, the best first.

    :param image: (H, W, 3) uint8 RGB.
    :param propose: ``(image, *, seed) -> boxes_xyxy``, ranked, with its other keywords bound; one that has an argument
        ``path`` is given that too.
    :param keep: ``(boxes_xyxy, width, height)`` -> those to store.
    :param seed: of all images, from which with ``key`` the image's own is derived.
    :param path: of the image's file, below the root of its data set.
    :raises InputError: a box is not finite, or its corners are not in order.
    """
    given = {"path": path} if "path" in inspect.signature(propose).parameters else {}
    boxes = np.asarray(propose(image, seed=derive_seed(seed, "proposals", key), **given), np.float32).reshape(-1, 4)
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise InputError(f"the proposals of {path!r} hold a box that is not finite or whose corners are not in order")
    height, width = image.shape[:2]
    return keep(boxes, width, height)
