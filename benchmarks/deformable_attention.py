"""Deformable attention's sampling on a CPU: the compiled kernel against PyTorch's own operations.

    python -m benchmarks.deformable_attention [--images 1] [--height 480] [--width 640] [--rounds 9]

What an encoder layer of paper scale samples (8 heads, width 256, strides 8 to 64, 4 points a level, every pixel a
query), forward and with gradients, in float32 on one core and one thread. The peer is the form of the public
Deformable DETR, one ``grid_sample`` a level; each round times both in turn. The last line has the ratio of the median
times of forward and backward together, and the largest difference of the results, relative to the largest value.
"""

import os
import time

import numpy as np
import torch
from torch import Tensor

from proseco.base import cli
from proseco.base.errors import InputError
from proseco.nn import _sampling
from proseco.nn.deformable_attention import sample_levels_plain

HEADS, WIDTH, POINTS, STRIDES = 8, 32, 4, (8, 16, 32, 64)
FORMS = {"compiled": _sampling.sample, "plain": sample_levels_plain}


def main(*, images: int = 1, height: int = 480, width: int = 640, rounds: int = 9) -> None:
    """Time both forms, and compare what they give."""
    for name, value in (("images", images), ("height", height), ("width", width), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    shapes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    tensors = draw(images, shapes)
    above = torch.randn(images, sum(h * w for h, w in shapes), HEADS * WIDTH, generator=_chance(1))
    found = {name: run(form, shapes, tensors, above)[0] for name, form in FORMS.items()}  # and compiled by now
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found.values(), strict=True))
    seconds: dict[str, list] = {name: [] for name in FORMS}
    for turn in range(rounds):
        for name in sorted(FORMS, reverse=turn % 2 == 1):
            seconds[name].append(run(FORMS[name], shapes, tensors, above)[1])
    print(f"{images} x {height} x {width}, {above.shape[1]} queries, median of {rounds} rounds, milliseconds")
    print(f"{'form':10} {'forward':>8} {'backward':>9}")
    times = {name: 1000 * np.median(each, axis=0) for name, each in seconds.items()}
    for name, (forward, backward) in times.items():
        print(f"{name:10} {forward:8.1f} {backward:9.1f}")
    speedup = times["plain"].sum() / times["compiled"].sum()
    print(f"deformable_attention: speedup {speedup:.1f} rel_err {error:.0e}")


def _chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(images: int, shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """value, points and weights as :func:`proseco.nn.deformable_attention.sample_levels` takes them.

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


def run(form, shapes, tensors, above: Tensor) -> tuple[list[Tensor], tuple[float, float]]:
    """Result and gradients of value and weights, and seconds forward and backward. Those of points are taken, and left
    out here: at a pixel's border a rounding decides between two slopes.
    """
    value, points, weights = tensors
    begin = time.perf_counter()
    out = form(value, shapes, points, weights)
    middle = time.perf_counter()
    gradients = torch.autograd.grad(out, tensors, above)
    end = time.perf_counter()
    return [out.detach(), gradients[0], gradients[2]], (middle - begin, end - middle)


if __name__ == "__main__":
    cli.run(main)
