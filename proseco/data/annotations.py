"""The COCO-format dict: the one shape in which every benchmark's labels travel.

::

    {"images":      [{"id": int, "key": str, "file_name": str, "width": int, "height": int}],
     "annotations": [{"id": int, "image_id": int, "category_id": int, "bbox": [x, y, w, h], "area": float,
                      "iscrowd": 0 | 1, "difficult": 0 | 1, "segmentation": polygons or run lengths}],
     "categories":  [{"id": int, "name": str, "original_id": int}]}

``key`` is the data set's own name of the image, as id files hold it; ``file_name`` is a POSIX path relative to the
data set's root; ``bbox`` is in pixels, counted from 0; category ids are 0..C-1. Images and annotations are sorted by
id, and images without objects are kept. ``segmentation``, COCO's own, is there only where a benchmark's labels have
masks and keep them.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from proseco.base.errors import InputError
from proseco.base.files import listing_digest

#: Pixels that a box may reach outside its image before it counts as outside: x + w is a rounded sum.
SLACK = 1e-6
#: Image ids lie between minus this and this: detections hold them as float64, in which larger ones lose digits.
IDS = 2**53
_SIDES = 2**31  # pixels


def check(annotations: dict, *, source: str) -> tuple[dict, list[str]]:
    """Refuse labels that contradict themselves, clip boxes to their images and drop those without area.

    :param source: the file or subset, for messages.
    :returns: the cleaned dict (the argument is left alone), and what was changed, one line each.
    :raises InputError: see :func:`refuse`.
    """
    refuse(annotations, source=source)
    return _inside(annotations, source)


def refuse(annotations: dict, *, source: str) -> None:
    """Refuse labels that contradict themselves.

    :raises InputError: an id, key or file twice, an image id beyond ``IDS``, an unknown category or image, a size that
        is not finite, or is negative; boxes that are not in pixels.
    """
    images, objects, categories = (annotations[part] for part in ("images", "annotations", "categories"))
    for what, records, field in (
        ("image", images, "id"),
        ("image", images, "key"),
        ("image", images, "file_name"),  # else one file could be among the training and the test images
        ("category", categories, "id"),
        ("annotation", objects, "id"),
    ):
        twice = _first_twice(record[field] for record in records)
        if twice is not None:
            raise InputError(f"{source}: two {what} records have the {field} {twice!r}; expected one each")
    for image in images:
        if not (isinstance(image["id"], int) and abs(image["id"]) < IDS):
            raise InputError(
                f"{source}: image {image['key']!r} has the id {image['id']!r}; expected a whole number below 2**53"
            )
        width, height = image["width"], image["height"]
        if not all(isinstance(side, int) and 0 < side < _SIDES for side in (width, height)):
            raise InputError(
                f"{source}: image {image['key']!r} has size {width!r} x {height!r}; "
                f"expected whole numbers above 0 and below {_SIDES:,}"
            )
    shown, known = {image["id"] for image in images}, {category["id"] for category in categories}
    for record in objects:
        if record["image_id"] not in shown:
            raise InputError(
                f"{source}: annotation {record['id']} is of image {record['image_id']!r}; "
                f"expected one of the {len(shown)} ids in 'images'"
            )
        if record["category_id"] not in known:
            raise InputError(
                f"{source}: annotation {record['id']} has category {record['category_id']!r}; "
                f"expected one of the {len(known)} ids in 'categories'"
            )
        for flag in ("iscrowd", "difficult"):
            if record[flag] not in (0, 1):
                raise InputError(f"{source}: annotation {record['id']} has {flag} {record[flag]!r}; expected 0 or 1")
    boxes, areas = _arrays(objects)
    wrong = ~np.isfinite(boxes).all(1) | ~np.isfinite(areas) | (boxes[:, 2:] < 0).any(1) | (areas < 0)
    if wrong.any():
        record = objects[int(wrong.argmax())]
        raise InputError(
            f"{source}: annotation {record['id']} has bbox {record['bbox']} and area {record['area']}; "
            "expected finite numbers [x, y, width, height], and neither sizes nor area below 0"
        )
    ends = (boxes[:, :2] + boxes[:, 2:])[(boxes[:, 2:] > 0).all(1)]
    if len(ends) and (ends < 1.5).all():  # not 1: shares are rounded
        raise InputError(f"{source}: no box reaches beyond the first pixel; expected pixels, not shares of the image")


def _arrays(objects: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    boxes = np.array([record["bbox"] for record in objects], dtype=np.float64).reshape(-1, 4)
    return boxes, np.array([record["area"] for record in objects], dtype=np.float64)


def _first_twice(values: Iterable):
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _inside(annotations: dict, source: str) -> tuple[dict, list[str]]:
    objects = annotations["annotations"]
    boxes, _ = _arrays(objects)
    images = {image["id"]: image for image in annotations["images"]}
    sizes = {number: (image["width"], image["height"]) for number, image in images.items()}
    limits = np.array([sizes[record["image_id"]] for record in objects], dtype=np.float64).reshape(-1, 2)
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    low, high = np.clip(start, 0, limits), np.clip(end, 0, limits)
    outside = ((low - start > SLACK) | (end - high > SLACK)).any(1)
    empty = (high <= low).any(1)
    cleaned = list(objects)
    for row in np.flatnonzero(outside & ~empty):
        width, height = (high[row] - low[row]).tolist()
        cleaned[row] = {
            **objects[row],
            "bbox": [*low[row].tolist(), width, height],
            "area": min(objects[row]["area"], width * height),
        }
    notes = []
    for verb, rows in (("clipped {} to the image", outside & ~empty), ("dropped {} without area", empty)):
        if rows.any():
            count = int(rows.sum())
            what = verb.format(f"{count} box{'es' if count > 1 else ''}")
            first = objects[int(rows.argmax())]
            place = f"annotation {first['id']} of image {images[first['image_id']]['key']!r}"
            notes.append(f"{source}: {what}, first {place}")
    remaining = [record for record, gone in zip(cleaned, empty.tolist(), strict=True) if not gone]
    return {**annotations, "annotations": remaining}, notes


def check_classes(train: dict, test: dict, *, source: str) -> None:
    """Refuse a training and a test subset whose classes differ: a number would stand for another class in each.

    :raises InputError: it names the classes that only one of them has, or says that the order differs.
    """
    ours, theirs = ([category["name"] for category in part["categories"]] for part in (train, test))
    if ours != theirs:
        only = [name for name in [*ours, *theirs] if (name in ours) != (name in theirs)]
        what = f"{', '.join(only[:5])} in only one of them" if only else "the same in another order"
        raise InputError(f"{source}: training and test labels have different classes, {what}; expected one list")


def subset(annotations: dict, keys: Iterable[str]) -> dict:
    """The dict with only these images and their objects; categories stay.

    :raises InputError: a key that no image has.
    """
    wanted = set(keys)
    images = [image for image in annotations["images"] if image["key"] in wanted]
    if len(images) < len(wanted):
        unknown = sorted(wanted - {image["key"] for image in images})
        raise InputError(
            f"{len(unknown)} of {len(wanted)} ids of the id list are not among the {len(annotations['images'])} images "
            f"of the data set: {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}"
        )
    ids = {image["id"] for image in images}
    objects = [record for record in annotations["annotations"] if record["image_id"] in ids]
    return {**annotations, "images": images, "annotations": objects}


def without_masks(annotations: dict) -> dict:
    """The dict without segmentations, as validation and test need none."""
    objects = [{k: v for k, v in record.items() if k != "segmentation"} for record in annotations["annotations"]]
    return {**annotations, "annotations": objects}


def merge(parts: list[dict]) -> dict:
    """One dict of several with the same categories; images and annotations are numbered anew from 1, in this order.

    :raises InputError: categories differ, or two images have one key.
    """
    categories = parts[0]["categories"]
    images, objects = [], []
    for part in parts:
        if part["categories"] != categories:
            raise InputError("data sets with different categories cannot be merged")
        renamed = {}
        for image in part["images"]:
            renamed[image["id"]] = len(images) + 1
            images.append({**image, "id": len(images) + 1})
        for record in part["annotations"]:
            objects.append({**record, "id": len(objects) + 1, "image_id": renamed[record["image_id"]]})
    twice = _first_twice(image["key"] for image in images)
    if twice is not None:
        raise InputError(f"image {twice!r} is in two of the data sets to merge; expected different images")
    return {"images": images, "annotations": objects, "categories": categories}


def instances(annotations: dict, *, description: str) -> dict:
    """COCO's instances format, for other programs: categories have their original ids again.

    ``difficult`` is kept as a key of ours beside ``iscrowd``; ``key`` as one of the images.
    """
    original = {category["id"]: category["original_id"] for category in annotations["categories"]}
    return {
        "info": {"description": description},
        "images": annotations["images"],
        "annotations": [{**r, "category_id": original[r["category_id"]]} for r in annotations["annotations"]],
        "categories": [{"id": c["original_id"], "name": c["name"]} for c in annotations["categories"]],
    }


def missing_images(annotations: dict, root: str | Path) -> list[str]:
    """``file_name`` of the images that are not below ``root``.

    Each folder is listed once: to ask for each file takes minutes on network file systems.
    """
    listings: dict[str, set[str]] = {}
    missing = []
    for image in annotations["images"]:
        folder, _, name = image["file_name"].rpartition("/")
        if folder not in listings:
            path = Path(root) / folder
            listings[folder] = set(os.listdir(path)) if path.is_dir() else set()
        if name not in listings[folder]:
            missing.append(image["file_name"])
    return missing


class FileSizes(dict):
    """Name of a file below a root -> its size in bytes; the disk is asked once for each."""

    def __init__(self, root: str | Path):
        super().__init__()
        self.root = Path(root)

    def __missing__(self, name: str) -> int:
        self[name] = (self.root / name).stat().st_size
        return self[name]


def image_files(annotations: dict, sizes: FileSizes) -> str:
    """One line: number of image files, their bytes, and a digest of their names and sizes."""
    rows = [(name, sizes[name]) for name in sorted({image["file_name"] for image in annotations["images"]})]
    return f"{len(rows)} images, {sum(size for _, size in rows)} bytes, {listing_digest(rows)}\n"


def check_objects(annotations: dict, *, source: str, scored: bool = False) -> None:
    """Refuse labels in which there is nothing to learn or, if they are scored, nothing to find.

    :param scored: do not count difficult objects, which AP ignores.
    :raises InputError: no image has an object, crowds left out.
    """
    ignored = ("iscrowd", "difficult") if scored else ("iscrowd",)
    if not any(all(not record[key] for key in ignored) for record in annotations["annotations"]):
        apart = "crowds and difficult ones" if scored else "crowds"
        raise InputError(f"{source}: none of {len(annotations['images'])} images shows an object, {apart} left out")


def check_images(annotations: dict, root: str | Path, *, source: str) -> None:
    """Refuse labels whose image files are not there.

    :raises InputError: it names the first file, or its folder, and says how many are missing.
    """
    missing = missing_images(annotations, root)
    if missing:
        first = Path(root) / missing[0]
        what = first if first.parent.is_dir() else first.parent
        raise InputError(
            f"{len(missing)} of {len(annotations['images'])} image files of {source} are missing, "
            f"the first is {first.as_posix()!r}" + (f": no folder {what.as_posix()!r}" if what != first else "")
        )
