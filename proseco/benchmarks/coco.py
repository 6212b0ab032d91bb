"""MS-COCO: ``<root>/annotations/instances_<subset>.json`` and ``<root>/<subset>/*.jpg``."""

from pathlib import Path

from proseco.benchmarks import _instances


def load(root: str | Path, subset: str, *, masks: bool = False) -> dict:
    """The labels of a subset such as ``train2017``, as a COCO-format dict (:mod:`proseco.data.annotations`).

    Keys are the image ids (``"139"``). The official categories, 1..90 with gaps, are renumbered 0..79 in their order.

    :param masks: whether to keep the objects' masks, for detectors that learn them.
    :raises InputError: no such subset, or a file that cannot be read.
    """
    path = _instances.find(Path(root) / "annotations", subset, prefix="instances_", benchmark="coco")
    return _instances.read(path, folder=subset, masks=masks)
