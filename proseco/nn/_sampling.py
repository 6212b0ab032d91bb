"""Deformable attention's sampling compiled for the CPU: one pass over the points, forward and backward.

Nothing is stored per sample; the plain form writes ``points`` maps as large as the result and reads them again. Each
head of an image is the work of one thread, in order, so that the bits do not depend on the number of threads.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from proseco.base.machine_code import compiler

_compiled = compiler(__file__, error_model="numpy")
# Sums may be reordered, which lets the compiler use vectors; NaN stays NaN.
_vectors = compiler(__file__, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@_compiled
def _pixel(point, size):
    """0..1 -> pixels, 0 the first one's centre, by the steps of ``grid_sample`` (there by way of -1..1): a fresh
    detector's points lie on pixel centres, where gradients jump, and should land on the same side of them.
    """
    dtype = type(point)
    return (point * dtype(2) - dtype(1) + dtype(1)) * (dtype(size) / dtype(2)) - dtype(0.5)


@_compiled
def _along(x, size):
    """The two pixels on either side of ``x`` (-1 <= x < size, in pixels, 0 a centre): their indices, their weights in
    linear interpolation, and the derivatives of these. A pixel outside has weight 0 and its neighbour's index.
    """
    zero, one = type(x)(0), type(x)(1)
    below = np.floor(x)
    part, first = x - below, int(below)
    in_first, in_second = first >= 0, first + 1 < size
    return (
        (first if in_first else 0, first + 1 if in_second else first),
        (one - part if in_first else zero, part if in_second else zero),
        (-one if in_first else zero, one if in_second else zero),
    )


@_vectors
def _blend(into, f0, p0, f1, p1, f2, p2, f3, p3):
    for c in range(into.size):
        into[c] += f0 * p0[c] + f1 * p1[c] + f2 * p2[c] + f3 * p3[c]


@_vectors
def _products(row, p0, p1, p2, p3):
    d0 = d1 = d2 = d3 = row.dtype.type(0)
    for c in range(row.size):
        d0 += row[c] * p0[c]
        d1 += row[c] * p1[c]
        d2 += row[c] * p2[c]
        d3 += row[c] * p3[c]
    return d0, d1, d2, d3


@_vectors
def _add(into, factor, row):
    for c in range(row.size):
        into[c] += factor * row[c]


@_compiled
def _forward(begin, end, value, shapes, points, weights, out):
    """value (B, S, heads, width), shapes (L, 2), points (B, Q, heads, L, P, 2), weights (B, Q, heads, L, P), out
    (B, Q, heads, width), zero. Fills items ``begin`` to ``end`` of the B * heads.
    """
    _, queries, heads, levels, count, _ = points.shape
    for item in range(begin, end):
        b, head = item // heads, item % heads
        for q in range(queries):
            total = out[b, q, head]
            start = 0
            for level in range(levels):
                h, w = shapes[level]
                for p in range(count):
                    x = _pixel(points[b, q, head, level, p, 0], w)
                    y = _pixel(points[b, q, head, level, p, 1], h)
                    if not (x >= -1 and x < w and y >= -1 and y < h):
                        if np.isnan(x) or np.isnan(y):
                            total[:] = np.nan
                        continue
                    (left, right), (x0, x1), _ = _along(x, w)
                    (top, bottom), (y0, y1), _ = _along(y, h)
                    top, bottom = start + top * w, start + bottom * w
                    weight = weights[b, q, head, level, p]
                    y0, y1 = weight * y0, weight * y1
                    f0, f1, f2, f3 = y0 * x0, y0 * x1, y1 * x0, y1 * x1
                    p0, p1 = value[b, top + left, head], value[b, top + right, head]
                    p2, p3 = value[b, bottom + left, head], value[b, bottom + right, head]
                    _blend(total, f0, p0, f1, p1, f2, p2, f3, p3)
                start += h * w


@_compiled
def _backward(begin, end, value, shapes, points, weights, grad_out, grad_value, grad_points, grad_weights):
    """grad_out (B, Q, heads, width): the gradient of the output of :func:`_forward`. Fills the last three, all zero."""
    _, queries, heads, levels, count, _ = points.shape
    dtype = value.dtype.type
    for item in range(begin, end):
        b, head = item // heads, item % heads
        for q in range(queries):
            g = grad_out[b, q, head]
            start = 0
            for level in range(levels):
                h, w = shapes[level]
                for p in range(count):
                    x = _pixel(points[b, q, head, level, p, 0], w)
                    y = _pixel(points[b, q, head, level, p, 1], h)
                    if not (x >= -1 and x < w and y >= -1 and y < h):
                        continue
                    (left, right), (x0, x1), (dx0, dx1) = _along(x, w)
                    (top, bottom), (y0, y1), (dy0, dy1) = _along(y, h)
                    top, bottom = start + top * w, start + bottom * w
                    p0, p1 = value[b, top + left, head], value[b, top + right, head]
                    p2, p3 = value[b, bottom + left, head], value[b, bottom + right, head]
                    d0, d1, d2, d3 = _products(g, p0, p1, p2, p3)
                    upper, lower = x0 * d0 + x1 * d1, x0 * d2 + x1 * d3
                    weight = weights[b, q, head, level, p]
                    grad_weights[b, q, head, level, p] = y0 * upper + y1 * lower
                    along = y0 * (dx0 * d0 + dx1 * d1) + y1 * (dx0 * d2 + dx1 * d3)
                    grad_points[b, q, head, level, p, 0] = weight * dtype(w) * along
                    grad_points[b, q, head, level, p, 1] = weight * dtype(h) * (dy0 * upper + dy1 * lower)
                    y0, y1 = weight * y0, weight * y1
                    _add(grad_value[b, top + left, head], y0 * x0, g)
                    _add(grad_value[b, top + right, head], y0 * x1, g)
                    _add(grad_value[b, bottom + left, head], y1 * x0, g)
                    _add(grad_value[b, bottom + right, head], y1 * x1, g)
                start += h * w


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool per process, as threads do not survive a fork: its number is a part of the cache's key."""
    return ThreadPoolExecutor(threads)


