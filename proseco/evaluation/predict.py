"""Detections of a whole data set."""

import csv
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from proseco.data.batch import Batch
from proseco.data.loader import ordered_batches
from proseco.data.sources import AnnotatedImages
from proseco.training import distributed
from proseco.training.devices import autocast


def predict(
    detector,
    source: AnnotatedImages,
    view,
    *,
    batch: int,
    device: torch.device,
    precision: torch.dtype,
    title: str = "predict",
    log: Path | None = None,
) -> np.ndarray:
    """Run the detector over every image. Several processes take the batches in turn; each returns all detections.

    :param view: transform without chance, :class:`proseco.data.views.FixedView`.
    :param log: CSV file, which gets a line: images, seconds, images_per_second. Of several processes the first writes.
    :returns: (n, 7) float64 rows: image id, x, y, width, height in pixels of the stored image, score 0..1, category.
    """
    detector.eval()
    numbers = {record["key"]: record["id"] for record in source.records}
    rank, world = distributed.rank(), distributed.world()
    mine, begin = [], time.perf_counter()
    batches = ordered_batches(source, view, batch=batch, device=device, rank=rank, world=world)
    for examples in tqdm(batches, desc=title, unit="batch", mininterval=1.0, leave=False, disable=rank > 0):
        ids = [numbers[key] for key in examples.keys]
        mine.append(detect(detector, examples, ids, device=device, precision=precision))
    every = distributed.gather_values(mine)
    if log is not None and rank == 0:
        _note(log, len(source), time.perf_counter() - begin)
    count = sum(map(len, every))
    return np.concatenate([every[number % world][number // world] for number in range(count)])


def detect(detector, batch: Batch, numbers: list[int], *, device: torch.device, precision: torch.dtype) -> np.ndarray:
    """Rows of a batch, as of :func:`predict`, by a detector in evaluation mode; ``numbers`` are the ids of its images.

    From a GPU all come together: each copy of its own would be waited for.
    """
    batch = batch.to(device)
    with autocast(device, precision):
        found = detector.detect(batch.views[0], batch.mask, batch.sizes.to(device))
    columns = [[one["boxes_xyxy"], one["scores"][:, None], one["labels"][:, None]] for one in found]
    images = [torch.cat([column.double() for column in image], 1) for image in columns]
    values = torch.cat(images).cpu().numpy()
    rows = np.empty((len(values), 7))
    rows[:, 0] = np.repeat(numbers, list(map(len, images)))
    rows[:, 1:3] = values[:, :2]
    rows[:, 3:5] = values[:, 2:4] - values[:, :2]
    rows[:, 5:] = values[:, 4:]
    return rows


def _note(log: Path, images: int, seconds: float) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    row = {"images": images, "seconds": round(seconds, 3), "images_per_second": round(images / seconds, 2)}
    with open(log, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
