"""Deformable attention's sampling: the compiled kernel, on a GPU Triton's, against PyTorch's own operations.

    python -m benchmarks.deformable_attention [--images 1] [--height 480] [--width 640] [--rounds 9]
    python -m benchmarks.deformable_attention --device cuda --images 64 [--precision bfloat16] [--backward 4x1]

What an encoder layer of paper scale samples (8 heads, width 256, strides 8 to 64, 4 points a level, every pixel a
query), forward and with gradients; on a CPU on one core and one thread. The peer is the form of the public
Deformable DETR, one ``grid_sample`` a level, which in bfloat16 works in float32, as under autocast; each round times
both in turn. The last line has the ratio of the median times of forward and backward together, and the largest
difference of the results, relative to the largest value. ``--forward`` and ``--backward`` are queries x warps of a
program of the Triton kernels, as in :mod:`benchmarks.sampling_code`.
"""

import os
import time

import numpy as np
import torch
from torch import Tensor

from proseco.base import cli
from proseco.base.errors import InputError
from proseco.nn.sampling import sample_levels, sample_levels_plain
from proseco.training import devices

HEADS, WIDTH, POINTS, STRIDES = 8, 32, 4, (8, 16, 32, 64)


def main(
    *,
    images: int = 1,
    height: int = 480,
    width: int = 640,
    rounds: int = 9,
    device: str = "cpu",
    precision: str = "float32",
    forward: str | None = None,
    backward: str | None = None,
) -> None:
    """Time both forms, and compare what they give."""
    for name, value in (("images", images), ("height", height), ("width", width), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    where = devices.pick_device(device, "--device")
    kind = devices.pick_precision(precision, where, "--precision")
    for name, words in (("forward", forward), ("backward", backward)):
        if words is not None and where.type != "cuda":
            raise InputError(f"--{name} is {words!r}; it is of the Triton kernels and needs --device cuda")
    if where.type == "cuda":
        os.environ["PROSECO_ATTENTION"] = "triton"
        from benchmarks.sampling_code import program
        from proseco.nn import _sampling_gpu

        _sampling_gpu.FORWARD = program("forward", forward)
        _sampling_gpu.BACKWARD = program("backward", backward)
    else:
        torch.set_num_threads(1)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    forms = {"triton" if where.type == "cuda" else "compiled": sample_levels, "plain": _public}
    shapes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    value, *others = (tensor.to(where) for tensor in draw(images, shapes))
    tensors = [tensor.detach().requires_grad_() for tensor in (value.to(kind), *others)]
    grad_out = torch.randn(images, sum(h * w for h, w in shapes), HEADS * WIDTH, generator=_chance(1)).to(where, kind)
    found = {name: run(form, shapes, tensors, grad_out)[0] for name, form in forms.items()}  # and compiled by now
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found.values(), strict=True))
    seconds: dict[str, list] = {name: [] for name in forms}
    for turn in range(rounds):
        for name in sorted(forms, reverse=turn % 2 == 1):
            seconds[name].append(run(forms[name], shapes, tensors, grad_out)[1])
    print(
        f"{images} x {height} x {width}, {grad_out.shape[1]} queries, {kind}, median of {rounds} rounds, milliseconds"
    )
    print(f"{'form':10} {'forward':>8} {'backward':>9}")
    times = {name: 1000 * np.median(each, axis=0) for name, each in seconds.items()}
    for name, (forward, backward) in times.items():
        print(f"{name:10} {forward:8.1f} {backward:9.1f}")
    ours, plain = (each.sum() for each in times.values())
    print(f"deformable_attention: speedup {plain / ours:.1f} rel_err {error:.0e}")


def _public(value: Tensor, shapes: list[tuple[int, int]], points: Tensor, weights: Tensor) -> Tensor:
    return sample_levels_plain(value.float(), shapes, points, weights).to(value.dtype)


def _chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(images: int, shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """value, points and weights as :func:`proseco.nn.sampling.sample_levels` takes them.

    Points lie within four pixels of a query's own place, as those of a trained encoder do, a few beyond the border, and
    on no pixel's centre, where gradients jump.
    """
    draws, pixels, levels = _chance(0), sum(h * w for h, w in shapes), len(shapes)
    places = [torch.rand(h * w, 2, generator=draws) for h, w in shapes]
    size = torch.tensor([[w, h] for h, w in shapes]).view(levels, 1, 2)
    offsets = (torch.rand(images, pixels, HEADS, levels, POINTS, 2, generator=draws) * 8 - 4) / size
    points = torch.cat(places).view(pixels, 1, 1, 1, 2) + offsets
    value = torch.randn(images, pixels, HEADS, WIDTH, generator=draws)
    weights = torch.rand(images, pixels, HEADS, levels, POINTS, generator=draws)
    return value.requires_grad_(), points.requires_grad_(), weights.requires_grad_()


def run(form, shapes, tensors, grad_out: Tensor) -> tuple[list[Tensor], tuple[float, float]]:
    """Result and gradients of value and weights, and seconds forward and backward. Those of points are taken, and left
    out here: at a pixel's border a rounding decides between two slopes.
    """
    value, points, weights = tensors
    _wait(value)
    begin = time.perf_counter()
    out = form(value, shapes, points, weights)
    _wait(value)
    middle = time.perf_counter()
    gradients = torch.autograd.grad(out, tensors, grad_out)
    _wait(value)
    end = time.perf_counter()
    return [out.detach(), gradients[0], gradients[2]], (middle - begin, end - middle)


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


if __name__ == "__main__":
    cli.run(main)
