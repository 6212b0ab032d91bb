"""Batches (:mod:`proseco.data.batch`): which samples, in which order, with which randomness.

The samples of a training are one stream: the permutation of epoch 0, then that of epoch 1, and so on. Step s takes the
positions s * B to (s + 1) * B of it, so an epoch gives every sample exactly once, whether or not B divides it, and a
training can be resumed at any step. A batch at a seam ends one epoch and begins the next, and may hold an image twice.
Steps may be grouped: then those of a group pool their samples and redistribute them by view size, which is drawn before
an image is read. The steps of a group begin in one epoch. Its last one may end in the next; then any of its batches may
hold samples of both.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from proseco.base.errors import InputError
from proseco.base.randomness import generator
from proseco.data import grouping
from proseco.data.sample import Source
from proseco.data.views import Example, Transform
from proseco.data.workers import Loader


class _Examples(Dataset):
    """``dataset[epoch, number]``: an example whose randomness depends on (seed, epoch, key)."""

    def __init__(self, source: Source, transform: Transform, seed: int):
        self.source, self.transform, self.seed = source, transform, seed

    def __getitem__(self, place: tuple[int, int]) -> Example | InputError:
        cv2.setNumThreads(0)  # processes are the parallelism; threads of OpenCV would compete with torch's
        epoch, number = place
        try:
            sample = self.source[number]
            return self.transform(sample, self._rng(epoch, sample.key))
        except InputError as error:  # raised in a worker, torch would bury its one line in a traceback
            return error

    def frame(self, epoch: int, number: int) -> tuple[int, int]:
        """Width and height that the views of ``dataset[epoch, number]`` will have."""
        return self.transform.frame(*self.source.size(number), self._rng(epoch, self.source.key(number)))

    def _rng(self, epoch: int, key: str) -> np.random.Generator:
        return generator(self.seed, "views", epoch, key)


class Order:
    """The (epoch, number) of the samples of each step, of all processes or of one: a function of its arguments.

    :param count: samples of the data; ``batch``: samples per step over all processes; ``steps`` of the whole training.
    :param group: at most ``group`` consecutive steps pool their samples and redistribute them by view size. The steps
        of an epoch, to which the one that ends it counts, make groups of about one length. 1: no grouping.
    :param frame: (epoch, number) -> width and height of the views; called only if steps are grouped.
    """

    def __init__(self, *, count: int, batch: int, steps: int, seed: int, group: int = 1, frame: Callable | None = None):
        self.count, self.batch, self.steps, self.seed = count, batch, steps, seed
        self.group, self.frame = group, frame
        self._permutation = lru_cache(maxsize=2)(self._shuffle)  # the batch at a seam needs two
        self._dealt = lru_cache(maxsize=1)(self._deal)

    def _shuffle(self, epoch: int) -> np.ndarray:
        return generator(self.seed, "order", epoch).permutation(self.count)

    def _stream(self, step: int, end: int) -> list[tuple[int, int]]:
        """The samples of the steps from ``step`` to before ``end``."""
        places = (divmod(position, self.count) for position in range(step * self.batch, end * self.batch))
        return [(epoch, int(self._permutation(epoch)[place])) for epoch, place in places]

    def _grouped(self, step: int) -> tuple[int, int]:
        """First step of a step's group, and the one past its last.

        Groups do not go beyond an epoch, for then an image would often meet itself in a batch: its views are of about
        one size in all epochs. The batch at a seam is in a group lest it be the largest of all by far.
        """
        epoch = step * self.batch // self.count
        begin, end = (-(-number * self.count // self.batch) for number in (epoch, epoch + 1))  # steps that begin in it
        length = min(end, self.steps) - begin
        groups = -(-length // self.group)
        number = ((step - begin + 1) * groups - 1) // length
        return begin + number * length // groups, begin + (number + 1) * length // groups

    def _deal(self, begin: int, end: int) -> list[list[tuple[int, int]]]:
        """The batches of a group, in random order, so that small images do not come first.

        Each batch is shuffled too, so that no process always gets its smallest images.
        """
        samples, draws = self._stream(begin, end), generator(self.seed, "group", begin)
        batches = grouping.group_by_size(np.array([self.frame(*sample) for sample in samples]), end - begin)
        return [[samples[i] for i in draws.permutation(batches[n])] for n in draws.permutation(len(batches))]

    def step(self, step: int, rank: int = 0, world: int = 1) -> list[tuple[int, int]]:
        """The share of process ``rank`` of ``world``: contiguous, as large as the first one's or one smaller."""
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


def training_batches(
    source: Source,
    transform: Transform,
    *,
    batch: int,
    steps: int,
    seed: int,
    device: torch.device,
    group: int = 1,
    pad_to: int = 1,
    first_step: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Loader:
    """Shuffled, augmented batches; what they hold depends on the seed, the step and the arguments alone.

    :param batch: samples per step over all processes.
    :param steps: of the whole training; those before ``first_step`` are skipped, to resume there.
    :param group: as for :class:`Order`. More than 1 needs a :class:`proseco.data.sample.SizedSource` and
        ``transform.frame``.
    :param pad_to: the sides of a batch's frame are multiples of this many pixels.
    :param rank: number of this process of ``world``; it gets its share of each batch.
    :raises InputError: the batch is larger than the data, or smaller than the number of processes; steps are to be
        grouped and the transform has no ``frame``.
    """
    if batch > len(source):
        raise InputError(f"a batch of {batch} is larger than the data, {len(source)} images")
    if batch < world:
        raise InputError(f"a batch of {batch} is too small for {world} processes; each needs an image")
    if group > 1 and not hasattr(transform, "frame"):
        raise InputError(f"group_steps is {group}, but {type(transform).__name__} does not know the size of its views")
    examples = _Examples(source, transform, seed)
    order = Order(count=len(source), batch=batch, steps=steps, seed=seed, group=group, frame=examples.frame)
    return Loader(examples, _Steps(order, range(first_step, steps), rank, world), device, pad_to=pad_to)


def ordered_batches(
    source: Source, transform: Transform, *, batch: int, device: torch.device, rank: int = 0, world: int = 1
) -> Loader:
    """Every sample once, in order; the last batch may be smaller. Process ``rank`` has every ``world``-th batch."""
    numbers = [(0, i) for i in range(len(source))]
    batches = [numbers[i : i + batch] for i in range(0, len(numbers), batch)]
    return Loader(_Examples(source, transform, 0), batches[rank::world], device)
