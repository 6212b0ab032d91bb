"""Several processes that train one model, each on its share of every batch (torchrun's environment variables).

Gradients are summed by one all-reduce of one flat tensor after the backward pass, not by DistributedDataParallel. DDP
overlaps the two, but lays its buckets anew after the first step, so that with three or more processes a resumed
training would add in another order and end in other bits; and it wraps a forward pass, where a method has a student, a
teacher and their shared backbone. What the overlap would save is small: 20 million weights are 80 MB a step, against a
step of several hundred milliseconds. Each process calls the functions here in the same order.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from proseco.base import environment
from proseco.base.errors import InputError, PeerLost

#: How long one process waits for the others, which may be scoring a validation, before it takes them for dead.
_PATIENCE = timedelta(hours=1)


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the processes that the environment names (WORLD_SIZE) for the time of the block; alone, do nothing.

    Tensors of a GPU travel by NCCL, those of a CPU (sizes, detections) by gloo.

    :raises PeerLost: here and in all functions below: another process has ended.
    """
    if environment.world() == 1:
        yield
        return
    with _peers():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    yield  # after an error nothing is tidied up: the others may be gone, and the process ends
    dist.destroy_process_group()


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:  # an heir of RuntimeError, but this process's own
        raise
    except RuntimeError as error:  # gloo, NCCL and the store raise this one and its heirs
        raise PeerLost(str(error).partition("\n")[0]) from None


def rank() -> int:
    """Number of this process; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def every(value) -> list:
    """The value of each process, any picklable one, in all of them."""
    if world() == 1:
        return [value]
    found = [None] * world()
    with _peers():
        dist.all_gather_object(found, value)
    return found


def first(value):
    """The value of the first process, in all of them."""
    return every(value)[0] if world() > 1 else value


@torch.no_grad()
def equalise(modules: Iterable[torch.nn.Module]) -> None:
    """Give all processes the weights of the first, lest another CPU's random numbers differ in the last bit."""
    if world() > 1:
        for module in modules:
            for tensor in module.state_dict().values():
                with _peers():
                    dist.broadcast(tensor, 0)


def with_norm_over_all(module: torch.nn.Module) -> torch.nn.Module:
    """The module with batch norm over the whole batch, whatever the number of processes.

    :raises InputError: several processes without GPUs: gloo has no such batch norm.
    """
    if world() == 1:
        return module
    if next(module.parameters()).device.type != "cuda":
        raise InputError(f"{world()} processes without GPUs: batch norm must see the whole batch; take one process")
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)


@torch.no_grad()
def add_up(parameters: list[torch.nn.Parameter], values: Tensor) -> Tensor:
    """Sum gradients over the processes, in place, and a vector of values.

    A parameter without gradient in all processes keeps none, as in one process. The host waits for a GPU only where one
    has no gradient here, which is rare.

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
    """The rows of all processes, in order; gradients flow back to the process that each row is of.

    :param tensor: (n, ...), n this process's share.
    :param shares: rows of each process; they may differ.
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
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous()
        with _peers():
            dist.all_reduce(gradient)  # each process's loss depends on every row
        return gradient.split(ctx.shares)[rank()], None
