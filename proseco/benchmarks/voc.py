"""Pascal VOC: ``<root>/VOC<year>/{Annotations,ImageSets/Main,JPEGImages}``; the root is the VOCdevkit folder."""

import re
from pathlib import Path

from proseco.base.errors import InputError, one_of
from proseco.benchmarks import _xml
from proseco.data.annotations import merge

#: The classes of VOC 2007-2012. A data set of other classes in VOC's layout lists them in ``<root>/classes.txt``.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def load(root: str | Path, subset: str) -> dict:
    """The labels of one or several subsets, as a COCO-format dict (:mod:`proseco.data.annotations`).

    ``difficult`` is kept, ``area`` is w * h. Keys are the official ids; image ids count from 1. Classes are those of
    ``<root>/classes.txt`` (one name per line) where that file exists, else the 20 official ones. They are never those
    that happen to occur, so that all subsets number them alike.

    :param subset: ``<year>_<list>``, joined by ``+``: ``"2007_trainval+2012_trainval"``.
    :raises InputError: a folder, list or file that is missing or malformed; the message names it.
    """
    root = Path(root)
    names = _xml.classes(root / "classes.txt") or CLASSES
    return merge([_part(root, part, names) for part in subset.split("+")])


def _part(root: Path, part: str, names: tuple[str, ...]) -> dict:
    year, _, name = part.partition("_")
    folder = root / f"VOC{year}"
    lists = folder / "ImageSets" / "Main"
    if not re.fullmatch(r"\d+_\w+", part):
        raise InputError(f"voc has no subset {part!r}; expected <year>_<list>, such as 2007_trainval")
    if not lists.is_dir():
        raise InputError(f"no folder {lists.as_posix()!r}, where benchmark voc expects the lists of {part!r}")
    path = lists / f"{name}.txt"
    if not path.is_file():
        raise one_of("subset", part, (f"{year}_{file.stem}" for file in lists.glob("*.txt")), f"voc, {lists}")
    number = {name: row for row, name in enumerate(names)}
    return _xml.labels(
        names,
        [
            (key, f"VOC{year}/JPEGImages/{key}.jpg", _xml.read(folder / "Annotations" / f"{key}.xml", number))
            for key in _xml.listed(path)
        ],
    )
