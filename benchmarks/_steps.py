"""Steps of a training, ours and made of the public pieces, timed in turn; what their parts take."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from statistics import median
from unittest import mock

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from proseco.base import environment
from proseco.base.errors import InputError
from proseco.data.batch import Batch
from proseco.nn import backbone, deformable_attention, matcher, sampling
from proseco.training import loop, usage
from proseco.training.schedules import Schedule

WARM = 3  # steps before any counts
_EAGERLY = mock.patch.dict(os.environ, {"PROSECO_COMPILE": "0"})


class Trainer:
    """A method and its optimiser, updated by the loop's own step."""

    def __init__(self, method, schedule: Schedule, device: torch.device):
        self.method, self.device, self.clip = method, device, schedule.clip
        for module in method.modules().values():
            module.to(device)
        groups = loop.parameter_groups(method.student, schedule)
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = loop._optimizer(groups, schedule)

    def step(self, batch: Batch, *, precision: torch.dtype) -> None:
        how = {"clip": self.clip, "device": self.device, "precision": precision}
        loop._update(self.method, self.optimizer, self.trained, batch.to(self.device), [], **how)

    def shares(self, batches: list[Batch], precision: torch.dtype, places: list[tuple]) -> dict[str, float]:
        """Part -> its share of a step, dearest first, from one step of each batch, with a halt before and after each.

        :param places: (object, name of its method, part that the method is), beside those of every training.
        """
        found: dict[str, float] = {}

        def timed(owner, attribute: str, name: str):
            inner = getattr(owner, attribute)

            def call(*arguments, **options):
                wait(self.device)
                begin = time.perf_counter()
                result = inner(*arguments, **options)
                wait(self.device)
                found[name] = found.get(name, 0.0) + time.perf_counter() - begin
                return result

            return mock.patch.object(owner, attribute, call)

        every = [(Batch, "to", "transfer"), (Tensor, "backward", "backward"), (self.method, "after_step", "teacher")]
        every += [(loop.nn.utils, "clip_grad_norm_", "optimiser"), (self.optimizer, "step", "optimiser")]
        with contextlib.ExitStack() as stack:
            for place in [*every, *places]:
                stack.enter_context(timed(*place))
            for batch in batches:
                self.step(batch, precision=precision)
        total = sum(found.values())
        return {name: found[name] / total for name in sorted(found, key=found.get, reverse=True)}


def transformer_places(detector) -> list[tuple]:
    """Of a Deformable DETR, for :meth:`Trainer.shares`."""
    transformer = detector.transformer
    return [(transformer.encoder, "forward", "encoders"), (transformer.decoder, "forward", "decoders")]


@contextlib.contextmanager
def public_pieces() -> Iterator[None]:
    """In the place of ours: the public core of deformable attention, norms beside their convolutions, maps in PyTorch's
    own order, SciPy's assignment.
    """
    with (
        _EAGERLY,
        mock.patch.object(deformable_attention, "sample_levels", sampling.sample_levels_plain),
        mock.patch.object(backbone, "can_fold", lambda norm, x: False),
        mock.patch.object(backbone, "memory_format", lambda images: torch.contiguous_format),
        mock.patch.object(matcher, "assign", scipy),
    ):
        yield


def scipy(costs: Tensor, counts: list[int] | None = None, *, names=None) -> list[list[tuple[Tensor, Tensor]]]:
    """:func:`proseco.nn.matcher.assign`, an image at a time."""
    tables = costs.detach().float().cpu().numpy()
    widths = counts or [tables.shape[-1]] * tables.shape[1]
    return [
        [
            tuple(map(torch.from_numpy, linear_sum_assignment(table[:, :width])))
            for table, width in zip(layer, widths, strict=True)
        ]
        for layer in tables
    ]


