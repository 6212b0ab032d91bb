"""``predict``: detections in images of one's own, in COCO's results format (docs/weights.md)."""

import json
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from proseco.base import files
from proseco.base.errors import InputError
from proseco.benchmarks import _instances
from proseco.commands import _pictures
from proseco.data import images as pixels
from proseco.data import verify
from proseco.data.annotations import check_images
from proseco.data.sample import Sample

_STEM = 200  # bytes of an image's name in that of its picture; with its number it must stay below 256

# Importing torch takes seconds, which --help and a misspelt option need not: it is imported where it is used.


def main(
    file: Path,
    *images: str,
    out: Path,
    labels: Path | None = None,
    limit: int = 100,
    pictures: Path | None = None,
    threshold: float = 0.3,
    short_edge: int | None = None,
    long_edge: int | None = None,
    batch: int | None = None,
    network: str | None = None,
    heads: int | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> None:
    """Find objects in images with a finetuned detector, or with a public Deformable DETR that has a class head.

    :param file: checkpoint of the detector.
    :param images: folders and image files.
    :param out: the ``.json``: COCO's results, with the names of files and classes beside their numbers.
    :param labels: a COCO json of images in the one folder: these alone are looked at, and detections have its numbers
        of images and classes, so that they can be scored. Without it images are numbered from 1.
    :param limit: detections of an image, at most.
    :param pictures: a new folder, for each image with its detections.
    :param threshold: the least score of a detection in the pictures.
    :param short_edge: pixels that images are scaled to; else as the detector was scored.
    :param long_edge: the most pixels of the other edge; no limit where the short edge alone is given.
    :param batch: images at a time; else as the detector was scored.
    :param network: which of the file's networks, where it has several.
    :param heads: of attention, where the file does not tell.
    :param device: auto, cpu or cuda.
    :param precision: auto, float32 or bfloat16.
    :raises InputError: nothing to detect with, or in; an output would replace what is none.
    """
    from proseco.data.views import FixedView
    from proseco.evaluation.predict import predict
    from proseco.runs import trained
    from proseco.training import devices

    _refuse(out, pictures, labels)
    asked = {"short_edge": short_edge, "long_edge": long_edge, "batch": batch}
    for name, value in {**asked, "limit": limit}.items():
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value}; it must be a whole number above 0")
    known = _instances.read(labels, folder=".") if labels else None
    records = _labelled(images, labels, known) if known else _listed(images)
    _refuse_broken(records)
    source = _Images(records)
    torch_device = devices.pick_device(device, "--device")
    dtype = devices.pick_precision(precision, torch_device, "--precision")
    detector = trained.load(file, network=network, heads=heads)
    view = {"long_edge": None, "batch": 1, **detector.scored, **({"long_edge": None} if short_edge else {})}
    view |= {key: value for key, value in asked.items() if value is not None}
    if "short_edge" not in view:
        raise InputError(f"{str(file)!r} does not say at which size it was scored; give --short-edge and --long-edge")
    names, ids = detector.names, detector.category_ids
    if known:
        names, ids = _as_labelled(names, ids, known["categories"], labels)
    with ExitStack() as stack:
        part = stack.enter_context(files.replacing(out))
        with files.explaining_write_errors(out, 0, "name another file"):  # now, not after hours
            part.touch()
        if pictures:
            drawn = stack.enter_context(files.replacing(pictures))
            with files.explaining_write_errors(pictures, 0, "name another folder"):
                drawn.mkdir()
        devices.prepare(torch_device)
        detector.model.detect = partial(detector.model.detect, limit=limit)
        options = {"batch": view.pop("batch"), "device": torch_device, "precision": dtype, "title": "detect"}
        rows = predict(detector.model.to(torch_device), source, FixedView(**view), **options)
        _write(part, rows, source.records, names, ids)
        if pictures:
            _draw(drawn, rows[rows[:, 5] >= threshold], source, names)
    most = f", a long one of at most {view['long_edge']}" if view["long_edge"] else ""
    print(f"{out}: {len(rows)} detections in {len(source)} images, seen at a short edge of {view['short_edge']}{most}")


def _refuse(out: Path, pictures: Path | None, labels: Path | None) -> None:
    if out.is_dir():
        raise InputError(f"--out {str(out)!r} is a folder; expected the name of a file")
    if out.suffix != ".json" or (labels and out.absolute() == labels.absolute()):
        raise InputError(f"--out {str(out)!r} is of detections; give it the name of a .json of their own")
    _pictures.refuse_used(pictures)


