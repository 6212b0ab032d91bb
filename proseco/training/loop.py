"""The one training loop. It knows the Method protocol and nothing of detectors, losses or data sets."""

import math
import shutil
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from proseco.base.errors import InputError, PeerLost
from proseco.base.randomness import seed as derive_seed
from proseco.training import cost, distributed
from proseco.training.devices import autocast
from proseco.training.lars import LARS
from proseco.training.log import Log
from proseco.training.schedules import Schedule
from proseco.training.snapshots import Snapshots

#: What is kept of a failure, beside the states: batches, the step and the process following, and the log.
_FAILED, _LOG = "not-finite-step-", "log.csv"


class Method(Protocol):
    """What the loop trains."""

    #: The module whose parameters are trained. It sits in train mode; the method keeps still what must not move.
    student: nn.Module
    #: ``(sample, rng) -> Example``, run in the loader's processes.
    transform: Callable

    def parts(self, batch) -> list:
        """The batch, or parts of it whose losses add up to its loss; gradients are taken of one part at a time."""

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted loss terms, whose sum is trained on, and figures to watch. All scalars.

        Of a part of the whole batch (``batch.whole``) it is the part's share: shares of all parts, in all processes,
        sum to the value of the whole.
        """

    def after_step(self) -> None:
        """Called after each update: EMA."""

    def modules(self) -> dict[str, nn.Module]:
        """All that training changes, by name: what a state to go on from must hold."""


class Stateful(Protocol):
    """What gathers something during a training and must survive a kill."""

    def state_dict(self) -> dict:
        """Tensors and plain values, in dictionaries and lists."""

    def load_state_dict(self, state: dict) -> None:
        """Be as when :meth:`state_dict` was called."""


def parameter_groups(module: nn.Module, schedule: Schedule) -> list[dict]:
    """Deformable DETR's groups: backbone, the linear projections of deformable attention, the rest.

    Parameters that need no gradient are in none; nor is the backbone where its learning rate is 0.
    """
    groups = defaultdict(list)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if "backbone" in name and ".fpn." not in name:  # torchvision's detectors have their pyramid below backbone
            groups[schedule.lr_backbone].append(parameter)
        elif "sampling_offsets" in name or "reference_points" in name:
            groups[schedule.lr * schedule.linear_factor].append(parameter)
        else:
            groups[schedule.lr].append(parameter)
    return [{"params": parameters, "lr": lr} for lr, parameters in groups.items() if lr > 0]


def fit(
    method: Method,
    batches: Callable[..., Iterable],
    schedule: Schedule,
    *,
    steps: int,
    steps_per_epoch: float,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
    log: Path,
    title: str,
    factor: Callable[[int], float] | None = None,
    at_step: dict[int, Callable[[int], bool | None]] | None = None,
    snapshots: Snapshots | None = None,
    watching: dict[str, Stateful] | None = None,
) -> int:
    """Train, from the newest of ``snapshots`` on.

    :param batches: called with ``batch``, ``steps``, ``seed``, ``device``, ``first_step``, ``rank`` and ``world``, as
        ``proseco.data.loader.training_batches``: this process's share of the batches from that step to the last.
    :param factor: what all learning rates are multiplied by at a step, from 0; the schedule's where it is None.
    :param at_step: what to call after so many steps; 0 is before the first. The same steps in all processes, for the
        state is saved before. Where it returns True, in all of them, the training ends there.
    :param log: CSV file: step, epoch, lr, loss, each term, each figure, grad_norm. Beside it speed.csv and
        cost.json.
    :param watching: what ``at_step`` fills, by name. It is whole when ``factor`` is asked.
    :returns: how many steps there were, ``steps`` at most.
    :raises FloatingPointError: a loss or gradient is not finite; it names step, term and images, and where batch and
        log are kept. Nothing was updated.
    :raises InputError: SIGTERM came; the step was finished and the state saved.
    """
    factor = factor or (lambda step: schedule.factor(step, steps))
    at_step = at_step or {}
    first_process = distributed.rank() == 0
    groups = parameter_groups(method.student, schedule)
    trained = [parameter for group in groups for parameter in group["params"]]
    for parameter in set(method.student.parameters()) - set(trained):
        parameter.requires_grad_(False)  # a backbone of rate 0
    distributed.equalise(method.modules().values())
    optimizer = _optimizer(groups, schedule)
    rates = [group["lr"] for group in groups]
    writer = Log(log, title=title, steps=steps, batch=schedule.batch, first_process=first_process)
    # The log is the last to be restored, for its clock runs from then: an album draws its picture.
    memory = cost.Memory(device)
    kept = method.modules() | {"optimizer": optimizer, "memory": memory} | (watching or {}) | {"log": writer}
    begin, over = _restore(snapshots, kept)
    writer.bar.update(begin)
    update = partial(_update, method, optimizer, trained, clip=schedule.clip, device=device, precision=precision)

    def pause(step: int) -> bool:
        """Do what is to be done at a step; whether the training ends there."""
        writer.clock.pause()
        ends = at_step.get(step, lambda step: None)(step) is True
        method.student.train()
        writer.clock.resume()
        return ends

    def flush() -> None:
        writer.flush(step=done, epoch=round(done / steps_per_epoch, 4), lr=schedule.lr * factor(done - 1))

    share = {"batch": schedule.batch, "steps": steps, "seed": seed, "device": device, "first_step": begin}
    share |= {"rank": distributed.rank(), "world": distributed.world()}
    done, over = begin, over or pause(begin)  # a state is of before what is done at its step, unless it says over
    with _sigterm() as asked, _keeping(writer, flush, snapshots):
        for step, batch in enumerate(() if over else batches(**share), begin):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor(step)
            # Dropout depends on the step, not on what ran before; the second process and on have masks of their own.
            torch.manual_seed(derive_seed(seed, "step", step, *(() if first_process else (distributed.rank(),))))
            batch = _whole(batch.to(device))
            try:
                values, stop = update(batch, asked)
            except _NotFinite as error:
                raise _failure(error, step, batch, snapshots) from None
            writer.add(values, batch.mask)
            done = step + 1
            if done % schedule.log_every == 0 or done == steps:
                flush()
            # What is done at a step may outlast the time that is left after a SIGTERM.
            if snapshots and (stop or done == steps or done % snapshots.every == 0 or done in at_step):
                _save(snapshots, done, kept)
            if stop:
                raise InputError(f"ended by SIGTERM after step {done} of {steps}; the same command goes on from there")
            if done in at_step and pause(done):
                break
        if done < steps:
            if writer.count:
                flush()
            if snapshots:
                _save(snapshots, done, kept, over=True)
    writer.close()
    price = {"steps": done, "batch": schedule.batch, "epochs": done / steps_per_epoch, "seconds": writer.seconds}
    cost.write(log.with_name("cost.json"), memory=memory, **price)
    return done


def _optimizer(groups: list[dict], schedule: Schedule) -> torch.optim.Optimizer:
    options = {"lr": schedule.lr, "weight_decay": schedule.weight_decay}
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True, **options)
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=schedule.momentum, **options)
    return LARS(groups, momentum=schedule.momentum, trust=schedule.trust, **options)


def _restore(snapshots: Snapshots | None, kept: dict) -> tuple[int, bool]:
    """Put a saved state back; the step to go on with, and whether the training has ended there."""
    state = snapshots.load() if snapshots else None
    if state is None:
        return 0, False
    for name, thing in kept.items():
        thing.load_state_dict(state[name])
    return state["step"], state["over"]


def _save(snapshots: Snapshots, step: int, kept: dict, *, over: bool = False) -> None:
    """The first process writes, the others wait: SIGTERM may end them next."""
    if distributed.rank() == 0:
        state = {name: thing.state_dict() for name, thing in kept.items()}
        snapshots.save(step, {"step": step, "over": over} | state)
    distributed.first(None)


def _whole(batch):
    """The batch as this process's part of the batch of all."""
    if distributed.world() == 1:
        return batch
    return batch.within(distributed.every(batch.extent()), distributed.rank())


