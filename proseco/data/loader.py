"""Batches: which samples, in which order, with which randomness, padded to one size.

The samples of a training are one stream: the permutation of epoch 0, then that of epoch 1, and so on. Step s takes the
positions s * B to (s + 1) * B of it, so an epoch gives every sample exactly once, whether or not B divides it, and a
training can be taken up at any step. A batch at a seam ends one epoch and begins the next; it may hold an image twice.
Steps may be grouped: then the steps of a group, all of one epoch, share its positions out by the size of the views,
which is drawn before an image is read.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from proseco.base import environment
from proseco.base.errors import InputError
from proseco.base.randomness import generator
from proseco.data import grouping
from proseco.data.views import Crop, Example


@dataclass(frozen=True)
class Whole:
    """What a batch is a part of: the batch of a step over all processes.

    :param shares: images of each process; ``boxes`` of all images of all processes.
    :param first: number of the part's first image among all images.
    """

    shares: tuple[int, ...]
    boxes: int
    first: int = 0


@dataclass
class Crops:
    """One crop of each of B images: ``images`` (B, 3, h, w) uint8; ``boxes`` per image (n, 4) float32 cxcywh of it."""

    images: Tensor
    boxes: list[Tensor]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Crops":
        return Crops(change(self.images), _in_one(self.boxes, change))

    def __getstate__(self) -> dict:
        return vars(self) | {"boxes": _pack(self.boxes)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ = state | {"boxes": _unpack(*state["boxes"])}


def _pack(tensors: list[Tensor]) -> tuple[Tensor, list[int]]:
    """One tensor instead of one an image, and their lengths. Between processes each tensor is a file descriptor, of
    which a system may allow 1,024, and to a GPU each is a copy of its own.

    What :func:`_unpack` gave is put together without a copy: of page-locked memory that would not be page-locked.
    """
    lengths = [len(tensor) for tensor in tensors]
    whole = tensors[0]._base if tensors else torch.zeros(0)
    if whole is not None and len(whole) == sum(lengths):
        starts = itertools.accumulate(lengths[:-1], initial=0)
        places = zip(tensors, starts, strict=bool(tensors))
        if all(t._base is whole and t.storage_offset() == start * whole.stride(0) for t, start in places):
            return whole, lengths
    return torch.cat(tensors), lengths


def _unpack(whole: Tensor, lengths: list[int]) -> list[Tensor]:
    return list(whole.split(lengths))


def _in_one(tensors: list[Tensor], change: Callable[[Tensor], Tensor]) -> list[Tensor]:
    whole, lengths = _pack(tensors)
    return _unpack(change(whole), lengths)


@dataclass
class Batch:
    """B images in V views of one frame each, and in crops of frames of their own.

    ``views`` (V, B, 3, H, W) uint8, 0 on padding; ``mask`` (B, H, W) bool, True on padding; ``boxes`` per image (n, 4)
    float32 cxcywh relative to the image (not the padding); ``labels`` per image (n,); ``sizes`` (B, 2) width and height
    of the stored images in pixels; ``crops`` none, or one :class:`Crops` a place. V may be 0; then H = W = 0.
    ``object_masks`` per image (n, h, w) uint8 of the image without padding, 1 on the object, or None where unknown.
    ``whole`` is itself until :meth:`within` or :meth:`split` make it a part.
    """

    keys: list[str]
    views: Tensor
    mask: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    sizes: Tensor
    crops: list[Crops] = field(default_factory=list)
    whole: Whole = None
    object_masks: list[Tensor | None] = None

    def __post_init__(self):
        if self.whole is None:
            self.whole = Whole((len(self.keys),), sum(map(len, self.boxes)))
        if self.object_masks is None:
            self.object_masks = [None] * len(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def share(self) -> float:
        """Its images over those of the whole: what a mean over its images weighs in the mean over all."""
        return len(self) / sum(self.whole.shares)

    def extent(self) -> list[int]:
        """Images, boxes, height and width, for :meth:`within`."""
        return [len(self), self.whole.boxes, *self.mask.shape[1:]]

    def within(self, extents: list[list[int]], rank: int) -> "Batch":
        """The batch as a part of that of all processes, padded to one size, so that it is the same for any number.

        :param extents: of each process, this one's at ``rank``.
        """
        images, boxes, heights, widths = zip(*extents, strict=True)
        height, width = self.mask.shape[1:]
        frame = (0, max(widths) - width, 0, max(heights) - height)
        return replace(
            self,
            views=F.pad(self.views, frame),
            mask=F.pad(self.mask, frame, value=True),
            whole=Whole(images, sum(boxes), sum(images[:rank])),
        )

    def at_a_time(self, limit) -> int:
        """Images of a part, where a process may not hold more: a number of them, or of their views' pixels
        (:class:`proseco.training.schedules.Pixels`); None: all.
        """
        if limit is None:
            return len(self)
        return min(limit if isinstance(limit, int) else limit.images(*self.mask.shape[1:]), len(self))

    def split(self, limit) -> list["Batch"]:
        """Parts of as many images as :meth:`at_a_time` says, the last perhaps smaller; itself if it is all."""
        size = self.at_a_time(limit)
        if size == len(self):
            return [self]
        return [self._part(slice(start, start + size)) for start in range(0, len(self), size)]

    def _part(self, images: slice) -> "Batch":
        return Batch(
            keys=self.keys[images],
            views=self.views[:, images],
            mask=self.mask[images],
            boxes=self.boxes[images],
            labels=self.labels[images],
            sizes=self.sizes[images],
            crops=[Crops(c.images[images], c.boxes[images]) for c in self.crops],
            whole=replace(self.whole, first=self.whole.first + images.start),
            object_masks=self.object_masks[images],
        )

    def to(self, device: torch.device) -> "Batch":
        """A copy on the device. To a GPU the program does not wait for it; from one it does, for the host reads it."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=device.type != "cpu"))

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory, asked for by the loader beside a GPU: :meth:`to` then need not wait."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            views=change(self.views),
            mask=change(self.mask),
            boxes=_in_one(self.boxes, change),
            labels=_in_one(self.labels, change),
            crops=[crops._each(change) for crops in self.crops],
            object_masks=[masks if masks is None else change(masks) for masks in self.object_masks],
        )

    def __getstate__(self) -> dict:
        return vars(self) | {"boxes": _pack(self.boxes), "labels": _pack(self.labels)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ = state | {key: _unpack(*state[key]) for key in ("boxes", "labels")}

    def content(self) -> dict:
        """What it holds, as tensors and plain values in dictionaries and lists."""
        kept = {name: value for name, value in vars(self).items() if name != "whole"}
        return kept | {"crops": [vars(crops) for crops in self.crops]}

    def targets(self) -> list[dict]:
        """Per image ``key``, ``boxes``, ``labels`` and, where known, ``masks``, as detectors' losses take them."""
        rows = zip(self.keys, self.boxes, self.labels, strict=True)
        targets = [{"key": key, "boxes": boxes, "labels": labels} for key, boxes, labels in rows]
        for target, masks in zip(targets, self.object_masks, strict=True):
            if masks is not None:
                target["masks"] = masks
        return targets


def collate(examples: list[Example]) -> Batch:
    """Pad to the largest height and width of the batch, at the right and at the bottom."""
    height = max((view.shape[0] for e in examples for view in e.views[:1]), default=0)
    width = max((view.shape[1] for e in examples for view in e.views[:1]), default=0)
    views = np.zeros((len(examples[0].views), len(examples), height, width, 3), np.uint8)
    mask = np.ones((len(examples), height, width), bool)
    for i, example in enumerate(examples):
        for v, view in enumerate(example.views):
            h, w = view.shape[:2]
            mask[i, :h, :w] = False
            views[v, i, :h, :w] = view
    return Batch(
        keys=[e.key for e in examples],
        views=torch.from_numpy(views).permute(0, 1, 4, 2, 3),
        mask=torch.from_numpy(mask),
        boxes=[torch.from_numpy(e.boxes_cxcywh) for e in examples],
        labels=[torch.from_numpy(e.labels) for e in examples],
        sizes=torch.tensor([e.size for e in examples]),
        crops=[_stack(crops) for crops in zip(*(e.crops for e in examples), strict=True)],
        object_masks=[None if e.object_masks is None else torch.from_numpy(e.object_masks) for e in examples],
    )


def _stack(crops: Sequence[Crop]) -> Crops:
    images = torch.from_numpy(np.stack([crop.image for crop in crops])).permute(0, 3, 1, 2)
    return Crops(images, [torch.from_numpy(crop.boxes_cxcywh) for crop in crops])


class _Examples(Dataset):
    """``dataset[epoch, number]``: an example whose randomness is that of (seed, epoch, key)."""

    def __init__(self, source, transform: Callable, seed: int):
        self.source, self.transform, self.seed = source, transform, seed

    def __getitem__(self, where: tuple[int, int]) -> Example | InputError:
        cv2.setNumThreads(0)  # processes are the parallelism; threads of OpenCV would fight with torch's
        epoch, number = where
        try:
            sample = self.source[number]
            return self.transform(sample, self._chance(epoch, sample.key))
        except InputError as error:  # torch would bury the one line of an error raised in a worker in a traceback
            return error

    def frame(self, epoch: int, number: int) -> tuple[int, int]:
        """Width and height that the views of ``dataset[epoch, number]`` will have."""
        return self.transform.frame(*self.source.size(number), self._chance(epoch, self.source.key(number)))

    def _chance(self, epoch: int, key: str) -> np.random.Generator:
        return generator(self.seed, "views", epoch, key)


class Order:
    """The (epoch, number) of the samples of each step, of all processes or of one: a function of its arguments.

    :param count: samples of the data; ``batch`` samples of a step over all processes; ``steps`` of the whole training.
    :param group: so many steps at a time, of one epoch, deal their samples out among each other by the size of their
        views; where fewer are left of the epoch or the training, those. 1: none does.
    :param frame: (epoch, number) -> width and height of the views; not asked where no step is grouped.
    """

    def __init__(self, *, count: int, batch: int, steps: int, seed: int, group: int = 1, frame: Callable | None = None):
        self.count, self.batch, self.steps, self.seed = count, batch, steps, seed
        self.group, self.frame = group, frame
        self._permutation = lru_cache(maxsize=2)(self._shuffle)  # the batch at a seam needs two
        self._dealt = lru_cache(maxsize=1)(self._deal)

    def _shuffle(self, epoch: int) -> np.ndarray:
        return generator(self.seed, "order", epoch).permutation(self.count)

    def _stream(self, step: int, end: int) -> list[tuple[int, int]]:
        """The samples of the steps from ``step`` to ``end``."""
        places = (divmod(position, self.count) for position in range(step * self.batch, end * self.batch))
        return [(epoch, int(self._permutation(epoch)[place])) for epoch, place in places]

    def _grouped(self, step: int) -> tuple[int, int]:
        """The steps, from one to another, of the group that a step is of; one at a seam of epochs is by itself."""
        epoch, last = (position // self.count for position in (step * self.batch, (step + 1) * self.batch - 1))
        if epoch != last:
            return step, step + 1
        begin = -(-epoch * self.count // self.batch)  # of the steps that are wholly of this epoch
        begin += (step - begin) // self.group * self.group
        return begin, min(begin + self.group, (epoch + 1) * self.count // self.batch, self.steps)

    def _deal(self, begin: int, end: int) -> list[list[tuple[int, int]]]:
        """The batches of a group. In an order of chance, lest a training sees small images first, and so is each batch,
        lest one process gets the smallest of each.
        """
        samples, draws = self._stream(begin, end), generator(self.seed, "group", begin)
        batches = grouping.by_size(np.array([self.frame(*sample) for sample in samples]), end - begin)
        return [[samples[i] for i in draws.permutation(batches[n])] for n in draws.permutation(len(batches))]

    def step(self, step: int, rank: int = 0, world: int = 1) -> list[tuple[int, int]]:
        """The share of process ``rank`` of ``world``: contiguous, and of equal size or one less than the first's."""
        begin, end = self._grouped(step) if self.group > 1 else (step, step + 1)
        samples = self._stream(begin, end) if end - begin == 1 else self._dealt(begin, end)[step - begin]
        return [samples[i] for i in np.array_split(np.arange(self.batch), world)[rank]]


class _Steps:
    """The batches of a range of steps, for torch's DataLoader."""

    def __init__(self, order: Order, steps: range, rank: int, world: int):
        self.order, self.steps, self.rank, self.world = order, steps, rank, world

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return (self.order.step(step, self.rank, self.world) for step in self.steps)


def _workers(device: torch.device) -> int:
    """Loader processes: PROSECO_WORKERS, else none on a CPU, which has better to do, and up to 16 beside a GPU."""
    given = environment.workers()
    if given is not None:
        return given
    cores = (os.cpu_count() or 2) // environment.local_world()
    return 0 if device.type == "cpu" else min(16, max(1, cores - 1))


def _collate(examples: list[Example | InputError]) -> Batch | InputError:
    errors = [example for example in examples if isinstance(example, InputError)]
    return errors[0] if errors else collate(examples)


class _Loader(DataLoader):
    """A DataLoader that raises the errors of its workers as they were."""

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            if isinstance(batch, InputError):
                raise batch
            yield batch


def _loader(examples: _Examples, batches, device: torch.device) -> DataLoader:
    workers = _workers(device)
    return _Loader(
        examples,
        batch_sampler=batches,
        collate_fn=_collate,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=False,
        prefetch_factor=4 if workers else None,
    )


def training_batches(
    source,
    transform: Callable,
    *,
    batch: int,
    steps: int,
    seed: int,
    device: torch.device,
    group: int = 1,
    first_step: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader:
    """Shuffled, augmented batches; what they hold depends on the seed, the step and the arguments alone.

    :param batch: samples of a step over all processes.
    :param steps: of the whole training; those before ``first_step`` are passed over, to resume there.
    :param group: as of :class:`Order`. ``source.size(number)`` is asked then, and ``transform.frame``.
    :param rank: this process of ``world``; it gets its share of each batch.
    :raises InputError: the batch is larger than the data, or smaller than the number of processes; steps are to be
        grouped and the views' size cannot be known.
    """
    if batch > len(source):
        raise InputError(f"a batch of {batch} is larger than the data, {len(source)} images")
    if batch < world:
        raise InputError(f"a batch of {batch} is too small for {world} processes; each needs an image")
    if group > 1 and not hasattr(transform, "frame"):
        raise InputError(f"group_steps is {group}, but {type(transform).__name__} does not know the size of its views")
    examples = _Examples(source, transform, seed)
    order = Order(count=len(source), batch=batch, steps=steps, seed=seed, group=group, frame=examples.frame)
    return _loader(examples, _Steps(order, range(first_step, steps), rank, world), device)


def ordered_batches(
    source, transform: Callable, *, batch: int, device: torch.device, rank: int = 0, world: int = 1
) -> DataLoader:
    """Every sample once, in order; the last batch may be smaller. Process ``rank`` has every ``world``-th batch."""
    numbers = [(0, i) for i in range(len(source))]
    batches = [numbers[i : i + batch] for i in range(0, len(numbers), batch)]
    return _loader(_Examples(source, transform, 0), batches[rank::world], device)
