"""Precision, device and padding of tensors."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision -> float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to a device without making the host wait for queued GPU work."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def to_host(tensor: Tensor) -> Tensor:
    """Copy to the host and wait for it; into page-locked memory from a GPU, which saves a copy on the way."""
    copy = tensor.to("cpu", non_blocking=True)
    if tensor.is_cuda:
        torch.cuda.current_stream(tensor.device).synchronize()
    return copy


def pad(tensors: list[Tensor]) -> Tensor:
    """Stack tensors of unequal first length, zeros behind: [(k_i, ...)] -> (B, K, ...), K = max(k_i)."""
    out = tensors[0].new_zeros(len(tensors), max(map(len, tensors)), *tensors[0].shape[1:])
    for row, tensor in zip(out, tensors, strict=True):
        row[: len(tensor)] = tensor
    return out
