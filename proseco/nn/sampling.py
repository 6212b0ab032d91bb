"""Deformable attention's sampling, by whichever program is fastest where it runs."""

from functools import lru_cache
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from proseco.base import environment
from proseco.base.errors import InputError
from proseco.nn import _sampling


def sample_levels(value: Tensor, shapes: list[tuple[int, int]], points: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples over levels and points, zeros outside of each level.

    On a CPU a compiled kernel (:mod:`proseco.nn._sampling`), elsewhere :func:`sample_levels_plain` or, where the
    environment asks for it, a Triton kernel (:mod:`proseco.nn._sampling_gpu`). Sums are of float32 at least, and so are
    points, as autocast has it too: bf16 places a point of a wide map to within half a pixel.

    :param value: (B, S, heads, D/heads), S = sum of H*W over the levels, row by row.
    :param shapes: (H, W) of each level.
    :param points: (B, Q, heads, L, P, 2), x and y in 0..1 of the level's whole map (padding included). On a CPU
        and in the Triton kernel a point that is NaN makes its sum NaN.
    :param weights: (B, Q, heads, L, P), attention weights.
    :returns: (B, Q, D).
    :raises InputError: the Triton kernel is asked for, and Triton is not installed.
    """
    dtype = torch.promote_types(value.dtype, torch.float32)
    points, weights = points.to(dtype), weights.to(dtype)
    if not _has_kernels(value.device.type):
        return sample_levels_plain(value.to(dtype), shapes, points, weights).to(value.dtype)
    return _operation(value, [size for shape in shapes for size in shape], points, weights)


def sample_levels_plain(value: Tensor, shapes: list[tuple[int, int]], points: Tensor, weights: Tensor) -> Tensor:
    """:func:`sample_levels` in PyTorch's own operations, one ``grid_sample`` per level, as the public core does."""
    b, _, heads, width = value.shape
    q = points.shape[1]
    # (B*heads, L, P, Q): queries last, so that products and sums over points run along contiguous memory.
    grid = (points * 2 - 1).permute(0, 2, 3, 4, 1, 5).flatten(0, 1)  # grid_sample's -1..1, align_corners=False
    weights = weights.permute(0, 2, 3, 4, 1).flatten(0, 1)
    out = grid.new_zeros(())
    for level, ((h, w), part) in enumerate(zip(shapes, value.split([h * w for h, w in shapes], dim=1), strict=True)):
        feature = part.permute(0, 2, 3, 1).reshape(b * heads, width, h, w)
        sampled = F.grid_sample(feature, grid[:, level], align_corners=False)  # zeros outside
        out = out + (sampled * weights[:, None, level]).sum(2)
    return out.view(b, heads * width, q).transpose(1, 2)


@torch.compiler.assume_constant_result
def _has_kernels(device: str) -> bool:
    return device == "cpu" or (device == "cuda" and environment.attention() == "triton")


def _kernels(device: str) -> ModuleType:
    """``forward`` and ``backward`` for tensors of a device."""
    return _sampling if device == "cpu" else _triton()


@lru_cache
def _triton() -> ModuleType:
    try:
        from proseco.nn import _sampling_gpu  # not everywhere beside torch
    except ModuleNotFoundError as error:
        raise InputError(f"PROSECO_ATTENTION is triton, but there is no module {error.name!r} (environment)") from None
    return _sampling_gpu


def _pairs(sizes: list[int]) -> list[tuple[int, int]]:
    return list(zip(sizes[::2], sizes[1::2], strict=True))


# Custom operations, which torch.compile does not look into. ``sizes``: height and width of each level, one after the
# other.
@torch.library.custom_op("proseco::sample_levels", mutates_args=())
def _operation(value: Tensor, sizes: list[int], points: Tensor, weights: Tensor) -> Tensor:
    return _kernels(value.device.type).forward(value, _pairs(sizes), points, weights)


@_operation.register_fake
def _(value, sizes, points, weights):
    return value.new_empty(value.shape[0], points.shape[1], value.shape[2] * value.shape[3])  # len would be constant


@torch.library.custom_op("proseco::sample_levels_backward", mutates_args=())
def _operation_backward(
    value: Tensor, sizes: list[int], points: Tensor, weights: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _kernels(value.device.type).backward(value, _pairs(sizes), points, weights, grad_out)


@_operation_backward.register_fake
def _(value, sizes, points, weights, grad_out):
    return tuple(torch.empty_like(each, memory_format=torch.contiguous_format) for each in (value, points, weights))


def _keep(ctx, inputs, output) -> None:
    value, ctx.sizes, points, weights = inputs
    ctx.save_for_backward(value, points, weights)


def _operation_gradients(ctx, grad_out: Tensor) -> tuple:
    value, points, weights = ctx.saved_tensors
    gradients = _operation_backward(value, ctx.sizes, points, weights, grad_out)
    return gradients[0], None, *gradients[1:]


_operation.register_autograd(_operation_gradients, setup_context=_keep)
