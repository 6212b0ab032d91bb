"""Where a training computes, and in which precision."""

import os

import torch

from proseco.base import environment
from proseco.base.errors import InputError, one_of

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str, place: str = "params.yaml: device") -> torch.device:
    """``auto`` takes a CUDA device if there is one, else the CPU. Each process on a machine takes its own device.

    :param place: where the name stands.
    :raises InputError: unknown; ``cuda`` without a CUDA device; more processes than devices.
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
    """``auto`` is bfloat16 on a GPU, and float32 on a CPU, where bfloat16 is no faster.

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
    """Set up a GPU so that equal inputs give equal bits and float32 is float32. On a CPU there is nothing to do.

    cuDNN then picks an algorithm by rule, not by timing, among those that sum in a fixed order; cuBLAS needs a
    workspace of fixed size for that. TF32, which keeps 10 of a float32's 23 bits, is off: bfloat16 is there for speed.
    A kernel without a deterministic form (the gradient of ``grid_sample``) still runs, with a warning: equal bits are
    certain on a CPU, and on a GPU as far as torch can.
    """
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # helps to find bugs, but is slow


def facts(device: torch.device, precision: torch.dtype) -> dict:
    """For ``run.json``: what a training ran on, and which kernels the environment asked for."""
    how = {"attention": environment.attention(), "compiled": environment.compiles()}
    return {"device": str(device), "precision": str(precision), "processes": environment.world(), **how}
