"""The demo's data: generated pictures in the official layouts of ImageNet, COCO, Pascal VOC and FSOD.

A picture depends on (seed, data set, index) alone, so any number of workers writes equal bytes. What the pictures look
like is in :mod:`proseco.demo.scenes`. Two things to know before reading results:

* the folder of labelled single objects has all twelve kinds of object, among them the eight of the detection data sets:
  a backbone trained on it has seen the shapes, one by one, that the detectors are to find;
* the unlabelled scenes, COCO and VOC are drawn by one recipe with the same eight kinds. FSOD's two parts share none:
  ``fsod_train`` has these eight, ``fsod_test`` the other four.
"""

import os
from pathlib import Path
from typing import NamedTuple

import cv2
import joblib
import numpy as np
from tqdm import tqdm

from proseco.base.errors import InputError
from proseco.base.files import replacing
from proseco.base.randomness import generator
from proseco.demo import layouts
from proseco.demo.scenes import Thing, scene
from proseco.demo.shapes import DETECTION, KINDS

#: One picture in ``EMPTY_EVERY`` shows no object, in each subset first that of index ``EMPTY_FIRST``.
EMPTY_EVERY, EMPTY_FIRST = 24, 5
_CHUNK = 64  # pictures per task: enough to hide the cost of a task, few enough to share evenly
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


class Picture(NamedTuple):
    """A picture to draw: ``index`` within ``data_set``, ``side`` in pixels, ``path`` below the output folder."""

    data_set: str
    index: int
    side: int
    path: str


def draw(seed: int, data_set: str, index: int, side: int) -> tuple[np.ndarray, list[Thing]]:
    """One picture, ``(H, W, 3)`` uint8 RGB, and its objects from the rearmost to the foremost.

    Scenes are ``side`` x ``side``, but one in eight has three quarters of the height, one in eight of the width.

    :param data_set: ``imagenet`` (one object, of kind ``index % 12``), else the name of a subset of scenes.
    """
    rng = generator(seed, "demo", data_set, index)
    if data_set == "imagenet":
        return scene(rng, side, side, kinds=[index % len(KINDS)], count=1, radius=(0.26, 0.42), spread=0.22)
    kinds = range(DETECTION, len(KINDS)) if data_set == "fsod_test" else range(DETECTION)
    short = side * 3 // 4
    height, width = {2: (short, side), 6: (side, short)}.get(index % 8, (side, side))
    count = 0 if index % EMPTY_EVERY == EMPTY_FIRST else int(rng.integers(1, 6))
    return scene(rng, height, width, kinds=kinds, count=count)


def write(
    out: str | Path,
    *,
    seed: int,
    side: int,
    object_side: int,
    scenes: int,
    objects: int,
    coco_train: int,
    coco_val: int,
    voc_trainval: int,
    voc_test: int,
    fsod_train: int,
    fsod_test: int,
    workers: int | None = None,
) -> None:
    """Write the demo's data sets below ``out``.

    ``imagenet/`` (labelled single objects and ``classes.txt``), ``scenes/`` (unlabelled), ``coco/``, ``voc/`` (a
    VOCdevkit folder with ``classes.txt``) and ``fsod/``. Boxes bound the visible part of an object; in VOC, an object
    of which less than half is visible is ``difficult``.

    :param side: longer side of a scene, in pixels.
    :param object_side: side of a single-object picture, in pixels.
    :param scenes: number of unlabelled scenes.
    :param objects: number of single-object pictures. The other numbers, too, are pictures per subset; ``voc_trainval``
        is divided between two years.
    :param workers: processes; None for one per core.
    :raises InputError: a number is out of bounds, or ``out`` is not empty.
    """
    _check(seed=seed, side=side, object_side=object_side, workers=workers, scenes=scenes, objects=objects)
    counts = {
        **{"coco_train": coco_train, "coco_val": coco_val, "voc_trainval": voc_trainval, "voc_test": voc_test},
        **{"fsod_train": fsod_train, "fsod_test": fsod_test},
    }
    _check(**counts)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"the demo is written into a new folder, and {str(out)!r} is not empty")
    paths = {
        "imagenet": [layouts.imagenet_path(index) for index in range(objects)],
        "scenes": [f"scenes/train/part_{index // 500:03d}/scene_{index:06d}.JPEG" for index in range(scenes)],
        **layouts.detection_paths(**counts),
    }
    pictures = [
        Picture(name, index, object_side if name == "imagenet" else side, path)
        for name, subset in paths.items()
        for index, path in enumerate(subset)
    ]
    records = iter(_draw_all(out, seed, pictures, workers or joblib.cpu_count()))
    drawn = {name: [next(records) for _ in subset] for name, subset in paths.items()}
    layouts.write_labels(out, drawn)


#: Bounds of what :func:`write` takes; else 1 to 10**6. At least one single object per class, one picture per VOC year.
_BOUNDS = {"seed": (0, 2**63 - 1), "side": (32, 1024), "object_side": (32, 1024), "workers": (1, 1024)}
_LEAST = {"objects": len(KINDS), "voc_trainval": 2}


def _check(**values) -> None:
    for name, value in values.items():
        if name == "workers" and value is None:
            continue
        low, high = _BOUNDS.get(name, (_LEAST.get(name, 1), 10**6))
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{name} of the demo's data must be a whole number from {low} to {high}, not {value!r}")


def _draw_all(out: Path, seed: int, pictures: list[Picture], workers: int) -> list[layouts.Drawn]:
    chunks = [pictures[start : start + _CHUNK] for start in range(0, len(pictures), _CHUNK)]
    for folder in sorted({os.path.dirname(picture.path) for picture in pictures}):
        (out / folder).mkdir(parents=True, exist_ok=True)
    tasks = (joblib.delayed(_draw_chunk)(out, seed, chunk) for chunk in chunks)
    results = []
    with tqdm(total=len(pictures), desc="drawing the demo", unit="image", disable=None) as bar:
        for records in joblib.Parallel(n_jobs=min(workers, len(chunks)), return_as="generator")(tasks):
            results += records
            bar.update(len(records))
    return results


def _draw_chunk(out: Path, seed: int, pictures: list[Picture]) -> list[layouts.Drawn]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # pictures are small, and there are as many processes as cores
    try:
        return [_draw_one(out, seed, picture) for picture in pictures]
    finally:
        cv2.setNumThreads(threads)


def _draw_one(out: Path, seed: int, picture: Picture) -> layouts.Drawn:
    image, things = draw(seed, picture.data_set, picture.index, picture.side)
    encoded, data = cv2.imencode(".jpg", image[..., ::-1], _JPEG)
    if not encoded:
        raise RuntimeError(f"OpenCV cannot encode {picture.path}")
    with replacing(out / picture.path) as part:
        part.write_bytes(data.tobytes())
    labelled = picture.data_set not in ("imagenet", "scenes")
    return layouts.describe(picture.path, image, things if labelled else [])
