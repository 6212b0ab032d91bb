"""What a data set holds, and its labels held against the image files, which are not decoded unless asked for."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from proseco.data import images
from proseco.data.annotations import check, missing_images, subset

_THREADS = 16  # waiting for disks and networks, not for a core
_NAMED = 10  # files of a kind; a list of thousands hides what else is wrong


def other_sizes(annotations: dict, root: str | Path) -> dict[str, str]:
    """Key -> what is wrong, of each image whose file has no readable header or another size than its record.

    Sizes are those of the upright image, as training reads it: an EXIF rotation swaps the sides. Missing files are
    passed over; :func:`proseco.data.annotations.missing_images` finds them faster.
    """

    return _headers(annotations, root)[0]


def _headers(annotations: dict, root: str | Path) -> tuple[dict[str, str], list[str]]:
    """What is wrong, and the files whose size does not tell whether they were labelled upright or as stored."""
    turned = []

    def look(record: dict) -> str | None:
        wanted = record["width"], record["height"]
        try:
            actual, unclear = images.header(Path(root) / record["file_name"])
        except FileNotFoundError:
            return None
        except images.BrokenImage as reason:
            return f"{record['file_name']}: {reason}; expected an image of {wanted[0]} x {wanted[1]} pixels"
        if actual == wanted:
            if unclear:
                turned.append(record["file_name"])
            return None
        return (
            f"{record['file_name']}: the file is {actual[0]} x {actual[1]} pixels, "
            f"its annotation says {wanted[0]} x {wanted[1]}"
        )

    return _looked_at(annotations["images"], look, "headers"), sorted(turned)


def broken(annotations: dict, root: str | Path, *, decode: bool = False) -> dict[str, str]:
    """Key -> what is wrong, of each image whose file is cut short; see :func:`proseco.data.images.check_complete`.

    :param decode: decode every file, which takes as long as an epoch's reading; else their ends are looked at.
    """

    def look(record: dict) -> str | None:
        try:
            images.check_complete(Path(root) / record["file_name"], inspected=decode)
        except images.BrokenImage as reason:
            return f"{record['file_name']}: {reason}"
        return None

    return _looked_at(annotations["images"], look, "decoding" if decode else "ends of files")


def _looked_at(records: list[dict], look: Callable[[dict], str | None], title: str) -> dict[str, str]:
    with ThreadPoolExecutor(_THREADS) as pool:
        results: Iterable = pool.map(look, records)
        results = tqdm(results, total=len(records), desc=title, unit="image", leave=False, disable=None)
        return {record["key"]: wrong for record, wrong in zip(records, results, strict=True) if wrong is not None}


def drop_other_sizes(annotations: dict, root: str | Path, *, source: str) -> tuple[dict, list[str]]:
    """Leave out the images whose file contradicts its record: where their boxes belong is not known.

    :returns: the dict without them, and what was left out, in a line or none.
    """
    wrong = other_sizes(annotations, root)
    if not wrong:
        return annotations, []
    note = f"{source}: left out {len(wrong)} of {len(annotations['images'])} images, first {next(iter(wrong.values()))}"
    return subset(annotations, [r["key"] for r in annotations["images"] if r["key"] not in wrong]), [note]


def clean(annotations: dict, root: str | Path, *, source: str, drop: bool) -> tuple[dict, list[str]]:
    """What a benchmark's plug-in gives, checked, and what was changed in it, a line each.

    :param source: its name, for messages.
    :param drop: leave out the images of another size, see :func:`drop_other_sizes`.
    :raises InputError: the labels contradict themselves, see :func:`proseco.data.annotations.refuse`.
    """
    checked, notes = check(annotations, source=source)
    if drop:
        checked, more = drop_other_sizes(checked, root, source=source)
        notes += more
    return checked, notes


@dataclass(frozen=True)
class Report:
    """What a subset holds and what is wrong with it."""

    #: Title -> number.
    facts: dict[str, float]
    #: On boxes that were changed and images that are left out.
    notes: list[str]
    #: What a training would stumble on.
    errors: list[str]
    #: As stage split draws from them.
    labels: dict


def describe(
    annotations: dict,
    root: str | Path,
    *,
    source: str,
    limit: int | None = None,
    drop: bool = False,
    decode: bool = False,
) -> Report:
    """Look at a subset: its labels, and its image files.

    :param annotations: as a benchmark's plug-in gives it, not yet checked.
    :param source: its name, for messages.
    :param limit: look at the files of that many images only, evenly spaced; None: of all. All records are looked at.
    :param drop: stage split leaves out images of another size, so they are no error.
    :param decode: decode the files, see :func:`broken`.
    :raises InputError: the labels contradict themselves, see :func:`proseco.data.annotations.refuse`.
    """
    cleaned, notes = check(annotations, source=source)
    boxes = {record["id"]: record["bbox"] for record in annotations["annotations"]}
    objects, records = cleaned["annotations"], cleaned["images"]
    counts = np.bincount([record["category_id"] for record in objects], minlength=len(cleaned["categories"]))
    counts = counts if len(counts) else np.zeros(1, int)
    looked_at = len(records) if limit is None else min(limit, len(records))
    rows = np.linspace(0, len(records) - 1, looked_at).astype(int) if looked_at else []
    sample = {**cleaned, "images": [records[row] for row in rows]}
    missing, (other, turned) = missing_images(sample, root), _headers(sample, root)
    named = {*missing, *(record["file_name"] for record in sample["images"] if record["key"] in other)}
    rest = [record for record in sample["images"] if record["file_name"] not in named]
    cut = broken({**sample, "images": rest}, root, decode=decode)
    facts = {
        "images": len(records),
        "images without objects": len(records) - len({record["image_id"] for record in objects}),
        "objects": len(objects),
        "crowds": sum(record["iscrowd"] for record in objects),
        "difficult": sum(record["difficult"] for record in objects),
        "boxes clipped": sum(record["bbox"] != boxes[record["id"]] for record in objects),
        "boxes dropped": len(boxes) - len(objects),
        "classes": len(cleaned["categories"]),
        "classes without objects": len(cleaned["categories"]) - int((counts > 0).sum()),
        "objects a class, least": int(counts.min()),
        "objects a class, median": float(np.median(counts)),
        "objects a class, most": int(counts.max()),
        **_masks(objects),
        "files looked at": looked_at,
        "files missing": len(missing),
        "files of another size": len(other),
        "files cut short or broken": len(cut),
    }
    if turned:
        how_many = f"{source}: EXIF turns or mirrors {len(turned)} of {looked_at} images, first {turned[0]}"
        notes = [*notes, f"{how_many}; boxes are taken to be of the upright image"]
    errors = [] if records else [f"{source}: there is no image; expected one or more"]
    if missing:
        where = Path(root).as_posix()
        errors.append(f"{source}: {len(missing)} of {looked_at} image files are not in {where!r}{first_few(missing)}")
    if other:
        wrong = f"{source}: {len(other)} of {looked_at} images are not what their records say"
        advice = "" if drop else " (drop_other_sizes: true leaves them out)"
        (notes if drop else errors).append(wrong + advice + first_few(other.values()))
    if cut:
        errors.append(
            f"{source}: {len(cut)} of {looked_at} image files are cut short or broken{first_few(cut.values())}"
        )
    if drop:
        cleaned = subset(cleaned, [record["key"] for record in records if record["key"] not in other])
    return Report(facts, notes, errors, cleaned)


def _masks(objects: list[dict]) -> dict[str, int]:
    """How many objects have a mask, and how many of these are learned: those of images whose every object has one."""
    kept = [record for record in objects if not record["iscrowd"]]
    without = {record["image_id"] for record in kept if not record.get("segmentation")}
    learned = sum(record["image_id"] not in without for record in kept)
    return {"masks": sum(bool(record.get("segmentation")) for record in kept), "masks to learn": learned}


def first_few(lines: Iterable[str]) -> str:
    """The first few, a line each below what is said of all."""
    lines = list(lines)
    more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    return "".join(f"\n  {line}" for line in [*lines[:_NAMED], *more])