def _update(
    method: Method,
    optimizer: torch.optim.Optimizer,
    trained: list[nn.Parameter],
    batch,
    asked: list,
    *,
    clip: float | None,
    device: torch.device,
    precision: torch.dtype,
) -> tuple[dict[str, Tensor], bool]:
    """One step: gradients of all parts of the batch, summed over the processes, and what the optimiser makes of them.

    :param batch: this process's part of the batch of all.
    :param asked: of :func:`_sigterm`; it may come in the midst of the step.
    :returns: ``loss``, the terms and figures, ``grad_norm``, of the whole batch; whether SIGTERM has come to any.
    :raises _NotFinite: nothing was updated.
    """
    optimizer.zero_grad(set_to_none=True)
    try:
        terms, figures = _backward(method, batch, device, precision)
    except FloatingPointError as error:  # of a matching; here alone, so no word with the other processes
        raise _NotFinite(str(error), everywhere=False) from None
    mine = torch.stack([*terms.values(), *figures.values(), torch.full((), float(bool(asked)), device=device)])
    *totals, stops = distributed.add_up(trained, mine).unbind()
    loss = torch.stack(totals[: len(terms)]).sum()
    norm = nn.utils.clip_grad_norm_(trained, math.inf if clip is None else clip)
    # The one time in a step that the loop waits for a GPU: nothing is updated with what is not finite.
    total, stops = torch.stack([norm + loss, stops]).tolist()
    if not math.isfinite(total):
        bad = [name for name, value in zip(terms, totals, strict=False) if not torch.isfinite(value)]
        raise _NotFinite(f"{', '.join(bad) or 'gradient'} is not finite; images {_guilty(terms, batch)}")
    optimizer.step()
    method.after_step()
    return {"loss": loss} | dict(zip([*terms, *figures], totals, strict=True)) | {"grad_norm": norm}, stops > 0


