"""Pascal VOC: ``<root>/VOC<year>/{Annotations,ImageSets/Main,JPEGImages}``, root being the VOCdevkit folder."""

import re
from pathlib import Path
from xml.etree import ElementTree

from proseco.base.errors import InputError, one_of
from proseco.data.annotations import merge

#: The classes of VOC 2007-2012. A data set in VOC's layout with others lists them in ``<root>/classes.txt``.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def load(root: str | Path, subset: str) -> dict:
    """The labels of one or several subsets, as a COCO-format dict (:mod:`proseco.data.annotations`).

    Corners count pixels from 1 and both belong to the box; the dict counts from 0, so x = xmin - 1 and
    w = xmax - xmin + 1. ``difficult`` is kept, ``area`` is w * h. Keys are the official ids; images count from 1.
    Classes are those of ``<root>/classes.txt`` (one name a line) where that file exists, else the 20 official ones:
    never those that happen to occur, so that all subsets number them alike.

    :param subset: ``<year>_<list>``, joined by ``+``: ``"2007_trainval+2012_trainval"``.
    :raises InputError: a folder, list or file that is missing or malformed; the message names it.
    """
    root = Path(root)
    names = _classes(root / "classes.txt")
    number = {name: index for index, name in enumerate(names)}
    categories = [{"id": index, "name": name, "original_id": index + 1} for index, name in enumerate(names)]
    return merge([{**_part(root, part, number), "categories": categories} for part in subset.split("+")])


def _classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return CLASSES
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path.as_posix()!r} lists {len(names)} classes; expected one or more, each once")
    return names


def _part(root: Path, part: str, number: dict[str, int]) -> dict:
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
    keys = sorted(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    images, objects = [], []
    for key in keys:
        source = folder / "Annotations" / f"{key}.xml"
        width, height, found = _read(source, number)
        image = {"id": len(images) + 1, "key": key, "file_name": f"VOC{year}/JPEGImages/{key}.jpg"}
        images.append({**image, "width": width, "height": height})
        for record in found:
            objects.append({"id": len(objects) + 1, "image_id": len(images), **record})
    return {"images": images, "annotations": objects}


def _read(path: Path, number: dict[str, int]) -> tuple[int, int, list[dict]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        # VOC's files declare no entities; those that do can expand to gigabytes or pull in other files.
        if re.search(r"<!(DOCTYPE|ENTITY)", text):
            raise InputError(f"{path.as_posix()!r} declares a DOCTYPE or an entity, which labels need not")
        tree = ElementTree.fromstring(text)
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"is not readable XML: {error}"
        raise InputError(f"{path.as_posix()!r} {reason}; expected VOC's labels of an image") from None
    width, height = (int(_number(tree, f"size/{side}", path, "the image")) for side in ("width", "height"))
    found = []
    # Direct children only: VOC 2012 nests the <part>s of a person, with boxes of their own, inside an <object>.
    for position, element in enumerate(tree.findall("object"), 1):
        place = f"object {position}"
        name = (element.findtext("name") or "").strip()
        if name not in number:
            raise one_of("class", name, number, f"{path.as_posix()}, {place}")
        left, top, right, bottom = (
            _number(element, f"bndbox/{side}", path, place) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
        difficult = element.find("difficult") is not None and _number(element, "difficult", path, place) != 0
        found.append(
            {
                "category_id": number[name],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "difficult": int(difficult),
            }
        )
    return width, height, found


def _number(element: ElementTree.Element, tag: str, path: Path, place: str) -> float:
    text = element.findtext(tag)
    try:
        value = float(text)
        if abs(value) < float("inf"):
            return value
    except (TypeError, ValueError):
        pass
    raise InputError(f"{path.as_posix()!r}: {tag} of {place} is {text!r}; expected a number")
