"""LocSCE in chunks of anchors against the plain form, which keeps every table of eq. 6-10, on the same proposals.

    python -m benchmarks.locsce [--images 64] [--queries 300] [--dim 256] [--repeats 3]

Forward and backward, float32, on one core. Each form runs in a process of its own, for its peak memory: the most that
was ever resident, less what was before the first loss. At 64 images the plain form takes 7 GiB and half a minute.
The last line has the ratios of the plain form's median time and peak to ours, and the largest difference of the two
gradients with respect to the student's embeddings, relative to the largest gradient.
"""

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import _proposals
from proseco import boxes as box_ops
from proseco.base import cli
from proseco.base.errors import InputError
from proseco.losses import locsce

TAU, TAU_T, LAMBDA_SCE, DELTA = 0.1, 0.07, 0.5, 0.5  # the paper's


def main(*, images: int = 64, queries: int = 300, dim: int = 256, repeats: int = 3) -> None:
    """Time LocSCE and its plain form, and compare their peak memory and gradients."""
    for name, value in (("images", images), ("queries", queries), ("dim", dim), ("repeats", repeats)):
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    if not Path("/proc/self/statm").exists():
        raise InputError("this system has no /proc: nothing tells how much memory is used; run it on Linux")
    print(f"{images} images, {queries} queries, width {dim}: {images * queries} proposals; {repeats} repeats")
    print(f"{'form':8} {'seconds':>9} {'peak MiB':>9} {'loss':>10}")
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for form in FORMS:
            found[form] = _alone(form, images, queries, dim, repeats, folder)
            seconds, peak, value = found[form]
            print(f"{form:8} {seconds:9.3f} {peak / 2**20:9.1f} {value:10.5f}", flush=True)
        ours, plain = (np.load(Path(folder) / f"{form}.npy") for form in FORMS)
    error = np.abs(ours - plain).max() / np.abs(plain).max()
    speedup, memory_ratio = (found["plain"][i] / found["chunked"][i] for i in (0, 1))
    print(f"locsce: speedup {speedup:.1f} memory_ratio {memory_ratio:.0f} grad_rel_err {error:.0e}")


def plain(z: Tensor, z_hat: Tensor, boxes: Tensor) -> Tensor:
    """Eq. 6-10 with a table of all pairs at each step, differentiated by autograd. (B, N, D) twice, (B, N, 4) -> ()."""
    images, queries, _ = z.shape
    logits = torch.einsum("ijd,nmd->ijnm", z, z_hat) / TAU
    log_p = logits.flatten(2).log_softmax(-1)
    relations = torch.einsum("ijd,nmd->ijnm", z, z).flatten(2) / TAU_T
    itself = torch.eye(images * queries, dtype=torch.bool, device=z.device).view(images, queries, -1)
    related = (relations.masked_fill(itself, float("-inf")).softmax(-1) * log_p).sum(-1)
    corners = box_ops.cxcywh_to_xyxy(boxes)
    own = log_p.view_as(logits)[range(images), :, range(images)]  # (B, N, N)
    likelihood = ((box_ops.iou(corners, corners) >= DELTA) * own).sum(-1)
    return -(LAMBDA_SCE * likelihood + (1 - LAMBDA_SCE) * related).mean()


def chunked(z: Tensor, z_hat: Tensor, boxes: Tensor) -> Tensor:
    """Ours."""
    return locsce.loss(z, z_hat, boxes, tau=TAU, tau_t=TAU_T, lambda_sce=LAMBDA_SCE, delta=DELTA)


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"chunked": chunked, "plain": plain}


def _alone(form: str, *arguments) -> tuple[float, int, float]:
    """Measure in a new process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, form, *arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        raise InputError(f"the {form} form ended with code {process.exitcode}: most likely out of memory") from None


def _measure(sender, form: str, images: int, queries: int, dim: int, repeats: int, folder: str) -> None:
    """Send (median seconds, peak bytes, loss), and leave the gradient in the folder."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    _step(form, *_inputs(2, 3, 5))  # loads what is loaded at first use
    inputs = _inputs(images, queries, dim)
    before = _resident()
    seconds, values, gradients = zip(*[_step(form, *inputs) for _ in range(repeats)], strict=True)
    peak = max(_most_resident() - before, resource.getpagesize())  # a tiny step fits what was free already
    np.save(Path(folder) / f"{form}.npy", gradients[-1].numpy())
    sender.send((float(np.median(seconds)), peak, values[-1]))


def _inputs(images: int, queries: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    (z, boxes), (z_hat, _) = _proposals.draw(images, queries, dim)
    return z, z_hat, boxes


def _step(form: str, z: Tensor, z_hat: Tensor, boxes: Tensor) -> tuple[float, float, Tensor]:
    """Forward and backward -> seconds, loss, gradient."""
    z_hat.requires_grad_()
    start = time.perf_counter()
    value = FORMS[form](z, z_hat, boxes)
    (gradient,) = torch.autograd.grad(value, z_hat)
    return time.perf_counter() - start, value.item(), gradient


def _resident() -> int:
    """Bytes that the process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _most_resident() -> int:
    """The most bytes that it ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    cli.run(main)
