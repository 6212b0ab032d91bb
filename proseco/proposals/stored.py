"""Boxes from files: what another program (SAM, EdgeBoxes, a detector) has found in each image."""

from pathlib import Path

import numpy as np

from proseco.base.errors import InputError
from proseco.data.images import BrokenImage

SUFFIX = ".npy"
#: Pixels that a box may reach outside of its image, as rounding brings about.
MARGIN = 1.0


def propose(image: np.ndarray, *, seed: int, path: str, root: str) -> np.ndarray:
    """The boxes of ``<root>/<path of the image, without its suffix>.npy``, in their order, clipped to the image.

    :param path: of the image's file, below the root of its data set: ``train/n01440764/a.JPEG``.
    :param root: the folder of the files: arrays (n, 4) of x0, y0, x1, y1 in pixels of the image as it is seen (turned
        as EXIF says), the best box first.
    :raises BrokenImage: there is no such file; the image is left out.
    :raises InputError: the file holds something else, or a box that reaches outside of the image.
    """
    below = Path(path).with_suffix(SUFFIX)
    file = Path(root) / below
    try:
        with open(file, "rb") as opened:
            boxes = np.lib.format.read_array(opened, allow_pickle=False)
    except FileNotFoundError:
        raise BrokenImage(f"no boxes are stored for it: no {below.as_posix()!r}") from None  # equal on every machine
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file.as_posix()!r}: {error}") from None
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        about = f"{boxes.dtype} {boxes.shape}"
        raise InputError(f"{file.as_posix()!r} holds {about}; it must be an array (n, 4) of x0, y0, x1, y1 in pixels")
    height, width = image.shape[:2]
    boxes = boxes.astype(np.float32)
    clipped = boxes.clip(0, np.float32([width, height, width, height]))
    if (abs(boxes - clipped) > MARGIN).any():  # NaN is left to whoever calls
        wrong = boxes[(abs(boxes - clipped) > MARGIN).any(1)][0].tolist()
        raise InputError(
            f"{file.as_posix()!r} has the box {wrong}, outside of its image of {width} x {height} pixels; expected "
            "x0, y0, x1, y1 in pixels of the image as it is seen"
        )
    return clipped
