"""Boxes from files: what another program (SAM, EdgeBoxes, a detector) has found in each image."""

from pathlib import Path

import numpy as np

from proseco.base.errors import InputError
from proseco.data.images import BrokenImage

SUFFIX = ".npy"


def propose(image: np.ndarray, *, seed: int, path: str, root: str) -> np.ndarray:
    """The boxes of ``<root>/<path of the image, without its suffix>.npy``, in their order, clipped to the image; not
    those without area.

    :param path: of the image's file, below the root of its data set: ``train/n01440764/a.JPEG``.
    :param root: the folder of the files: arrays (n, 4) of x0, y0, x1, y1 in pixels of the image as it is seen (turned
        as EXIF says), the best box first.
    :raises BrokenImage: there is no such file; the image is left out.
    :raises InputError: the file holds something else, or a box that lies outside of the image.
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
    boxes = boxes[(boxes[:, 2:] != boxes[:, :2]).all(1)]
    clipped = boxes.clip(0, np.float32([width, height, width, height]))
    outside = (clipped[:, 2:] == clipped[:, :2]).any(1)
    if outside.any():
        raise InputError(
            f"{file.as_posix()!r} has the box {boxes[outside][0].tolist()}, outside of its image of {width} x {height} "
            "pixels; expected x0, y0, x1, y1 in pixels of the image as it is seen"
        )
    return clipped
