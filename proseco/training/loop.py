"""The one training loop. It knows the Method protocol and nothing of detectors, losses or data sets."""

import math
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.training import distributed, failures, usage
from proseco.training.devices import autocast
from proseco.training.lars import LARS
from proseco.training.log import Log
from proseco.training.schedules import Schedule
from proseco.training.snapshots import Snapshots


class Method(Protocol):
    """What the loop trains."""

    #: The module whose parameters are trained. It is in train mode; the method keeps fixed what must not change.
    student: nn.Module
    #: ``(sample, rng) -> Example``, run in the loader's processes.
    transform: Callable

    def parts(self, batch) -> list:
        """Split a batch for gradient accumulation: the losses of the parts add up to that of the batch.

        ``[batch]`` if it cannot be split.
        """

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted loss terms, whose sum is minimised, and figures to log; all scalars ().

        Each value is this part's contribution to the global batch (``batch.global_batch``): summed over all parts and
        processes, contributions give the value of the global batch.
        """

    def after_step(self) -> None:
        """Called after each update: EMA."""

    def modules(self) -> dict[str, nn.Module]:
        """Everything that training changes, by name: what a state to resume from must hold."""


class DetectorMethod(Method, Protocol):
    """A method over a detector: what a pretraining saves and draws besides (:mod:`proseco.runs.pretraining`)."""

    def state_dicts(self) -> dict[str, dict[str, Tensor]]:
        """``student`` and ``teacher`` -> state dict of the whole detector, backbone included."""

    def matched_predictions(self, batch) -> dict[str, list[tuple[Tensor, list[int]]]]:
        """For pictures, and only of methods that take ``weak``: what is predicted for the boxes on the weak view.

        :returns: ``student``, and ``teacher`` if there is one -> per image boxes (m, 4) cxcywh on the CPU, and for each
            the number of the image's box that it is matched with.
        """


class Stateful(Protocol):
    """An object whose state must survive a kill."""

    def state_dict(self) -> dict:
        """Tensors and plain values, in dictionaries and lists."""

    def load_state_dict(self, state: dict) -> None:
        """Become what the object was when :meth:`state_dict` was called."""


def is_backbone(name: str) -> bool:
    """Whether a parameter of this name is the backbone's, and has ``lr_backbone``."""
    return "backbone" in name and ".fpn." not in name  # torchvision's detectors have their pyramid below backbone


