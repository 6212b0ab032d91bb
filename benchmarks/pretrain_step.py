"""A whole step of ProSeCo's pretraining against the same step made of the public pieces, and what its parts take.

    python -m benchmarks.pretrain_step [--scale paper] [--batch 64] [--height 480 --width 640 | --images DIR]
        [--peer-batch 16] [--ours-alone]

The detector, method and losses of params.yaml (row proseco) on images of noise, from bytes on the host to updated
weights and teacher. Their frames are all of one size, or those of the views of a folder's images, batched as a training
batches them. The peer is the same step in float32 with the public core of deformable attention (one
``grid_sample`` a level), the backbone's norms beside its convolutions and maps in PyTorch's own order, LocSCE with a
table of all pairs at each step, and SciPy's assignment. Ours samples on a GPU as PROSECO_ATTENTION says, and compiles
its encoder where PROSECO_COMPILE is 1.

``--peer-batch`` gives the peer so many images of each batch, where its tables do not fit the device; an image then has
fewer negatives. A peer that runs out of memory all the same is left out. Both run in turn in the same process, ours
first every other time, in float32 without TF32 or as ``--precision`` says.

Then parts are timed, each step of ours once more with a halt before and after each: shares are of their sum, and a
backward pass belongs to none but its own. Arithmetic is what torch counts of matrix products and convolutions, backward
included and sampling left out; the rate beside it is of the square matrix product that is fastest here. The last line
has the ratio of images a second.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import _frames
from benchmarks.locsce import plain as plain_loss
from proseco import rows
from proseco.base import cli, environment, params, plugins
from proseco.base.errors import InputError
from proseco.data.batch import Batch
from proseco.methods import proseco as method_file
from proseco.nn import backbone, deformable_attention, matcher, sampling
from proseco.training import cost, devices, loop
from proseco.training.schedules import Schedule

WARM = 3  # steps before any counts
_EAGERLY = mock.patch.dict(os.environ, {"PROSECO_COMPILE": "0"})


def main(
    *,
    scale: str = "paper",
    device: str = "auto",
    precision: str = "auto",
    batch: int | None = None,
    height: int = 480,
    width: int = 640,
    images: str | None = None,
    steps: int = 12,
    ours_alone: bool = False,
    peer_batch: int | None = None,
) -> None:
    """Time a step of the pretraining, ours and the public pieces', and its parts."""
    settings = params.load()
    if scale not in settings["scales"]:
        raise InputError(f"no scale {scale!r}; there are {', '.join(settings['scales'])} (params.yaml)")
    row = rows.row(settings, scale, "proseco")
    batch = row.pretrain["schedule"]["batch"] if batch is None else batch
    counts = {"batch": batch, "height": height, "width": width, "steps": steps}
    if peer_batch is not None and (ours_alone or peer_batch > batch):
        why = "there is no peer with --ours-alone" if ours_alone else f"the peer takes it of a batch of {batch}"
        raise InputError(f"--peer-batch is {peer_batch}; {why}")
    peer_batch = batch if peer_batch is None else peer_batch
    for name, value in (counts | {"peer-batch": peer_batch}).items():
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    where = devices.pick_device(device, "--device")
    kind = devices.pick_precision(precision, where, "--precision")
    devices.prepare(where)
    if images:
        group = row.pretrain["schedule"].get("group_steps", 1)
        sizes, weak = _frames.sizes_of(Path(images)), row.views["weak"]
        frames = _frames.draw(sizes, weak, batch=batch, steps=max(steps, group), group=group)[:steps]
    else:
        frames = np.tile([width, height], (2, batch, 1))
    boxes = row.pretrain["method"]["boxes"]
    batches = {"ours": [draw(sizes, boxes, where) for sizes in frames]}
    trainer = Trainer(row, batch, where)
    forms = {"ours": partial(trainer.step, precision=kind)}
    if not ours_alone:
        forms["public"] = partial(_public, partial(trainer.step, precision=torch.float32))
        batches["public"] = batches["ours"]
        if peer_batch != batch:
            batches["public"] = [draw(sizes[:peer_batch], boxes, where) for sizes in frames]
    for name in [*forms]:
        if not _warm(forms[name], batches[name]):
            if name == "ours":
                raise InputError(f"a step of {batch} images does not fit the device; try a smaller --batch")
            print(f"{name}: out of memory with batches of {len(batches[name][0])}")
            del forms[name]
    seconds, peaks = compare(forms, batches, steps, where)
    mine = batches["ours"]
    padding = float(torch.cat([each.mask.flatten() for each in mine]).float().mean())
    compiled = ", encoder compiled" * environment.compiles()
    print(f"{cost.hardware(where)}, torch {torch.__version__}{compiled}")
    print(f"batches of {batch}, {_size(frames)}, padding {padding:.1%}")
    work, rate = trainer.arithmetic(mine[0], kind) / batch, _matrix_rate(where, kind)
    print(f"median of {steps} steps; the matrix product's rate: {rate / 1e12:.3f} TFLOP/s in {kind}")
    print(f"{'form':8} {'s a step':>9} {'images/s':>9} {'TFLOP/s':>8} {'of the rate':>12} {'peak GiB':>9}")
    rates = {}
    for name, each in seconds.items():
        took = median(each)
        rates[name] = len(batches[name][0]) / took  # images a second
        flops = work * rates[name]
        print(
            f"{name:8} {took:9.3f} {rates[name]:9.1f} {flops / 1e12:8.3f} {flops / rate:12.1%} "
            f"{peaks[name] / 2**30:9.2f}"
        )
    print(f"{'part of ours':14} {'share':>6}")
    for name, share in trainer.shares(mine, kind).items():
        print(f"{name:14} {share:6.1%}")
    if "public" in rates:
        print(f"pretrain_step: speedup {rates['ours'] / rates['public']:.2f}")


