"""Where the demo's pictures lie and how their labels are written: the official layouts of COCO, VOC and FSOD."""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np

from proseco.base.files import write_json, write_text
from proseco.demo.scenes import Thing
from proseco.demo.shapes import DETECTION, KINDS

#: Category ids of the demo's COCO: with gaps, as the official ones have.
COCO_IDS = (1, 2, 4, 5, 7, 9, 10, 13)
#: In VOC, an object of which a smaller share is visible is ``difficult``.
DIFFICULT_BELOW = 0.5


class Label(NamedTuple):
    """The labels of one object. Pixels count from 0, far edges are exclusive; ``area`` is of visible pixels."""

    kind: int
    box_xyxy: tuple[int, int, int, int]
    area: int
    polygons: list[list[float]]
    visible: float
    cut: bool


class Drawn(NamedTuple):
    """A picture on disk: its path below the demo's folder, its size in pixels and its labels."""

    path: str
    width: int
    height: int
    labels: list[Label]


def describe(path: str, image: np.ndarray, things: list[Thing]) -> Drawn:
    """A picture ``(H, W, 3)`` and its objects -> its record for :func:`write_labels`, without masks."""
    labels = [
        Label(thing.kind, thing.box_xyxy, int(thing.mask.sum()), _polygons(thing), thing.visible, thing.cut)
        for thing in things
    ]
    return Drawn(path, image.shape[1], image.shape[0], labels)


def _polygons(thing: Thing) -> list[list[float]]:
    """Outlines ``[x, y, x, y, ...]`` of the visible part; holes are filled, as COCO's polygons have none."""
    x0, y0, x1, y1 = thing.box_xyxy
    fine = 4  # contours run through the centres of pixels; on a finer raster these are close to the edges
    mask = np.repeat(np.repeat(thing.mask[y0:y1, x0:x1].astype(np.uint8), fine, axis=0), fine, axis=1)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for contour in contours:
        simple = cv2.approxPolyDP(contour, fine / 2, True)
        points = (simple if len(simple) > 2 else contour).reshape(-1, 2)
        polygons.append(((points + 0.5) / fine + (x0, y0)).ravel().tolist())
    return polygons


def wnid(kind: int) -> str:
    """Folder of the single objects of a kind, in the style of ImageNet's."""
    return f"n{90000001 + kind}"


def imagenet_path(index: int) -> str:
    """Path of a single-object picture; it shows kind ``index % 12``."""
    number, kind = divmod(index, len(KINDS))
    return f"imagenet/train/{wnid(kind)}/{wnid(kind)}_{number + 1}.JPEG"


def detection_paths(
    *, coco_train: int, coco_val: int, voc_trainval: int, voc_test: int, fsod_train: int, fsod_test: int
) -> dict[str, list[str]]:
    """Subset -> paths below the demo's folder. COCO's ids have gaps, VOC 2007's count through both of its subsets."""
    first = voc_trainval - voc_trainval // 2
    return {
        "coco_train2017": [f"coco/train2017/{9 + 25 * index:012d}.jpg" for index in range(coco_train)],
        "coco_val2017": [f"coco/val2017/{139 + 25 * index:012d}.jpg" for index in range(coco_val)],
        "voc_2007_trainval": [_voc_path(2007, f"{index + 1:06d}") for index in range(first)],
        "voc_2007_test": [_voc_path(2007, f"{first + index + 1:06d}") for index in range(voc_test)],
        "voc_2012_trainval": [_voc_path(2012, f"2012_{index + 1:06d}") for index in range(voc_trainval - first)],
        "fsod_train": [f"fsod/images/part_1/train_{index + 1:06d}.jpg" for index in range(fsod_train)],
        "fsod_test": [f"fsod/images/part_1/test_{index + 1:06d}.jpg" for index in range(fsod_test)],
    }


def _voc_path(year: int, name: str) -> str:
    return f"voc/VOC{year}/JPEGImages/{name}.jpg"