def _backward(method: Method, batch, device: torch.device, precision: torch.dtype) -> tuple[dict, dict]:
    """Gradients of this process's share of the loss; its terms and figures, detached."""
    sums: tuple[dict, dict] = {}, {}
    for part in method.parts(batch):
        with autocast(device, precision):
            found = method.losses(part)
        torch.stack(list(found[0].values())).sum().backward()
        for total, values in zip(sums, found, strict=True):
            for name, value in values.items():
                total[name] = total.get(name, 0) + value.detach().float()
    return sums


def _guilty(terms: dict, batch) -> str:
    """Keys of the images of those processes whose own terms are not finite; where none is, of all."""
    bad = not all(bool(torch.isfinite(value)) for value in terms.values())
    found = distributed.every((bad, batch.keys))
    chosen = [keys for bad, keys in found if bad] or [keys for _, keys in found]
    return ", ".join(key for keys in chosen for key in keys)


class _NotFinite(FloatingPointError):
    """A loss, a gradient or a cost of a matching. ``everywhere``: all processes have come to know of it, not this one
    alone."""

    def __init__(self, message: str, *, everywhere: bool = True):
        super().__init__(message)
        self.everywhere = everywhere


def _failure(error: _NotFinite, step: int, batch, snapshots: Snapshots | None) -> FloatingPointError:
    """The error of a step, when the batch is kept for ``torch.load``; the first process keeps the log, if it lives."""
    message = f"step {step}: {error}"
    if snapshots:
        content = batch.to(torch.device("cpu")).content()
        path = snapshots.keep(f"{_FAILED}{step}-process-{distributed.rank()}.pt", content)
        logged = error.everywhere or distributed.rank() == 0
        message += f" (the batch is kept in {path}{f', the log in {snapshots.folder / _LOG}' if logged else ''})"
    return FloatingPointError(message)


@contextmanager
def _keeping(log: Log, flush: Callable[[], None], snapshots: Snapshots | None) -> Iterator[None]:
    """Keep the log, the interval begun included, beside a batch that is kept: its own folder goes with the error.

    The first process has the log, and the batch may be another's.
    """
    try:
        yield
    except (FloatingPointError, PeerLost):
        if snapshots and distributed.rank() == 0 and any(snapshots.folder.glob(f"{_FAILED}*.pt")):
            if log.count:
                flush()
            shutil.copyfile(log.rows.path, snapshots.folder / _LOG)
        raise


@contextmanager
def _sigterm() -> Iterator[list]:
    """A list that is not empty any more when SIGTERM has come."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
