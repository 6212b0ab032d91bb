"""Selective Search (Uijlings et al. 2013) of OpenCV's ximgproc, with a ranking that depends on the seed alone."""

import ctypes
from typing import Literal

import cv2
import numpy as np

from proseco.base.errors import one_of
from proseco.proposals._scale import shrink

MODES = {
    "fast": "switchToSelectiveSearchFast",
    "quality": "switchToSelectiveSearchQuality",
    "single": "switchToSingleStrategy",
}


def propose(
    image: np.ndarray, *, seed: int, mode: Literal["fast", "quality", "single"] = "fast", long_edge: int | None = None
) -> np.ndarray:
    """All boxes that Selective Search finds, in OpenCV's ranking.

    OpenCV ranks with the C library's ``rand()``, whose state depends on all that the process did before. It is seeded
    here right before each search, so that the same image has the same ranking everywhere.

    :param mode: ``fast``, ``quality`` or ``single``, OpenCV's presets.
    :param long_edge: pixels of the longer side to which the image is scaled down for the search; None for its own size.
        Boxes are always in pixels of the given image.
    """
    if mode not in MODES:
        raise one_of("Selective Search mode", mode, MODES, "propose.proposals.mode")
    small, scale = shrink(image, long_edge)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    getattr(search, MODES[mode])()
    ctypes.CDLL(None).srand(seed & 0xFFFFFFFF)
    boxes = np.asarray(search.process(), np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes * scale