def write_labels(out: Path, drawn: dict[str, list[Drawn]]) -> None:
    """Write all label files and class lists.

    :param drawn: subset -> its pictures, in the order of :func:`detection_paths`.
    """
    write_text(out / "imagenet/classes.txt", "".join(f"{wnid(k)} {kind.name}\n" for k, kind in enumerate(KINDS)))
    write_text(out / "voc/classes.txt", "".join(f"{kind.name}\n" for kind in KINDS[:DETECTION]))
    coco = dict(enumerate(COCO_IDS))
    for split in ("train2017", "val2017"):
        numbered = [
            (int(Path(picture.path).stem), Path(picture.path).name, picture) for picture in drawn[f"coco_{split}"]
        ]
        content = _instances(numbered, coco, f"demo in COCO's layout, {split}")
        write_json(out / f"coco/annotations/instances_{split}.json", content, indent=None)
    for part, kinds in (("train", range(DETECTION)), ("test", range(DETECTION, len(KINDS)))):
        pictures = enumerate(drawn[f"fsod_{part}"], 1)
        numbered = [(number, picture.path.removeprefix("fsod/images/"), picture) for number, picture in pictures]
        content = _instances(
            numbered, {kind: row for row, kind in enumerate(kinds, 1)}, f"demo in FSOD's layout, {part}"
        )
        write_json(out / f"fsod/annotations/fsod_{part}.json", content, indent=None)
    for year, subset in ((2007, "trainval"), (2007, "test"), (2012, "trainval")):
        pictures = drawn[f"voc_{year}_{subset}"]
        folder = out / f"voc/VOC{year}"
        for picture in pictures:
            write_text(folder / f"Annotations/{Path(picture.path).stem}.xml", _voc_xml(picture, year))
        names = "".join(f"{Path(picture.path).stem}\n" for picture in pictures)
        write_text(folder / f"ImageSets/Main/{subset}.txt", names)


def _instances(numbered: list[tuple[int, str, Drawn]], ids: dict[int, int], description: str) -> dict:
    """COCO's instances format with all of its fields.

    :param numbered: (image id, ``file_name``, picture).
    :param ids: row of ``KINDS`` -> category id.
    """
    urls = {"coco_url": "", "flickr_url": "", "date_captured": "2017-01-01 00:00:00", "license": 1}
    images, annotations = [], []
    for image_id, file_name, picture in numbered:
        images.append(
            {"id": image_id, "file_name": file_name, "width": picture.width, "height": picture.height, **urls}
        )
        for label in picture.labels:
            x0, y0, x1, y1 = label.box_xyxy
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[label.kind],
                    "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                    "area": float(label.area),
                    "segmentation": label.polygons,
                    "iscrowd": 0,
                }
            )
    return {
        "info": {
            **{"description": description, "version": "1.0", "year": 2017, "contributor": "", "url": ""},
            **{"date_created": "2017/01/01"},
        },
        "licenses": [{"id": 1, "name": "generated, free of rights", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": KINDS[kind].name, "supercategory": "object"} for kind, number in ids.items()
        ],
    }


def _voc_xml(picture: Drawn, year: int) -> str:
    """VOC's labels of one picture. Corners count pixels from 1, and both lie inside the box."""
    root = ElementTree.Element("annotation")
    _fill(root, {"folder": f"VOC{year}", "filename": Path(picture.path).name})
    source = {"database": "demo", "annotation": f"PASCAL VOC{year}", "image": "generated"}
    _fill(ElementTree.SubElement(root, "source"), source)
    size = {"width": picture.width, "height": picture.height, "depth": 3}
    _fill(ElementTree.SubElement(root, "size"), size)
    _fill(root, {"segmented": 0})
    for label in picture.labels:
        element = ElementTree.SubElement(root, "object")
        flags = {"truncated": int(label.cut), "difficult": int(label.visible < DIFFICULT_BELOW)}
        _fill(element, {"name": KINDS[label.kind].name, "pose": "Unspecified", **flags})
        x0, y0, x1, y1 = label.box_xyxy
        corners = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
        _fill(ElementTree.SubElement(element, "bndbox"), corners)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _fill(element: ElementTree.Element, values: dict) -> None:
    for tag, value in values.items():
        ElementTree.SubElement(element, tag).text = str(value)
