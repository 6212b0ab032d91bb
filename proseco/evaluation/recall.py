"""What proposals are worth before any training: the share of labelled objects that they cover.

Recall at k boxes and an IoU t: of all objects in the images, crowds left out, the share that one of the first k boxes
of their image overlaps by t or more. The baseline is as many random boxes in each image.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import joblib
import numpy as np
from pycocotools import mask as coco
from tqdm import tqdm

from proseco import pictures
from proseco.base import environment, files
from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.data.annotations import subset
from proseco.data.images import BrokenImage
from proseco.data.reader import ShardReader
from proseco.data.sample import Sample, evenly_spaced
from proseco.data.sources import AnnotatedImages
from proseco.proposals import random

IOUS = (0.5, 0.7)
COUNTS = (1, 3, 10, 30, 100, 300, 1000)
BASELINE = "as many at random"
#: The baseline where no source has boxes for all images.
ALONE = "100 at random"


def run(
    *,
    sources: dict[str, Callable[..., np.ndarray]],
    benchmarks: dict[str, tuple[dict, Path]],
    shards: dict[str, Path],
    out: Path,
    images: int,
    seed: int,
) -> str:
    """Write ``recall.csv``, and of each folder of shards a picture ``proposals/<name>.png``, into the folder ``out``.

    :param sources: see :func:`measure`; ``images`` and ``seed`` likewise.
    :param benchmarks: name -> annotations of its test images and the root of its data set.
    :returns: recall with all boxes, one line per benchmark and source.
    """
    done: list[tuple[tuple, list[dict]]] = []  # (annotations, root) and their rows
    rows = []
    for name, content in benchmarks.items():
        # Mini-COCO 1 % and 5 % have the same test images.
        measured = next((earlier for other, earlier in done if other == content), None)
        if measured is None:
            measured = measure(*content, sources, images=images, seed=seed, title=name)
            done.append((content, measured))
        rows += [{"benchmark": name} | row for row in measured]
    out.mkdir(parents=True, exist_ok=True)
    files.write_csv(out / "recall.csv", rows[0], rows)
    for name, folder in shards.items():
        picture(ShardReader(folder), out / "proposals" / f"{name}.png")
    known = {(row["benchmark"], row["source"]) for row in rows}
    unknown = [pair for pair in product(benchmarks, sources) if pair not in known]
    lines = [
        f"{row['benchmark']}: {row['source']} covers {float(row['recall']):.1%} of {row['objects']} objects at IoU "
        f"{row['iou']} with {row['boxes_per_image']} boxes an image"
        for row in rows
        if row["boxes"] == "all"
    ]
    lines += [f"{name}: {source} lacks boxes of test images, so its recall is not known" for name, source in unknown]
    return "\n".join(lines)


def measure(
    annotations: dict,
    root: Path,
    sources: dict[str, Callable[..., np.ndarray]],
    *,
    images: int,
    seed: int,
    title: str = "",
) -> list[dict]:
    """Recall of sources of boxes, and of the baseline.

    :param sources: name -> ``(image, *, key, path) -> boxes_xyxy`` (:func:`proseco.data.proposing.find`), ranked. One
        that raises :class:`~proseco.data.images.BrokenImage`, as it has no boxes for an image, is left out.
    :param images: at most that many, evenly spaced among those that show an object.
    :param seed: of the baseline, which has as many boxes as the first source that is not left out.
    :param title: of the progress bar.
    :returns: rows ``source``, ``iou``, ``boxes`` (a count or ``all``), ``recall`` (four decimals), ``objects``,
        ``images``, ``boxes_per_image``.
    :raises InputError: no image shows an object, or one cannot be read.
    """
    shown = {record["image_id"] for record in annotations["annotations"] if not record["iscrowd"]}
    keys = [image["key"] for image in annotations["images"] if image["id"] in shown]
    if not keys:
        raise InputError(f"no test image of {title or root} shows an object: there is no recall to measure")
    chosen = subset(annotations, [keys[i] for i in evenly_spaced(len(keys), images)])
    count = len(chosen["images"])
    workers = environment.workers()
    results = joblib.Parallel(n_jobs=-1 if workers is None else max(1, workers), return_as="generator")(
        joblib.delayed(_cover)(one, root, sources, seed) for one in _single(chosen)
    )
    by_image = list(tqdm(results, desc=f"recall {title}", total=count, unit="image", mininterval=1.0, leave=False))
    whole = [name for name in sources if all(name in found for found, _ in by_image)]
    measured = {name: [found[name] for found, _ in by_image] for name in whole}
    first = whole[0] if whole else None
    measured[BASELINE if whole else ALONE] = [chance[first] for _, chance in by_image]
    rows = []
    for name, by_image in measured.items():
        ranks = np.concatenate([ranks for ranks, _ in by_image], 1)
        boxes = [number for _, number in by_image]
        about = {"objects": ranks.shape[1], "images": count, "boxes_per_image": round(sum(boxes) / count, 1)}
        for iou, rank in zip(IOUS, ranks, strict=True):
            for limit in (*COUNTS, "all"):
                covered = np.isfinite(rank) if limit == "all" else rank <= limit
                rows.append({"source": name, "iou": iou, "boxes": limit, "recall": f"{covered.mean():.4f}"} | about)
    return rows


def _single(annotations: dict) -> Iterator[dict]:
    """A dict of each image: all of them would travel with every task."""
    objects: dict[int, list] = {image["id"]: [] for image in annotations["images"]}
    for record in annotations["annotations"]:
        objects[record["image_id"]].append(record)
    for image in annotations["images"]:
        yield {**annotations, "images": [image], "annotations": objects[image["id"]]}


def _cover(
    annotations: dict, root: Path, sources: dict[str, Callable[..., np.ndarray]], seed: int
) -> tuple[dict, dict]:
    """Source of boxes -> :func:`first_cover` of the one image, and its number of boxes; and the same of as many at
    random, for each source, and for None of the baseline's own number.
    """
    cv2.setNumThreads(1)  # one image per core
    sample, path = AnnotatedImages(annotations, root)[0], annotations["images"][0]["file_name"]
    by_source = {}
    for name, find in sources.items():
        with suppress(BrokenImage):
            by_source[name] = find(sample.image, key=sample.key, path=path)
    counts = {name: {"count": len(boxes)} for name, boxes in by_source.items()} | {None: {}}
    draw = partial(random.propose, sample.image, seed=derive_seed(seed, "recall", sample.key))
    chance = {name: draw(**count) for name, count in counts.items()}

    def cover(drawn: dict) -> dict:
        return {name: (first_cover(boxes, sample.boxes_xyxy), len(boxes)) for name, boxes in drawn.items()}

    return cover(by_source), cover(chance)


def first_cover(boxes_xyxy: np.ndarray, objects_xyxy: np.ndarray) -> np.ndarray:
    """Rank of the first box that covers each object, for each of IOUS.

    :param boxes_xyxy: (n, 4), best first; ``objects_xyxy`` (m, 4).
    :returns: (len(IOUS), m) float64: 1 for the first box, infinity if none covers the object.
    """
    if not len(boxes_xyxy) or not len(objects_xyxy):
        return np.full((len(IOUS), len(objects_xyxy)), np.inf)
    overlaps = coco.iou(_xywh(objects_xyxy), _xywh(boxes_xyxy), [0] * len(boxes_xyxy))  # (m, n)
    enough = overlaps >= np.array(IOUS)[:, None, None]
    return np.where(enough.any(-1), enough.argmax(-1) + 1.0, np.inf)


def _xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    boxes = boxes_xyxy.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def picture(reader: ShardReader, path: Path, *, images: int = 5, counts: tuple[int, ...] = (3, 10, 30)) -> None:
    """The first boxes of evenly spaced samples: one column per image, one row per number of boxes.

    The best box is on top, and a box has the same colour in all rows.
    """
    samples = [reader[i] for i in evenly_spaced(len(reader), images)]
    side = pictures.cell_side(images)

    def drawn(sample: Sample, count: int) -> np.ndarray:
        boxes = sample.boxes_xyxy[:count]
        return pictures.draw_boxes(sample.image, boxes[::-1], color=pictures.colors(len(boxes))[::-1], at_most=side)

    rows = [[drawn(sample, count) for sample in samples] for count in counts]
    pictures.contact_sheet(rows, path, [f"first {count} boxes" for count in counts])