def draw(
    sizes: np.ndarray, boxes: int, device: torch.device, *, views: int = 2, classes: int = 1, pad_to: int = 1
) -> Batch:
    """Noise in views of these widths and heights, (B, 2), with that many boxes per image; pinned beside a GPU.

    :param pad_to: the sides of the frame are multiples of this many pixels.
    """
    draws = torch.Generator().manual_seed(0)
    count, (width, height) = len(sizes), (-(-sizes.max(0) // pad_to) * pad_to).tolist()
    images = torch.randint(0, 256, (views, count, 3, height, width), dtype=torch.uint8, generator=draws)
    mask = torch.ones(count, height, width, dtype=torch.bool)
    for each, (w, h) in zip(mask, sizes.tolist(), strict=True):
        each[:h, :w] = False
    centres, sides = torch.rand(2, count, boxes, 2, generator=draws) * torch.tensor([0.5, 0.4]).view(2, 1, 1, 1)
    batch = Batch(
        keys=[f"image {number}" for number in range(count)],
        views=images.masked_fill_(mask[:, None], 0),
        mask=mask,
        boxes=list(torch.cat([centres + 0.25, sides + 0.05], -1)),
        labels=list(torch.randint(0, classes, (count, boxes), generator=draws)),
        sizes=torch.from_numpy(sizes),
    )
    return batch.pin_memory() if device.type == "cuda" else batch


def warm(forms: dict[str, Callable], batches: dict[str, list[Batch]]) -> None:
    """Some steps of each form before any counts. A form that is not ours and does not fit the device is left out.

    :raises InputError: ours does not fit.
    """
    for name in [*forms]:
        try:
            for number in range(WARM):
                forms[name](batches[name][number % len(batches[name])])
        except torch.OutOfMemoryError:
            count = len(batches[name][0])
            if name == "ours":
                raise InputError(f"a step of {count} images does not fit the device; try a smaller --batch") from None
            print(f"{name}: out of memory with batches of {count}")
            del forms[name]


def compare(
    forms: dict[str, Callable], batches: dict[str, list[Batch]], steps: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each step of each form on its batches, in turn, and the most bytes that it held."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    peaks = dict.fromkeys(forms, 0)
    for number in range(steps):
        for name in sorted(forms, reverse=number % 2 == 1):
            memory = usage.Memory(device)
            wait(device)
            begin = time.perf_counter()
            forms[name](batches[name][number % len(batches[name])])
            wait(device)
            seconds[name].append(time.perf_counter() - begin)
            peaks[name] = max(peaks[name], memory.peak() or 0)
    return seconds, peaks


def say_where(device: torch.device) -> None:
    compiled = ", encoder compiled" * environment.compiles()
    print(f"{usage.hardware(device)}, torch {torch.__version__}{compiled}")


def report(
    seconds: dict[str, list[float]], peaks: dict[str, int], batches: dict[str, list[Batch]], work: float, rate: float
) -> dict[str, float]:
    """A table of the forms; their images a second.

    :param work: floating point operations an image; ``rate`` those a second of a matrix product.
    """
    print(f"{'form':8} {'s a step':>9} {'images/s':>9} {'TFLOP/s':>8} {'of the rate':>12} {'peak GiB':>9}")
    rates = {}
    for name, each in seconds.items():
        took = median(each)
        rates[name] = len(batches[name][0]) / took
        flops = work * rates[name]
        print(
            f"{name:8} {took:9.3f} {rates[name]:9.1f} {flops / 1e12:8.3f} {flops / rate:12.1%} "
            f"{peaks[name] / 2**30:9.2f}"
        )
    return rates


def arithmetic(form: Callable, batch: Batch) -> float:
    """Floating point operations an image."""
    with _EAGERLY, FlopCounterMode(display=False) as counter:  # it sees nothing of what is compiled
        form(batch)
    return counter.get_total_flops() / len(batch)


def matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """Floating point operations a second of a square matrix product, the best of a few sizes."""
    rates = []
    for size in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device).to(precision) for _ in range(2))
        for _ in range(4):
            wait(device)
            begin = time.perf_counter()
            a @ b
            wait(device)
            rates.append(2 * size**3 / (time.perf_counter() - begin))
    return max(rates)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
