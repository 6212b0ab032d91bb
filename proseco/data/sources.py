"""Sources of samples other than shards: annotated images and folders of classes."""

from pathlib import Path

import numpy as np

from proseco.base import files
from proseco.base.errors import InputError
from proseco.data import images, masks
from proseco.data.sample import Sample


class AnnotatedImages:
    """The images of a COCO-format dictionary with their boxes. Crowds are left out, difficult objects are kept."""

    def __init__(self, annotations: dict, root: str | Path, *, difficult: bool = True, outlines: bool = False):
        """
        :param root: folder that ``file_name`` is relative to.
        :param difficult: whether objects marked difficult (VOC) are given.
        :param outlines: whether samples have their objects' outlines: those of images whose every object has one.
        :raises InputError: there is no image, or the first one is not on disk.
        """
        self.annotations, self.root = annotations, Path(root)
        self.records = annotations["images"]
        if not self.records:
            raise InputError("the annotations list no image")
        first = self.root / self.records[0]["file_name"]
        if not first.exists():
            raise InputError(f"no image {str(first)!r}; is the data set's root right (scales.<scale>.roots)?")
        rows: dict[int, list] = {record["id"]: [] for record in self.records}
        self.outlines = {record["id"]: [] for record in self.records} if outlines else {}
        for entry in annotations["annotations"]:
            if not entry["iscrowd"] and (difficult or not entry["difficult"]):
                x, y, w, h = entry["bbox"]
                rows[entry["image_id"]].append((x, y, x + w, y + h, entry["category_id"]))
                if outlines:
                    self.outlines[entry["image_id"]].append(masks.outlines(entry.get("segmentation", ())))
        self.rows = {key: np.array(row, np.float64).reshape(-1, 5) for key, row in rows.items()}

    def __len__(self) -> int:
        return len(self.records)

    def key(self, number: int) -> str:
        """Key of a sample, without reading it."""
        return self.records[number]["key"]

    def size(self, number: int) -> tuple[int, int]:
        """Width and height of a sample's image, without reading it."""
        record = self.records[number]
        return record["width"], record["height"]

    def __getitem__(self, number: int) -> Sample:
        record = self.records[number]
        image = images.read(self.root / record["file_name"])
        if image.shape[:2] != (record["height"], record["width"]):
            raise InputError(
                f"{record['file_name']}: the image is {image.shape[1]} x {image.shape[0]} pixels, "
                f"its annotation says {record['width']} x {record['height']} (drop_other_sizes: true of the benchmark "
                "leaves such images out)"
            )
        rows = self.rows[record["id"]]
        outlines = self.outlines.get(record["id"])
        known = outlines if outlines and all(outlines) else None
        return Sample(record["key"], image, rows[:, :4].astype(np.float32), rows[:, 4].astype(np.int64), known)


class ClassFolders:
    """ImageNet's layout: ``<root>/train/<class>/*``; labels count the sorted class folders."""

    def __init__(self, root: str | Path):
        """:raises InputError: there is no class folder with an image."""
        self.root = Path(root) / "train"
        self.paths = [path for path, _ in files.list_files(self.root, images.SUFFIXES) if "/" in path]
        if not self.paths:
            raise InputError(f"no class folders with images in {str(self.root)!r}")
        self.classes = sorted({path.split("/")[0] for path in self.paths})
        self._number = {name: i for i, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Sample:
        path = self.paths[number]
        label = np.array([self._number[path.split("/")[0]]], np.int64)
        return Sample(path, images.read(self.root / path), np.zeros((0, 4), np.float32), label)