class Trainer:
    """ProSeCo's method over a detector with random weights, and its optimiser."""

    def __init__(self, row: rows.Row, batch: int, device: torch.device):
        torch.manual_seed(0)
        schedule = Schedule(**row.pretrain["schedule"] | {"batch": batch})
        detector = plugins.call("detectors", row.detector, num_classes=None, place="detector").to(device)
        known = plugins.keywords("methods", "proseco")
        options = {key: value for key, value in row.loss.items() if key != "name"}
        of_loss = set(plugins.keywords("losses", row.loss["name"]))
        loss = partial(
            plugins.load("losses", row.loss["name"]), **{key: options[key] for key in of_loss & set(options)}
        )
        given = {key: value for key, value in (row.views | options).items() if key in known} | {"loss": loss}
        self.method = method_file.build(detector, **row.pretrain["method"], **given)
        for module in self.method.modules().values():
            module.to(device)
        groups = loop.parameter_groups(self.method.student, schedule)
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = loop._optimizer(groups, schedule)
        self.device, self.clip = device, schedule.clip

    def step(self, batch: Batch, *, precision: torch.dtype, part: Callable = contextlib.nullcontext) -> None:
        """As the loop's. ``part(name)`` surrounds each part."""
        with part("transfer"):
            batch = batch.to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        with devices.autocast(self.device, precision):
            terms, _ = self.method.losses(batch)
        with part("backward"):
            torch.stack(list(terms.values())).sum().backward()
        with part("optimiser"):
            norm = torch.nn.utils.clip_grad_norm_(self.trained, self.clip or float("inf"))
            if not torch.isfinite(norm).item():
                raise FloatingPointError("the gradient is not finite")
            self.optimizer.step()
        with part("teacher"):
            self.method.after_step()

    def arithmetic(self, batch: Batch, precision: torch.dtype) -> int:
        """Floating point operations of a step."""
        with _EAGERLY, FlopCounterMode(display=False) as counter:  # it sees nothing of what is compiled
            self.step(batch, precision=precision)
        return counter.get_total_flops()

    def shares(self, batches: list[Batch], precision: torch.dtype) -> dict[str, float]:
        """Part -> its share of a step, dearest first, from one step of each batch."""
        found: dict[str, float] = {}

        @contextlib.contextmanager
        def part(name: str) -> Iterator[None]:
            _wait(self.device)
            begin = time.perf_counter()
            yield
            _wait(self.device)
            found[name] = found.get(name, 0.0) + time.perf_counter() - begin

        def timed(owner, attribute: str, name: str):
            inner = getattr(owner, attribute)

            def call(*arguments, **options):
                with part(name):
                    return inner(*arguments, **options)

            return mock.patch.object(owner, attribute, call)

        method = self.method
        with contextlib.ExitStack() as stack:
            stack.enter_context(timed(method, "features", "backbone"))
            stack.enter_context(timed(method, "match", "matching"))
            stack.enter_context(timed(method, "contrast", "losses"))
            for who in (method.teacher, method.student):
                transformer = who.detector.transformer
                stack.enter_context(timed(transformer.encoder, "forward", "encoders"))
                stack.enter_context(timed(transformer.decoder, "forward", "decoders"))
            for batch in batches:
                self.step(batch, precision=precision, part=part)
        total = sum(found.values())
        return {name: found[name] / total for name in sorted(found, key=found.get, reverse=True)}


