"""Our matching against SciPy's, on the same costs.

    python -m benchmarks.matching [--images 64] [--queries 300] [--width 256] [--rounds 7]

From the table of costs in memory to the pairs, on one core and one thread, each round ours and SciPy's in turn. Costs
are ProSeCo's: of the teacher's proposals with the student's (eq. 2), resembling or not, and of the student's boxes with
30 or 7 drawn ones (eq. 4). The last line is about resembling proposals: the ratio of the median times, and the largest
difference of an image's total cost, summed in float64.
"""

import os
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks import _proposals
from proseco.base import cli
from proseco.base.errors import InputError
from proseco.nn import matcher

SIM, COORD, GIOU = 2.0, 5.0, 2.0  # the paper's


def main(*, images: int = 64, queries: int = 300, width: int = 256, rounds: int = 7) -> None:
    """Time the assignment of proposals and of boxes, and compare its cost."""
    for name, value in (("images", images), ("queries", queries), ("width", width), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    print(f"{images} images, median of {rounds} rounds, milliseconds")
    print(f"{'costs':28} {'size':>10} {'ours':>8} {'scipy':>8} {'ratio':>6} {'cost_diff':>10}")
    results = {}
    for name, cost in costs(images, queries, width).items():
        seconds: dict[Callable, list[float]] = {ours: [], scipy: []}
        for turn in range(rounds):
            for solve in sorted(seconds, key=lambda solve: solve is scipy, reverse=turn % 2 == 1):
                start = time.perf_counter()
                solve(cost)
                seconds[solve].append(time.perf_counter() - start)
        mine, theirs = (1000 * np.median(each) for each in seconds.values())
        difference = max(abs(a - b) for a, b in zip(*(totals(cost, solve(cost)) for solve in seconds), strict=True))
        size = f"{cost.shape[1]} x {cost.shape[2]}"
        print(
            f"{name:28} {size:>10} {mine:8.2f} {theirs:8.2f} {theirs / mine:6.1f} {difference:10.1e}",
            flush=True,
        )
        results[name] = theirs / mine, difference
    speedup, difference = results["proposals"]
    print(f"matching: speedup {speedup:.1f} cost_diff {difference:.1f}")


def costs(images: int, queries: int, width: int) -> dict[str, Tensor]:
    """Name -> costs (B, N, K), float32."""
    (z, b), (z_hat, b_hat) = _proposals.draw(images, queries, width)
    draws = torch.Generator().manual_seed(1)
    orders = torch.rand(images, queries, generator=draws).argsort(-1)[..., None]
    z_hat, b_hat = (x.gather(1, orders.expand_as(x)) for x in (z_hat, b_hat))
    found = {}
    for name, (other, other_boxes) in {
        "proposals": (z_hat, b_hat),
        "proposals of another image": (z_hat.roll(1, 0), b_hat.roll(1, 0)),
    }.items():
        similarity = matcher.similarity_cost(z, other, sim=SIM)
        found[name] = similarity + matcher.box_cost(b, other_boxes, coord=COORD, giou=GIOU)
    for count in (30, 7):
        drawn = torch.stack([_proposals.boxes_of_objects(draws, count) for _ in range(images)])
        found[f"{count} boxes"] = matcher.box_cost(b_hat, drawn, coord=COORD, giou=GIOU)
    return found


def ours(cost: Tensor) -> list[tuple]:
    """(B, N, K) -> per image (rows, columns)."""
    return matcher.assign(cost[None])[0]


def scipy(cost: Tensor) -> list[tuple]:
    """What SciPy makes of it, an image at a time."""
    return [tuple(map(torch.from_numpy, linear_sum_assignment(table))) for table in cost.double().numpy()]


def totals(cost: Tensor, pairs: list[tuple]) -> list[float]:
    """Cost of each image's pairs."""
    return [table[rows, columns].double().sum().item() for table, (rows, columns) in zip(cost, pairs, strict=True)]


if __name__ == "__main__":
    cli.run(main)