def parameter_groups(module: nn.Module, schedule: Schedule) -> list[dict]:
    """Deformable DETR's groups: backbone, the linear projections of deformable attention, the rest.

    Parameters that need no gradient are in no group, nor is the backbone if its learning rate is 0.
    """
    groups = defaultdict(list)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if is_backbone(name):
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
    extra_state: dict[str, Stateful] | None = None,
) -> int:
    """Train, from the newest of ``snapshots`` on if there is one.

    :param batches: called with ``batch``, ``steps``, ``seed``, ``device``, ``first_step``, ``rank`` and ``world``, as
        ``proseco.data.loader.training_batches``: this process's share of the batches from that step to the last.
    :param factor: step, from 0 -> what all learning rates are multiplied by; None: the schedule's.
    :param at_step: step -> function called after that many steps (0: before the first). Must hold the same steps in
        every process, because the state is saved just before the call. Training ends if the function returns True,
        which it must do in all processes or in none.
    :param log: CSV file: step, epoch, lr, loss, each term, each figure, grad_norm. Beside it speed.csv and
        cost.json.
    :param extra_state: objects that the ``at_step`` functions write to, by name, saved and restored with the state.
        They are restored before ``factor`` is first called.
    :returns: number of steps after which the training ended, ``steps`` at most.
    :raises FloatingPointError: a loss or gradient is not finite; it names step, term and images, and where batch and
        log are kept. Nothing was updated.
    :raises InputError: SIGTERM came; the step was finished and the state saved. Or a GPU's memory is full in a step.
    """
    factor = factor or (lambda step: schedule.factor(step, steps))
    at_step = at_step or {}
    first_process = distributed.rank() == 0
    groups = parameter_groups(method.student, schedule)
    trained = [parameter for group in groups for parameter in group["params"]]
    for parameter in set(method.student.parameters()) - set(trained):
        parameter.requires_grad_(False)  # a backbone of rate 0
    _refuse_others(snapshots)
    distributed.equalise(method.modules().values())
    optimizer = _optimizer(groups, schedule)
    rates = [group["lr"] for group in groups]
    writer = Log(log, title=title, steps=steps, batch=schedule.batch, first_process=first_process)
    memory, machines = usage.Memory(device), usage.Machines(device)
    # The log is restored last, because its clock runs from then on and restoring an album draws its picture.
    own = {"optimizer": optimizer, "memory": memory, "machines": machines}
    stateful = method.modules() | own | (extra_state or {}) | {"log": writer}
    first_step, finished = _restore(snapshots, stateful, device, precision)
    writer.bar.update(first_step)
    update = partial(_update, method, optimizer, trained, clip=schedule.clip, device=device, precision=precision)

    def pause(step: int) -> bool:
        """Call what is to be done after that many steps; returns whether the training ends there."""
        writer.clock.pause()
        ends = at_step.get(step, lambda step: None)(step) is True
        method.student.train()
        writer.clock.resume()
        return ends

    def save(step: int, *, finished: bool = False) -> None:
        """The first process writes; the others wait, because SIGTERM may end them next."""
        if first_process:
            state = {name: thing.state_dict() for name, thing in stateful.items()}
            snapshots.save(step, {"step": step, "finished": finished, "precision": str(precision)} | state)
        distributed.barrier()

    def flush() -> None:
        writer.flush(step=done, epoch=round(done / steps_per_epoch, 4), lr=schedule.lr * factor(done - 1))

    loading = {"batch": schedule.batch, "steps": steps, "seed": seed, "device": device, "first_step": first_step}
    loading |= {"rank": distributed.rank(), "world": distributed.world()}
    # A state is saved before what is done at its step, unless it is that of a finished training.
    done, finished = first_step, finished or pause(first_step)
    with _sigterm() as sigterms, failures.keep_log(writer, flush, snapshots):
        remaining = [] if finished else batches(**loading)
        for step, batch in enumerate(remaining, first_step):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor(step)
            # Dropout depends on the step, not on what ran before; each process but the first has masks of its own.
            torch.manual_seed(derive_seed(seed, "step", step, *(() if first_process else (distributed.rank(),))))
            batch = _within_global_batch(batch.to(device))
            try:
                values, stop = update(batch, sigterms)
            except failures.NotFinite as error:
                raise failures.keep_batch(error, step, batch, snapshots) from None
            except torch.OutOfMemoryError as error:
                raise failures.out_of_memory(error, step, batch, method) from None
            writer.add(values, batch.mask)
            done = step + 1
            if done % schedule.log_every == 0 or done == steps:
                flush()
            # What is done at a step may take longer than the time that is left after a SIGTERM.
            if snapshots and (stop or done == steps or done % snapshots.every == 0 or done in at_step):
                save(done)
            if stop:
                raise InputError(f"ended by SIGTERM after step {done} of {steps}; the same command goes on from there")
            if done in at_step and pause(done):
                break
        if done < steps:
            if writer.count:
                flush()
            if snapshots:
                save(done, finished=True)
    writer.close()
    totals = {"steps": done, "batch": schedule.batch, "epochs": done / steps_per_epoch, "seconds": writer.seconds}
    usage.write(log.with_name("cost.json"), memory=memory, machines=machines, **totals)
    return done


def _optimizer(groups: list[dict], schedule: Schedule) -> torch.optim.Optimizer:
    options = {"lr": schedule.lr, "weight_decay": schedule.weight_decay}
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True, **options)
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=schedule.momentum, **options)
    return LARS(groups, momentum=schedule.momentum, trust=schedule.trust, **options)