def _refuse_broken(records: list[dict]) -> None:
    """All files that are cut short or no image, before hours of detecting; those broken in their middle come later."""
    entries = [{"key": record["key"], "file_name": record["path"].as_posix()} for record in records]
    broken = verify.broken({"images": entries}, "")
    if broken:
        raise InputError(f"{len(broken)} of {len(records)} images cannot be read{verify.first_few(broken.values())}")


def _listed(images: tuple[str, ...]) -> list[dict]:
    """Records of the images; ``file_name`` is relative to the folder if only one is given, and else as it was given."""
    file_names: dict[Path, str] = {}
    for place in map(Path, images):
        if place.is_dir():
            names = [name for name, _ in files.list_files(place, pixels.SUFFIXES)]
            if not names:
                raise InputError(f"no image in {str(place)!r} ({', '.join(pixels.SUFFIXES)})")
            file_names |= {place / name: name if len(images) == 1 else (place / name).as_posix() for name in names}
        elif place.is_file():
            file_names[place] = place.as_posix()
        else:
            raise InputError(f"no image or folder {str(place)!r}")
    paths = enumerate(file_names.items(), 1)
    return [{"id": n, "key": str(n), "path": path, "file_name": name} for n, (path, name) in paths]


def _labelled(images: tuple[str, ...], labels: Path, known: dict) -> list[dict]:
    folder = Path(images[0])
    if len(images) > 1 or not folder.is_dir():
        raise InputError(f"--labels {str(labels)!r} are of one folder; {', '.join(images[:3])} is not one")
    if not known["images"]:
        raise InputError(f"--labels {str(labels)!r} lists no image")
    check_images(known, folder, source=str(labels))
    return [record | {"path": folder / record["file_name"]} for record in known["images"]]


def _as_labelled(names: list[str], ids: list[int], categories: list[dict], labels: Path) -> tuple[list[str], list[int]]:
    """Names and numbers of the classes as in the labels, matched by name, or by number if the detector has no names."""
    theirs = {category["original_id"]: category["name"] for category in categories}
    names = [theirs.get(i, name) if name == f"LABEL_{i}" else name for name, i in zip(names, ids, strict=True)]
    numbers = {name: number for number, name in theirs.items()}
    strange = [name for name in names if name not in numbers and not name.startswith("LABEL_")]
    if strange:
        raise InputError(f"--labels {str(labels)!r} has no class {strange[0]!r}, which the detector was trained on")
    # Its own number where that is of the name: two classes may have one name.
    return names, [i if theirs.get(i) == name else numbers.get(name, i) for name, i in zip(names, ids, strict=True)]


class _Images:
    """Images read as training reads them. Those cut short, which training would pad with grey, are refused."""

    def __init__(self, records: list[dict]):
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Sample:
        path = self.records[number]["path"]
        try:
            data = path.read_bytes()
            pixels.inspect(data)
        except (OSError, pixels.BrokenImage, MemoryError) as error:
            raise InputError(f"cannot read image {str(path)!r}: {str(error) or 'there is too little memory'}") from None
        image = pixels.decode(data, str(path))
        return Sample(self.records[number]["key"], image, np.zeros((0, 4), np.float32))


def _write(path: Path, rows: np.ndarray, records: list[dict], names: list[str], ids: list[int]) -> None:
    """One line per detection, written one by one: there may be millions."""
    places = {record["id"]: record["file_name"] for record in records}
    with open(path, "w", encoding="utf-8") as file:
        file.write("[")
        for count, (number, x, y, width, height, score, label) in enumerate(rows.tolist()):
            detection = {"image_id": int(number), "file_name": places[number], "category_id": ids[int(label)]}
            detection |= {"category": names[int(label)], "bbox": [x, y, width, height], "score": score}
            file.write(("," if count else "") + "\n" + json.dumps(detection))
        file.write("\n]\n")


def _draw(folder: Path, rows: np.ndarray, source: _Images, names: list[str]) -> None:
    """Write ``<image id>_<name>.jpg`` for each image; every class has its colour."""
    from PIL import Image
    from tqdm import tqdm

    from proseco.evaluation.predict import corners
    from proseco.pictures import colors, draw_boxes

    palette = colors(len(names))
    for number, record in enumerate(tqdm(source.records, desc="draw", unit="image", mininterval=1.0, leave=False)):
        shown = rows[rows[:, 0] == record["id"]]
        labels = shown[:, 6].astype(int)
        words = {"labels": [names[label] for label in labels], "scores": shown[:, 5].tolist()}
        canvas = draw_boxes(source[number].image, corners(shown), color=[palette[label] for label in labels], **words)
        stem = os.fsencode(Path(record["file_name"]).stem)[:_STEM].decode("utf-8", "ignore")
        Image.fromarray(canvas).save(folder / f"{record['id']}_{stem}.jpg", quality=90)
