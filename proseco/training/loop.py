"""The one training loop. It knows the Method protocol and nothing of detectors, losses or data sets."""

import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from proseco.base.errors import InputError, one_of
from proseco.base.randomness import seed as derive_seed
from proseco.training.schedules import Schedule


class Method(Protocol):
    """What the loop trains."""

    #: The module whose parameters are trained. It sits in train mode; the method keeps still what must not move.
    student: nn.Module
    #: ``(sample, rng) -> Example``, run in the loader's processes.
    transform: Callable

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted loss terms, whose sum is trained on, and figures to watch. All scalars."""

    def after_step(self) -> None:
        """Called after each update: EMA."""


def pick_device(name: str) -> torch.device:
    """``auto`` takes the first CUDA device, else the CPU.

    :raises InputError: unknown, or CUDA asked for where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise one_of("device", name, ("auto", "cpu", "cuda"), "params.yaml: device")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device is 'cuda', but torch sees no CUDA device; choose auto or cpu (params.yaml: device)")
    return torch.device("cuda" if torch.cuda.is_available() and name != "cpu" else "cpu")


def parameter_groups(module: nn.Module, schedule: Schedule) -> list[dict]:
    """Deformable DETR's groups: backbone, the linear projections of deformable attention, the rest.

    Parameters that need no gradient are in none; nor is the backbone where its learning rate is 0.
    """
    groups = defaultdict(list)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if "backbone" in name:
            groups[schedule.lr_backbone].append(parameter)
        elif "sampling_offsets" in name or "reference_points" in name:
            groups[schedule.lr * schedule.linear_factor].append(parameter)
        else:
            groups[schedule.lr].append(parameter)
    return [{"params": parameters, "lr": lr} for lr, parameters in groups.items() if lr > 0]


class _Log:
    """Means of everything over each interval, as one line of CSV."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "w", newline="")  # noqa: SIM115 (closed by close)
        self.writer: csv.DictWriter | None = None
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """Sum on the device: no synchronisation."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().float()
        self.count += 1

    def flush(self, **facts) -> dict:
        """Write the line and begin a new interval; return it."""
        row = facts | {name: round(float(total / self.count), 6) for name, total in self.sums.items()}
        if self.writer is None:
            self.writer = csv.DictWriter(self.file, list(row))
            self.writer.writeheader()
        self.writer.writerow(row)
        self.file.flush()
        self.sums, self.count = {}, 0
        return row

    def close(self) -> None:
        self.file.close()


def fit(
    method: Method,
    batches: Iterable,
    schedule: Schedule,
    *,
    steps: int,
    steps_per_epoch: float,
    seed: int,
    device: torch.device,
    log: Path,
    title: str,
    at_step: dict[int, Callable[[int], None]] | None = None,
) -> dict:
    """Train.

    :param batches: ``steps`` batches.
    :param at_step: what to call after so many steps; 0 is before the first.
    :param log: CSV file: step, epoch, lr, loss, each term, each figure, grad_norm, images_per_second.
    :returns: ``steps``, ``seconds`` (training alone) and ``images_per_second``.
    :raises FloatingPointError: a loss or gradient is not finite; it names step, term and images. Nothing was updated.
    """
    at_step = at_step or {}
    student = method.student
    groups = parameter_groups(student, schedule)
    optimizer = torch.optim.AdamW(groups, weight_decay=schedule.weight_decay, fused=device.type == "cuda")
    drop = round(schedule.drop_at * steps)
    trained = [p for group in groups for p in group["params"]]
    writer = _Log(log)
    bar = tqdm(total=steps, desc=title, unit="step", mininterval=1.0)
    at_step.get(0, lambda step: None)(0)
    student.train()
    seconds, images, seen = 0.0, 0, 0
    start = mark = time.perf_counter()
    for step, batch in enumerate(batches):
        if step == drop:
            for group in optimizer.param_groups:
                group["lr"] *= 0.1
        torch.manual_seed(derive_seed(seed, "step", step))  # dropout depends on the step, not on what ran before
        batch = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            terms, figures = method.losses(batch)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained, schedule.clip)
        if not torch.isfinite(norm + loss.detach()):
            bad = [name for name, value in terms.items() if not torch.isfinite(value)] or ["gradient"]
            raise FloatingPointError(f"step {step}: {', '.join(bad)} is not finite; images {', '.join(batch.keys)}")
        optimizer.step()
        method.after_step()

        images += len(batch)
        seen += len(batch)
        writer.add({"loss": loss} | terms | figures | {"grad_norm": norm})
        done = step + 1
        bar.update()
        if done % schedule.log_every == 0 or done == steps:
            now = time.perf_counter()
            row = writer.flush(
                step=done,
                epoch=round(done / steps_per_epoch, 4),
                lr=schedule.lr * (0.1 if step >= drop else 1),
                images_per_second=round(seen / (now - mark), 2),
            )
            bar.set_postfix_str(f"loss {row['loss']:.3f}, {row['images_per_second']:.1f} images/s")
            mark, seen = now, 0
        if done in at_step:
            pause = time.perf_counter()
            seconds += pause - start
            at_step[done](done)
            student.train()
            start = time.perf_counter()
            mark += start - pause
    seconds += time.perf_counter() - start
    bar.close()
    writer.close()
    return {"steps": steps, "seconds": round(seconds, 2), "images_per_second": round(images / seconds, 2)}
