"""FSOD (Fan et al., 2020): ``<root>/annotations/fsod_{train,test}.json`` and ``<root>/images/part_{1,2}/...``."""

import re
from pathlib import Path

from proseco.benchmarks import _instances


def load(root: str | Path, subset: str) -> dict:
    """The labels of ``fsod_train`` (800 classes) or ``fsod_test`` (200 others), as a COCO-format dict.

    The two parts share no class, so each is split on its own (rule ``cover`` of :mod:`proseco.splits`). Keys are the
    image ids. Of file names only ``part_<n>/...`` is used, as copies of the release differ in what stands before it
    (``images/``, ``all_images/``, a path on the authors' machine). Areas are those of the boxes, as the release has no
    masks and its converter writes a constant.

    :raises InputError: no such subset, or a file that cannot be read.
    """
    path = _instances.find(Path(root) / "annotations", subset, prefix="", benchmark="fsod")
    labels = _instances.read(path, folder="images")
    folder = "all_images" if (Path(root) / "all_images").is_dir() else "images"
    for image in labels["images"]:
        image["file_name"] = re.sub(r"^.*?(?=part_\d+/)", f"{folder}/", image["file_name"])
    for record in labels["annotations"]:
        record["area"] = record["bbox"][2] * record["bbox"][3]
    return labels