def _over(kernel, items: int, *arrays) -> None:
    """Run a kernel on all items, in as many threads as torch has."""
    threads = max(1, min(torch.get_num_threads(), items))
    bounds = [items * n // threads for n in range(threads + 1)]
    if threads == 1:
        kernel(0, items, *arrays)
        return
    pool = _pool(os.getpid(), torch.get_num_threads())
    first, *rest = pairwise(bounds)
    others = [pool.submit(kernel, *part, *arrays) for part in rest]
    kernel(*first, *arrays)
    for other in others:
        other.result()


def forward(value: Tensor, shapes: list[tuple[int, int]], points: Tensor, weights: Tensor) -> Tensor:
    """:func:`proseco.nn.sampling.sample_levels` on the CPU; points and weights of float32 or float64."""
    inputs = [tensor.contiguous() for tensor in (value.to(points.dtype), points, weights)]
    b, _, heads, width = value.shape
    out = points.new_zeros(b, points.shape[1], heads, width)
    values, *others = (tensor.numpy() for tensor in inputs)
    _over(_forward, b * heads, values, np.array(shapes), *others, out.numpy())
    return out.flatten(2).to(value.dtype)


def backward(value: Tensor, shapes: list[tuple[int, int]], points: Tensor, weights: Tensor, grad_out: Tensor) -> tuple:
    """Gradients of value, points and weights; ``grad_out`` (B, Q, D): the gradient of the output of :func:`forward`."""
    inputs = [tensor.contiguous() for tensor in (value.to(points.dtype), points, weights, grad_out.to(points.dtype))]
    b, _, heads, width = value.shape
    gradients = [torch.zeros_like(tensor) for tensor in inputs[:3]]
    inputs[3] = inputs[3].view(b, points.shape[1], heads, width)
    values, *others = (tensor.numpy() for tensor in [*inputs, *gradients])
    _over(_backward, b * heads, values, np.array(shapes), *others)
    return gradients[0].to(value.dtype), *gradients[1:]
