"""Detections of a whole data set."""

import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from proseco.base import files
from proseco.data.batch import Batch
from proseco.data.loader import ordered_batches
from proseco.data.sources import AnnotatedImages
from proseco.data.views import Transform
from proseco.training import distributed, failures
from proseco.training.devices import autocast

#: Advice where a batch does not fit: a finetuning has it from params.yaml, ``python -m proseco predict`` from options.
_SMALLER = "make batch or images smaller (finetune.predict_batch and views.predict, or --batch and --short-edge)"


def predict(
    detector,
    source: AnnotatedImages,
    view: Transform,
    *,
    batch: int,
    device: torch.device,
    precision: torch.dtype,
    title: str = "predict",
    log: Path | None = None,
) -> np.ndarray:
    """Run the detector over every image. Several processes take the batches in turn; each returns all detections.

    :param view: transform without randomness, :class:`proseco.data.views.FixedView`.
    :param log: CSV file to which a line is appended: images, seconds, images_per_second. The first process writes it.
    :returns: (n, 7) float64 rows: image id, x, y, width, height in pixels of the stored image, score 0..1, category.
    :raises InputError: a batch does not fit a GPU's memory.
    """
    detector.eval()
    numbers = {record["key"]: record["id"] for record in source.records}
    rank, world = distributed.rank(), distributed.world()
    parts, begin = [], time.perf_counter()
    batches = ordered_batches(source, view, batch=batch, device=device, rank=rank, world=world)
    for examples in tqdm(batches, desc=title, unit="batch", mininterval=1.0, leave=False, disable=rank > 0):
        ids = [numbers[key] for key in examples.keys]
        try:
            parts.append(detect(detector, examples, ids, device=device, precision=precision))
        except torch.OutOfMemoryError as error:
            raise failures.too_large(error, title, examples, _SMALLER) from None
    by_process = distributed.gather_values(parts)
    if log is not None and rank == 0:
        _log_speed(log, len(source), time.perf_counter() - begin)
    count = sum(map(len, by_process))
    return np.concatenate([by_process[number % world][number // world] for number in range(count)])


def detect(detector, batch: Batch, numbers: list[int], *, device: torch.device, precision: torch.dtype) -> np.ndarray:
    """Rows as of :func:`predict` for one batch, whose image ids are ``numbers``; the detector is in evaluation mode.

    They are copied from a GPU together, because the host waits for each copy.
    """
    batch = batch.to(device)
    with autocast(device, precision):
        detections = detector.detect(batch.views[0], batch.mask, batch.sizes.to(device))
    columns = [[image["boxes_xyxy"], image["scores"][:, None], image["labels"][:, None]] for image in detections]
    images = [torch.cat([column.double() for column in image], 1) for image in columns]
    values = torch.cat(images).cpu().numpy()
    rows = np.empty((len(values), 7))
    rows[:, 0] = np.repeat(numbers, list(map(len, images)))
    rows[:, 1:3] = values[:, :2]
    rows[:, 3:5] = values[:, 2:4] - values[:, :2]
    rows[:, 5:] = values[:, 4:]
    return rows


def corners(rows: np.ndarray) -> np.ndarray:
    """Boxes of rows as of :func:`predict`, (n, 7) -> (n, 4) xyxy in pixels."""
    return np.concatenate([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], 1)


def _log_speed(log: Path, images: int, seconds: float) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    speed = {"seconds": round(seconds, 3), "images_per_second": round(images / seconds, 2)}
    files.append_csv(log, {"images": images} | speed)
