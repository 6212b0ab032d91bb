"""Any data set with a COCO json: ``subset`` is the path of the json below ``root``; its images lie nearby."""

import posixpath
from pathlib import Path

from proseco.base.errors import InputError, one_of
from proseco.benchmarks import _instances

_LOOKED_FOR = 10  # images, of which some may be missing


def load(root: str | Path, subset: str, *, images: str | None = None, masks: bool = False) -> dict:
    """The labels of a file such as ``train/_annotations.coco.json``, as a COCO-format dict. Keys are the image ids.

    :param images: folder below ``root`` that the json's ``file_name`` entries are relative to. None to search for it:
        the json's own folder, then the one above, and in each ``images``, ``<name>`` and ``images/<name>``, where the
        json is ``<name>.json`` or ``instances_<name>.json``. The first that has one of ten images is taken.
    :param masks: whether to keep the objects' masks, for detectors that learn them.
    :raises InputError: no such file, one that cannot be read, or no folder with its images.
    """
    root = Path(root)
    path = root / subset
    if not path.is_file():
        jsons = sorted({file.relative_to(root).as_posix() for file in [*root.glob("*.json"), *root.glob("*/*.json")]})
        if not jsons:
            raise InputError(f"no json in {root.as_posix()!r} or its folders, of which {subset!r} should be one")
        raise one_of("file", subset, jsons, f"coco_json, {root.as_posix()}")
    if images is not None:
        return _instances.read(path, folder=images, masks=masks)
    labels = _instances.read(path, folder=".", masks=masks)
    folder = _folder(root, path, labels["images"])
    for image in labels["images"]:
        image["file_name"] = posixpath.normpath((folder / image["file_name"]).as_posix())
    return labels


def _folder(root: Path, path: Path, images: list[dict]) -> Path:
    """Where the images lie, relative to the root."""
    here = path.parent.relative_to(root)
    name = path.stem.removeprefix("instances_")
    near = [here] if here == here.parent else [here, here.parent]
    folders = [base / part for base in near for part in (".", "images", name, f"images/{name}")]
    for folder in folders:
        if not images or any((root / folder / image["file_name"]).is_file() for image in images[:_LOOKED_FOR]):
            return folder
    tried = ", ".join(folder.as_posix() for folder in folders)
    raise InputError(
        f"{path.as_posix()!r}: no image {images[0]['file_name']!r} in {tried} of {root.as_posix()!r}; "
        "say where with the key 'images' of the benchmark"
    )
