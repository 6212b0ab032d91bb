"""Batches: which samples, in which order, with which randomness, padded to one size."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from proseco.base.errors import InputError
from proseco.base.randomness import generator
from proseco.data.views import Example


@dataclass
class Batch:
    """B images in V views of one frame each.

    ``views`` (V, B, 3, H, W) uint8, 0 on padding; ``mask`` (B, H, W) bool, True on padding; ``boxes`` per image (n, 4)
    float32 cxcywh relative to the image (not the padding); ``labels`` per image (n,); ``sizes`` (B, 2) width and height
    of the stored images in pixels.
    """

    keys: list[str]
    views: Tensor
    mask: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> "Batch":
        """A copy on the device."""
        return replace(
            self,
            views=self.views.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            boxes=[b.to(device, non_blocking=True) for b in self.boxes],
            labels=[c.to(device, non_blocking=True) for c in self.labels],
        )

    def targets(self) -> list[dict]:
        """Per image ``boxes`` and ``labels``, as detectors' losses take them."""
        return [{"boxes": b, "labels": c} for b, c in zip(self.boxes, self.labels, strict=True)]


def collate(examples: list[Example]) -> Batch:
    """Pad to the largest height and width of the batch, at the right and at the bottom."""
    height = max(e.views[0].shape[0] for e in examples)
    width = max(e.views[0].shape[1] for e in examples)
    views = np.zeros((len(examples[0].views), len(examples), height, width, 3), np.uint8)
    mask = np.ones((len(examples), height, width), bool)
    for i, example in enumerate(examples):
        h, w = example.views[0].shape[:2]
        mask[i, :h, :w] = False
        for v, view in enumerate(example.views):
            views[v, i, :h, :w] = view
    return Batch(
        keys=[e.key for e in examples],
        views=torch.from_numpy(views).permute(0, 1, 4, 2, 3),
        mask=torch.from_numpy(mask),
        boxes=[torch.from_numpy(e.boxes_cxcywh) for e in examples],
        labels=[torch.from_numpy(e.labels) for e in examples],
        sizes=torch.tensor([e.size for e in examples]),
    )


class _Examples(Dataset):
    """``dataset[epoch, number]``: an example whose randomness is that of (seed, epoch, key)."""

    def __init__(self, source, transform: Callable, seed: int):
        self.source, self.transform, self.seed = source, transform, seed

    def __getitem__(self, where: tuple[int, int]) -> Example:
        cv2.setNumThreads(0)  # processes are the parallelism; threads of OpenCV would fight with torch's
        epoch, number = where
        sample = self.source[number]
        return self.transform(sample, generator(self.seed, "views", epoch, sample.key))


class _Schedule:
    """The (epoch, number) of each batch: a permutation an epoch, from the seed; an incomplete last batch is dropped."""

    def __init__(self, count: int, batch: int, steps: int, seed: int):
        self.count, self.batch, self.steps, self.seed = count, batch, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = self.count // self.batch
        for step in range(self.steps):
            epoch, position = divmod(step, per_epoch)
            if position == 0:
                order = generator(self.seed, "order", epoch).permutation(self.count)
            yield [(epoch, int(i)) for i in order[position * self.batch : (position + 1) * self.batch]]


def _workers(device: torch.device) -> int:
    """Loader processes: PROSECO_WORKERS, else none on a CPU, which has better to do, and up to 16 beside a GPU."""
    given = os.environ.get("PROSECO_WORKERS")
    if given is not None:
        return int(given)
    return 0 if device.type == "cpu" else min(16, max(1, (os.cpu_count() or 2) - 1))


def _loader(source, transform, batches, seed: int, device: torch.device) -> DataLoader:
    workers = _workers(device)
    return DataLoader(
        _Examples(source, transform, seed),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=False,
        prefetch_factor=4 if workers else None,
    )


def training_batches(source, transform: Callable, *, batch: int, steps: int, seed: int, device: torch.device):
    """Shuffled, augmented batches; what they hold depends on the seed and the step alone.

    :raises InputError: the batch is larger than the data.
    """
    if batch > len(source):
        raise InputError(f"a batch of {batch} is larger than the data, {len(source)} images")
    return _loader(source, transform, _Schedule(len(source), batch, steps, seed), seed, device)


def ordered_batches(source, transform: Callable, *, batch: int, device: torch.device):
    """Every sample once, in order; the last batch may be smaller."""
    numbers = [(0, i) for i in range(len(source))]
    batches = [numbers[i : i + batch] for i in range(0, len(numbers), batch)]
    return _loader(source, transform, batches, 0, device)
