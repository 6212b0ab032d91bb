"""Searching on a smaller image than the one the boxes are for."""

import cv2
import numpy as np


def shrink(image: np.ndarray, long_edge: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Scale an image down until its longer side has at most ``long_edge`` pixels; None keeps it.

    :returns: the image, and (4,) float32 factors that bring xyxy boxes on it to pixels of the given image.
    """
    height, width = image.shape[:2]
    factor = min(1.0, long_edge / max(height, width)) if long_edge else 1.0
    if factor == 1:
        return image, np.ones(4, np.float32)
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    scale = np.float32([width / small[0], height / small[1]] * 2)
    return cv2.resize(image, small, interpolation=cv2.INTER_AREA), scale
