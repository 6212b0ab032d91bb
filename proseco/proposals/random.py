"""Random boxes: stage recall's baseline, which Selective Search has to beat."""

import numpy as np


def propose(image: np.ndarray, *, seed: int, count: int = 100, min_side: float = 0.05) -> np.ndarray:
    """``count`` boxes with uniformly drawn sides and positions.

    :param min_side: smallest side, as a share of the image's.
    """
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    side = rng.uniform(min_side, 1, (count, 2))
    corner = rng.uniform(size=(count, 2)) * (1 - side)
    boxes = np.concatenate([corner, corner + side], 1) * [width, height, width, height]
    return boxes.astype(np.float32)
