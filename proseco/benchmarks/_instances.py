"""Reading COCO's JSON, and that of data sets in the same format."""

import posixpath
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
    :param masks: whether to keep the segmentations of objects that have one.
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
    number = {record["original_id"]: record["id"] for record in categories}
    if len(number) < len(categories):
        raise InputError(f"{path.as_posix()!r}: two categories have one id; expected one each")
    objects = _records(path, content, "annotations", lambda record: _annotation(record, number, masks))
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


def _category(record: dict) -> dict:
    return {"id": 0, "name": str(record["name"]), "original_id": int(record["id"])}


def _image(record: dict, folder: str) -> dict:
    return {
        "id": int(record["id"]),
        "key": str(int(record["id"])),
        "file_name": posixpath.normpath(f"{folder}/{record['file_name']}".replace("\\", "/")),
        "width": record["width"],
        "height": record["height"],
    }


def _annotation(record: dict, categories: dict[int, int], masks: bool) -> dict:
    x, y, width, height = map(float, record["bbox"])
    if record["category_id"] not in categories:
        raise ValueError(f"category {record['category_id']!r} is not in 'categories'")
    mask = {"segmentation": _segmentation(record["segmentation"])} if masks and record.get("segmentation") else {}
    return mask | {
        "id": int(record["id"]),
        "image_id": int(record["image_id"]),
        "category_id": categories[record["category_id"]],
        "bbox": [x, y, width, height],
        "area": float(record.get("area", width * height)),
        "iscrowd": int(record.get("iscrowd", 0)),
        "difficult": int(record.get("difficult", 0)),
    }


def _segmentation(value: list | dict) -> list | dict:
    """Polygons or run lengths, checked and unchanged."""
    if isinstance(value, dict):
        height, width = value["size"]
        if not isinstance(value["counts"], str | list) or not height > 0 < width:
            raise ValueError("its segmentation has no counts or no size")
    elif not all(len(polygon) % 2 == 0 and all(map(isfinite, polygon)) for polygon in value):
        raise ValueError("its segmentation is no list of polygons [x, y, x, y, ...]")
    return value
