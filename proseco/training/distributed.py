"""Several processes that train one model, each on its share of every batch (torchrun's environment variables).

Gradients are summed by one all-reduce of one flat tensor after the backward pass, not by DistributedDataParallel. DDP
overlaps the two, but rearranges its buckets after the first step, so that with three or more processes a resumed
training would add in another order and end in other bits; and it wraps one forward pass, while a method has a student,
a teacher and their shared backbone. The overlap would save little: 20 million weights are 80 MB per step, against a
step of several hundred milliseconds. Each process calls the functions here in the same order.
"""

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from proseco.base import environment
from proseco.base.errors import InputError, PeerLost

#: Seconds in which processes that begin together have met.
_START = 30.0
#: How long a process waits for the others, which may be scoring a validation, before it takes them for dead.
_PATIENCE = timedelta(hours=1)


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Within the block, be one of the processes that the environment names (WORLD_SIZE); nothing to do where it is one.

    Tensors of a GPU travel by NCCL, those of a CPU (sizes, detections) by gloo.

    :raises PeerLost: another process has ended. So do all functions below.
    """
    if environment.world() == 1:
        yield
        return
    with _peers(), _waiting():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    yield  # after an error nothing is tidied up: the others may be gone, and the process ends
    dist.destroy_process_group()


@contextmanager
def _waiting() -> Iterator[None]:
    """Say for whom the block waits, if it takes longer than all of them need to start."""
    names = [os.environ.get(name, "?") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")]
    line = "process {} waits for all {} to meet at {}:{}".format(*names)
    timer = threading.Timer(_START, print, [line], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:  # a subclass of RuntimeError, but this process's own
        raise
    except RuntimeError as error:  # what gloo, NCCL and the store raise, or a subclass
        raise PeerLost(str(error).partition("\n")[0]) from None


def rank() -> int:
    """Number of this process; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather_values(value) -> list:
    """Every process's value, which must pickle, in order of rank."""
    if world() == 1:
        return [value]
    values = [None] * world()
    with _peers():
        dist.all_gather_object(values, value)
    return values


def from_first_process(value):
    """The first process's value, which must pickle, in every process."""
    return gather_values(value)[0] if world() > 1 else value


def barrier() -> None:
    """Wait until all processes have come here."""
    gather_values(None)


@torch.no_grad()
def equalise(modules: Iterable[torch.nn.Module]) -> None:
    """Give all processes the first one's weights: another CPU's random numbers may differ in the last bit."""
    if world() > 1:
        for module in modules:
            for tensor in module.state_dict().values():
                with _peers():
                    dist.broadcast(tensor, 0)


def with_norm_over_all(module: torch.nn.Module) -> torch.nn.Module:
    """The module with batch norm over the global batch, whatever the number of processes.

    :raises InputError: several processes without GPUs, as gloo has no such batch norm.
    """
    if world() == 1:
        return module
    if next(module.parameters()).device.type != "cuda":
        raise InputError(f"{world()} processes without GPUs: batch norm must see the whole batch; take one process")
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)


@torch.no_grad()
def add_up(parameters: list[torch.nn.Parameter], values: Tensor) -> Tensor:
    """Sum the gradients, in place, and a vector of values over the processes.

    A parameter that has no gradient in any process keeps none, as in one process. The host waits for the GPU only if a
    parameter has no gradient here, which is rare.

    :param values: (n,) float32.
    :returns: their sum, (n,).
    """
    if world() == 1:
        return values
    missing = [number for number, p in enumerate(parameters) if p.grad is None]
    there = torch.ones(len(parameters), device=values.device)
    if missing:
        there[missing] = 0
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([part.flatten() for part in parts] + [there, values])
    with _peers():
        dist.all_reduce(flat)
    *sums, there, values = flat.split([p.numel() for p in parameters] + [len(there), len(values)])
    counts = there.tolist() if missing else [1.0] * len(parameters)
    for parameter, total, count in zip(parameters, sums, counts, strict=True):
        if count > 0:
            parameter.grad = total.view_as(parameter)
    return values


def gather(tensor: Tensor, shares: tuple[int, ...]) -> Tensor:
    """The rows of all processes in order of rank; the gradient of a row flows back to its own process.

    :param tensor: (n, ...), this process's rows.
    :param shares: number of rows of each process; they may differ.
    :returns: (sum of shares, ...).
    """
    return _Gather.apply(tensor, shares) if len(shares) > 1 else tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, shares: tuple[int, ...]) -> Tensor:
        ctx.shares = shares
        padded = tensor.new_zeros(max(shares), *tensor.shape[1:])  # gloo gathers equal sizes only
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in shares]
        with _peers():
            dist.all_gather(parts, padded)
        return torch.cat([part[:share] for part, share in zip(parts, shares, strict=True)])

    @staticmethod
    def backward(ctx, grad_out: Tensor) -> tuple[Tensor, None]:
        grad_out = grad_out.contiguous()
        with _peers():
            dist.all_reduce(grad_out)  # each process's loss depends on every row
        return grad_out.split(ctx.shares)[rank()], None
