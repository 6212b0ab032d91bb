"""Detections of a whole data set."""

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
) -> np.ndarray:
    """Run the detector over every image. Several processes take the batches in turn; each returns all detections.

    :param view: transform without chance, :class:`proseco.data.views.FixedView`.
    :returns: (n, 7) float64 rows: image id, x, y, width, height in pixels of the stored image, score 0..1, category.
    """
    detector.eval()
    numbers = {record["key"]: record["id"] for record in source.records}
    rank, world = distributed.rank(), distributed.world()
    mine = []
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
    count = sum(map(len, every))
    return np.concatenate([every[number % world][number // world] for number in range(count)])
