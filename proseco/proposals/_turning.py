"""An image turned by 45 degrees, as OpenCV's Selective Search turns it to derive along the diagonals."""

from typing import NamedTuple

import cv2
import numpy as np


class Turned(NamedTuple):
    """An image, the same image turned by 45 degrees, and the way back."""

    image: np.ndarray  # (H, W * 4) uint8, a pixel's planes side by side
    turned: np.ndarray  # (h, w * 4) uint8
    back: np.ndarray  # (2, 3) float32: from pixels of the frame (the image turned back) to those of the turned image
    corner: np.ndarray  # (2,) int64 column and row of the frame at which the image begins
    even: int  # columns of the frame that OpenCV handles in whole vectors; it rounds the rest differently


def turn(image: np.ndarray) -> Turned:
    """Turn an image (H, W, 4) uint8."""
    height, width = image.shape[:2]
    centre = (width / 2, height / 2)
    _, _, wide, high = cv2.RotatedRect(centre, (width, height), 45).boundingRect()
    forth = cv2.getRotationMatrix2D(centre, 45, 1)
    forth[:, 2] += (wide / 2 - centre[0], high / 2 - centre[1])
    turned = cv2.warpAffine(image, forth, (wide, high))
    back = cv2.invertAffineTransform(cv2.getRotationMatrix2D((wide // 2, high // 2), -45, 1))
    corner = np.array([max(0, (wide - width) // 2), max(0, (high - height) // 2)])
    frame = max(wide, corner[0] + width)  # a narrow image is longer than its turned frame
    return Turned(
        image.reshape(height, -1), turned.reshape(high, -1), back.astype(np.float32), corner, frame // 16 * 16
    )
