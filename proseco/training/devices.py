"""Where a training computes, and in which precision."""

import os

import torch

from proseco.base import environment
from proseco.base.errors import InputError, one_of

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str, place: str = "params.yaml: device") -> torch.device:
    """``auto`` takes a CUDA device, else the CPU; of several processes on a machine each takes a device of its own.

    :param place: where the name stands.
    :raises InputError: unknown; CUDA asked for where there is none; more processes than devices.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise one_of("device", name, ("auto", "cpu", "cuda"), place)
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device is 'cuda', but torch sees no CUDA device; choose auto or cpu ({place})")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    number, there = environment.local_rank(), torch.cuda.device_count()
    if number >= there:
        raise InputError(f"{environment.local_world()} processes need a CUDA device each; torch sees {there}")
    return torch.device("cuda", number)


def pick_precision(name: str, device: torch.device, place: str = "params.yaml: precision") -> torch.dtype:
    """``auto`` is bfloat16 on a GPU and float32 on a CPU, which has no faster bfloat16 to offer.

    :param place: where the name stands.
    :raises InputError: unknown.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in PRECISIONS:
        raise one_of("precision", name, ("auto", *PRECISIONS), place)
    return PRECISIONS[name]


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Matrix products and convolutions in ``precision``; weights, sums and losses stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)


def prepare(device: torch.device) -> None:
    """Settings of a GPU by which equal inputs give equal bits, and float32 is float32. Nothing to do on a CPU.

    cuDNN then picks its algorithm by rule, not by a race, and only among those that sum in a fixed order; cuBLAS needs
    a workspace of fixed size for that. TF32, which keeps 10 bits of a float32's 23, stays out of both: who wants speed
    takes bfloat16. A kernel of which no ordered form exists (the gradient of ``grid_sample``) runs all the same, with
    a warning: the promise of equal bits is kept on a CPU, and on a GPU as far as torch can.
    """
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a help for finding bugs, and slow


def facts(device: torch.device, precision: torch.dtype) -> dict:
    """For ``run.json``: on what a training ran, and which programs the environment asked for."""
    how = {"attention": environment.attention(), "compiled": environment.compiles()}
    return {"device": str(device), "precision": str(precision), "processes": environment.world(), **how}