def _refuse_others(snapshots: Snapshots | None) -> None:
    """Of several machines each reads its own files; the folder of the states is named by all that a training is of."""
    if snapshots and len(set(distributed.gather_values(snapshots.folder.name))) > 1:
        raise InputError(
            "the processes of this training differ in settings, inputs, code or versions of libraries; "
            "start them all in one shared folder and environment"
        )


def _restore(
    snapshots: Snapshots | None, stateful: dict[str, Stateful], device: torch.device, precision: torch.dtype
) -> tuple[int, bool]:
    """Restore the newest state; returns the step to go on with, and whether the training is finished there.

    :raises InputError: it was computed in another precision: ``auto`` means another one where there is a GPU.
    """
    state = snapshots.load() if snapshots else None
    if state is None:
        return 0, False
    if state["precision"] != str(precision):
        raise InputError(
            f"the first {state['step']} steps of this training were computed in {state['precision']}, and here, on the "
            f"device {device}, it would go on in {precision}; go on where it began, set precision to what it was "
            f"(params.yaml), or remove {str(snapshots.folder)!r} to begin anew"
        )
    for name, thing in stateful.items():
        thing.load_state_dict(state[name])
    return state["step"], state["finished"]


def _within_global_batch(batch):
    """The batch as this process's part of the global batch."""
    if distributed.world() == 1:
        return batch
    return batch.within(distributed.gather_values(batch.extent()), distributed.rank())


def _update(
    method: Method,
    optimizer: torch.optim.Optimizer,
    trained: list[nn.Parameter],
    batch,
    sigterms: list,
    *,
    clip: float | None,
    device: torch.device,
    precision: torch.dtype,
) -> tuple[dict[str, Tensor], bool]:
    """One step: gradients of all parts of the batch, summed over the processes, and the optimiser's update.

    :param batch: this process's part of the global batch.
    :param sigterms: of :func:`_sigterm`; one may come during the step.
    :returns: ``loss``, terms, figures and ``grad_norm`` of the global batch; whether SIGTERM came to any process.
    :raises NotFinite: nothing was updated.
    """
    optimizer.zero_grad(set_to_none=True)
    try:
        terms, figures = _backward(method, batch, device, precision)
    except FloatingPointError as error:  # of a matching, in this process alone: the others do not listen
        raise failures.NotFinite(str(error), everywhere=False) from None
    values = torch.stack([*terms.values(), *figures.values(), torch.full((), float(bool(sigterms)), device=device)])
    *totals, stops = distributed.add_up(trained, values).unbind()
    loss = torch.stack(totals[: len(terms)]).sum()
    norm = nn.utils.clip_grad_norm_(trained, math.inf if clip is None else clip)
    # The only time in a step that the loop waits for a GPU: nothing is updated with what is not finite.
    total, stops = torch.stack([norm + loss, stops]).tolist()
    if not math.isfinite(total):
        bad = [name for name, value in zip(terms, totals, strict=False) if not torch.isfinite(value)]
        suspects = failures.suspect_keys(terms, batch)
        raise failures.NotFinite(f"{', '.join(bad) or 'gradient'} is not finite; images {suspects}")
    optimizer.step()
    method.after_step()
    return {"loss": loss} | dict(zip([*terms, *figures], totals, strict=True)) | {"grad_norm": norm}, stops > 0


def _backward(method: Method, batch, device: torch.device, precision: torch.dtype) -> tuple[dict, dict]:
    """Accumulate the gradients of this process's contribution to the loss; returns its terms and figures, detached."""
    sums: tuple[dict, dict] = {}, {}
    for part in method.parts(batch):
        with autocast(device, precision):
            terms, figures = method.losses(part)
        torch.stack(list(terms.values())).sum().backward()
        for total, values in zip(sums, (terms, figures), strict=True):
            for name, value in values.items():
                total[name] = total.get(name, 0) + value.detach().float()
    return sums


@contextmanager
def _sigterm() -> Iterator[list]:
    """A list to which each SIGTERM is added."""
    sigterms: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: sigterms.append(number))
    try:
        yield sigterms
    finally:
        signal.signal(signal.SIGTERM, before)