def draw(sizes: np.ndarray, boxes: int, device: torch.device) -> Batch:
    """Noise in two views of these widths and heights, (B, 2), with so many boxes an image; pinned beside a GPU."""
    draws = torch.Generator().manual_seed(0)
    count, (width, height) = len(sizes), sizes.max(0).tolist()
    images = torch.randint(0, 256, (2, count, 3, height, width), dtype=torch.uint8, generator=draws)
    mask = torch.ones(count, height, width, dtype=torch.bool)
    for each, (w, h) in zip(mask, sizes.tolist(), strict=True):
        each[:h, :w] = False
    centres, sides = torch.rand(2, count, boxes, 2, generator=draws) * torch.tensor([0.5, 0.4]).view(2, 1, 1, 1)
    batch = Batch(
        keys=[f"image {number}" for number in range(count)],
        views=images.masked_fill_(mask[:, None], 0),
        mask=mask,
        boxes=list(torch.cat([centres + 0.25, sides + 0.05], -1)),
        labels=[torch.zeros(boxes, dtype=torch.int64)] * count,
        sizes=torch.from_numpy(sizes),
    )
    return batch.pin_memory() if device.type == "cuda" else batch


def _warm(form: Callable, batches: list[Batch]) -> bool:
    """Some steps before any counts; whether they fit the device."""
    try:
        for number in range(WARM):
            form(batches[number % len(batches)])
    except torch.OutOfMemoryError:
        return False
    return True


def compare(
    forms: dict[str, Callable], batches: dict[str, list[Batch]], steps: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each step of each form on its batches, in turn, and the most bytes that it held."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    peaks = dict.fromkeys(forms, 0)
    for number in range(steps):
        for name in sorted(forms, reverse=number % 2 == 1):
            memory = cost.Memory(device)
            _wait(device)
            begin = time.perf_counter()
            forms[name](batches[name][number % len(batches[name])])
            _wait(device)
            seconds[name].append(time.perf_counter() - begin)
            peaks[name] = max(peaks[name], memory.peak() or 0)
    return seconds, peaks


def _public(step: Callable, batch: Batch) -> None:
    """A step with the public pieces in the place of ours."""
    with (
        _EAGERLY,
        mock.patch.object(deformable_attention, "sample_levels", sampling.sample_levels_plain),
        mock.patch.object(backbone, "folds", lambda norm, x: False),
        mock.patch.object(backbone, "order", lambda images: torch.contiguous_format),
        mock.patch.object(matcher, "assign", _scipy),
        mock.patch.object(method_file.ProSeCo, "contrast", _contrast_plainly),
    ):
        step(batch)


def _scipy(costs: Tensor, counts: list[int] | None = None, *, names=None) -> list[list[tuple[Tensor, Tensor]]]:
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


_contrast = method_file.ProSeCo.contrast


def _contrast_plainly(self, teacher, student, aligned, box_pairs, batch):
    """:meth:`proseco.methods.proseco.ProSeCo.contrast` with the table of all pairs."""

    def loss(z, z_hat, boxes, *, anchors):
        return plain_loss(z, z_hat, boxes)

    with mock.patch.object(self, "loss", loss):
        return _contrast(self, teacher, student, aligned, box_pairs, batch)


def _matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """Floating point operations a second of a square matrix product, the best of a few sizes."""
    rates = []
    for size in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device).to(precision) for _ in range(2))
        for _ in range(4):
            _wait(device)
            begin = time.perf_counter()
            a @ b
            _wait(device)
            rates.append(2 * size**3 / (time.perf_counter() - begin))
    return max(rates)


def _size(frames: np.ndarray) -> str:
    width, height = frames.reshape(-1, 2).T
    if len({*width.tolist()}) == len({*height.tolist()}) == 1:
        return f"{width[0]} x {height[0]}"
    return f"{width.min()} to {width.max()} x {height.min()} to {height.max()}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    cli.run(main)
