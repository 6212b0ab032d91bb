"""FSOD (Fan et al., 2020): ``<root>/annotations/fsod_{train,test}.json`` and ``<root>/images/<file_name>``."""

from pathlib import Path

from proseco.benchmarks import _coco_json


def load(root: str | Path, subset: str) -> dict:
    """The labels of ``fsod_train`` (800 classes) or ``fsod_test`` (200 others), as a COCO-format dict.

    The two parts share no class, so each is split on its own (rule ``cover`` of :mod:`proseco.splits`).
    Keys are the image ids; file names keep the folder part that the JSON gives them.

    :raises InputError: no such subset, or a file that cannot be read.
    """
    path = _coco_json.find(Path(root) / "annotations", subset, prefix="", benchmark="fsod")
    return _coco_json.read(path, folder="images")
