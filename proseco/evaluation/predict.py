"""Detections of a whole data set."""

import csv
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

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
        examples = examples.to(device)
        with autocast(device, precision):
            found = detector.detect(examples.views[0], examples.mask, examples.sizes.to(device))
        rows = []
        for key, one in zip(examples.keys, found, strict=True):
            boxes = one["boxes_xyxy"].double().cpu().numpy()
            row = np.empty((len(boxes), 7))
            row[:, 0] = numbers[key]
            row[:, 1:3] = boxes[:, :2]
            row[:, 3:5] = boxes[:, 2:] - boxes[:, :2]
            row[:, 5] = one["scores"].double().cpu().numpy()
            row[:, 6] = one["labels"].cpu().numpy()
            rows.append(row)
        mine.append(np.concatenate(rows))
    every = distributed.every(mine)
    if log is not None and rank == 0:
        _note(log, len(source), time.perf_counter() - begin)
    count = sum(map(len, every))
    return np.concatenate([every[number % world][number // world] for number in range(count)])


def _note(log: Path, images: int, seconds: float) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    row = {"images": images, "seconds": round(seconds, 3), "images_per_second": round(images / seconds, 2)}
    with open(log, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
