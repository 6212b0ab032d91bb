"""Reading COCO's JSON, and that of data sets in the same format."""

import posixpath
import re
from math import isfinite
from pathlib import Path

from proseco.base.errors import InputError, one_of
from proseco.base.files import read_json
from proseco.data.annotations import refuse


def find(folder: Path, subset: str, *, prefix: str, benchmark: str) -> Path:
    """``<folder>/<prefix><subset>.json``.

    :raises InputError: it is missing; the message lists the subsets that are there, or the file expected.
    """
    path = folder / f"{prefix}{subset}.json"
    if path.is_file():
        return path
    subsets = [file.stem.removeprefix(prefix) for file in folder.glob(f"{prefix}*.json")]
    if subsets:
        raise one_of("subset", subset, subsets, f"{benchmark}, {folder}")
    raise InputError(f"no file {path.as_posix()!r}, where benchmark {benchmark} expects the labels of {subset!r}")


def read(path: Path, *, folder: str, masks: bool = False) -> dict:
    """The COCO-format dict of an instances file.

    Category ids become 0..C-1 in the order of the file's own ids. ``area``, ``iscrowd`` and ``difficult`` may be absent
    and are then w * h, 0 and 0.

    :param folder: the folder that ``file_name`` entries are relative to, itself relative to the data set's root.
    :param masks: whether to keep the segmentations of objects that have one; run lengths must
        be of their image's size.
    :raises InputError: the file is not JSON or lacks a part, or a record is malformed or contradicts another; the
        message names the file and the record.
    """
    content = read_json(path)
    for part in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise InputError(f"{path.as_posix()!r} has no list {part!r}; expected COCO's instances format")
    categories = sorted(_records(path, content, "categories", _category), key=lambda record: record["original_id"])
    for number, record in enumerate(categories):
        record["id"] = number
    images = _records(path, content, "images", lambda record: _image(record, folder))
    sizes = {record["id"]: [record["height"], record["width"]] for record in images} if masks else None
    number = {record["original_id"]: record["id"] for record in categories}
    if len(number) < len(categories):
        raise InputError(f"{path.as_posix()!r}: two categories have one id; expected one each")
    objects = _records(path, content, "annotations", lambda record: _annotation(record, number, sizes))
    labels = {
        "images": sorted(images, key=lambda record: record["id"]),
        "annotations": sorted(objects, key=lambda record: record["id"]),
        "categories": categories,
    }
    refuse(labels, source=repr(path.as_posix()))
    return labels


def _records(path: Path, content: dict, part: str, convert) -> list[dict]:
    """The records of a part, converted.

    :raises InputError: a record cannot be; the message names it.
    """
    records = []
    for position, record in enumerate(content[part]):
        try:
            records.append(convert(record))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            problem = f"lacks {error}" if isinstance(error, KeyError) else f"is malformed ({error})"
            name = f" (id {record['id']!r})" if isinstance(record, dict) and "id" in record else ""
            raise InputError(f"{path.as_posix()!r}: {part}[{position}]{name} {problem}") from None
    return records


def _whole(record: dict, key: str) -> int:
    """A whole number, as an integer, as a float or as text: programs write all three."""
    value = record[key]
    digits = isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value)
    integral = isinstance(value, float) and value.is_integer()
    if digits or integral or (isinstance(value, int) and not isinstance(value, bool)):
        return int(value)
    raise ValueError(f"its {key} is {value!r}; expected a whole number")


def _category(record: dict) -> dict:
    return {"id": 0, "name": str(record["name"]), "original_id": _whole(record, "id")}


def _image(record: dict, folder: str) -> dict:
    number, name = _whole(record, "id"), record["file_name"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"its file_name is {name!r}; expected the name of a file")
    return {
        "id": number,
        "key": str(number),
        "file_name": posixpath.normpath(f"{folder}/{name}".replace("\\", "/")),
        "width": record["width"],
        "height": record["height"],
    }


def _annotation(record: dict, categories: dict[int, int], sizes: dict[int, list] | None) -> dict:
    """:param sizes: image -> height and width, where masks are kept."""
    x, y, width, height = map(float, record["bbox"])
    category = _whole(record, "category_id")
    if category not in categories:
        raise ValueError(f"category {category} is not in 'categories'")
    image, kept = _whole(record, "image_id"), {}
    if sizes is not None and record.get("segmentation"):
        kept = {"segmentation": _segmentation(record["segmentation"], sizes.get(image))}
    return kept | {
        "id": _whole(record, "id"),
        "image_id": image,
        "category_id": categories[category],
        "bbox": [x, y, width, height],
        "area": float(record.get("area", width * height)),
        "iscrowd": int(int(record.get("iscrowd", 0)) != 0),
        "difficult": int(int(record.get("difficult", 0)) != 0),
    }


def _segmentation(value: list | dict, size: list | None) -> list | dict:
    """Polygons or run lengths, checked and unchanged.

    :param size: height and width of the image; None if there is no such image, which others report.
    """
    if isinstance(value, dict):
        (height, width), counts = value["size"], value["counts"]
        if size is not None and [height, width] != size:
            raise ValueError(
                f"its segmentation has the size {[height, width]}; expected {size}, the image's height, width"
            )
        runs = _run_lengths(counts) if isinstance(counts, str) else counts
        numbers = isinstance(runs, list) and all(isinstance(run, int | float) for run in runs)
        whole = numbers and all(run >= 0 and run % 1 == 0 for run in runs)
        if not whole or sum(runs) != height * width:  # of too few pycocotools decodes what lies in memory
            raise ValueError(f"its segmentation's counts must be whole numbers from 0 with the sum {height} x {width}")
    elif not all(len(polygon) % 2 == 0 and all(map(isfinite, polygon)) for polygon in value):
        raise ValueError("its segmentation is no list of polygons [x, y, x, y, ...]")
    return value


def _run_lengths(text: str) -> list[int]:
    """Of COCO's compressed form: five bits a character, the lowest first; from the fourth number on it is the
    difference to the last but one.
    """
    runs, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"its segmentation has counts with the character {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # its last character; a 16 in it is the sign
            value -= (bits & 16) << 1 << shift - 5
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value, shift = 0, 0
    if shift:
        raise ValueError("its segmentation has counts that end within a number")
    return runs
