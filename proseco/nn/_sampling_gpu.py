"""Deformable attention's sampling on a GPU: one Triton kernel forward and one backward.

Nothing is stored per sample, as in :mod:`proseco.nn._sampling`, whose rules for borders and NaN hold here too. A
program is a block of queries of one image's head: a sample's channels lie side by side in memory, and neighbouring
queries find each other's pixels in the cache. Sums have the points' precision; the value is read in its own, half the
bytes in bfloat16. Programs add to the value's gradient concurrently, so its last bits vary from run to run.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from proseco.nn.constants import constant

# Queries and warps of a program. A thread reads 16 bytes at once but adds at most four float32 to memory. If its part
# of a row were not the same for both, each addition would go through shared memory: backward, four channels a thread.
FORWARD, BACKWARD = (32, 4), (16, 4)

# Sizes change from batch to batch; separate code for multiples of 16 gains nothing, as strides come from WIDTH.
_kernel = triton.jit(do_not_specialize=["queries", "pixels", "heads"])


@triton.jit
def _place(points, query_mask, w, h):
    """Where samples lie: x and y in pixels, 0 the first one's centre, by the steps of ``grid_sample``."""
    x = tl.load(points, mask=query_mask, other=-1)
    y = tl.load(points + 1, mask=query_mask, other=-1)
    return (x * 2 - 1 + 1) * (w / 2.0).to(x.dtype) - 0.5, (y * 2 - 1 + 1) * (h / 2.0).to(y.dtype) - 0.5


@triton.jit
def _corners(x, y, w, h):
    """The pixels around each sample: number of the upper left one, shares of its right and lower neighbours, and which
    of the four are on the map.
    """
    inside = (x >= -1) & (x < w) & (y >= -1) & (y < h)  # False for NaN and for what no integer holds
    x, y = tl.where(inside, x, 0), tl.where(inside, y, 0)
    left, top = tl.floor(x), tl.floor(y)
    to_right, to_lower = x - left, y - top
    left, top = left.to(tl.int32), top.to(tl.int32)
    in_left, in_right = inside & (left >= 0), left + 1 < w
    in_top, in_bottom = top >= 0, inside & (top + 1 < h)
    on = (in_top & in_left, in_top & inside & in_right, in_bottom & in_left, in_bottom & in_right)
    return top * w + left, to_right, to_lower, on


@triton.jit
def _read(plane, pixel, on, channels, channel_mask, stride, dtype: tl.constexpr):
    """(queries, channels) of one pixel per query, 0 where it is not on the map."""
    return tl.load(plane + ((pixel * stride)[:, None] + channels), mask=on[:, None] & channel_mask, other=0).to(dtype)


@triton.jit
def _add(plane, pixel, on, channels, channel_mask, stride, amount):
    tl.atomic_add(
        plane + ((pixel * stride)[:, None] + channels), amount, mask=on[:, None] & channel_mask, sem="relaxed"
    )


@_kernel
def _forward(
    value,
    shapes,
    points,
    weights,
    out,
    queries,
    pixels,
    heads,
    LEVELS: tl.constexpr,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Shapes as in :func:`proseco.nn._sampling._forward`; ``CHANNELS`` is the power of two that holds ``WIDTH``."""
    dtype: tl.constexpr = points.dtype.element_ty
    blocks = tl.cdiv(queries, BLOCK)
    item, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, head = (item // heads).to(tl.int64), item % heads
    query = block * BLOCK + tl.arange(0, BLOCK)
    channels = tl.arange(0, CHANNELS)[None, :]
    query_mask, channel_mask, stride = query < queries, channels < WIDTH, heads * WIDTH
    row = (image * queries + query) * heads + head
    plane = value + image * pixels * stride + head * WIDTH
    total = tl.zeros((BLOCK, CHANNELS), dtype)
    for level in range(LEVELS):
        h, w = tl.load(shapes + 2 * level), tl.load(shapes + 2 * level + 1)
        for p in tl.static_range(COUNT):
            sample = (row * LEVELS + level) * COUNT + p
            x, y = _place(points + 2 * sample, query_mask, w, h)
            weight = tl.load(weights + sample, mask=query_mask, other=0)
            weight = tl.where((x != x) | (y != y), x + y, weight)  # NaN, whatever is read
            first, x1, y1, on = _corners(x, y, w, h)
            x0, y0 = 1 - x1, weight * (1 - y1)
            y1 = weight * y1
            total += (y0 * x0)[:, None] * _read(plane, first, on[0], channels, channel_mask, stride, dtype)
            total += (y0 * x1)[:, None] * _read(plane, first + 1, on[1], channels, channel_mask, stride, dtype)
            total += (y1 * x0)[:, None] * _read(plane, first + w, on[2], channels, channel_mask, stride, dtype)
            total += (y1 * x1)[:, None] * _read(plane, first + w + 1, on[3], channels, channel_mask, stride, dtype)
        plane += h * w * stride
    tl.store(out + row[:, None] * WIDTH + channels, total, mask=query_mask[:, None] & channel_mask)


@_kernel
def _backward(
    value,
    shapes,
    points,
    weights,
    grad_out,
    grad_value,
    grad_points,
    grad_weights,
    queries,
    pixels,
    heads,
    LEVELS: tl.constexpr,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``grad_out``: the gradient of the output of :func:`_forward`. Adds to ``grad_value``, fills the other two.

    Gradients of a level's points lie side by side, and so do those of its weights. They are collected as columns of a
    block like that of the channels, at least as wide as they need, and leave together: one at a time they would cross
    from thread to thread, with a barrier each.
    """
    dtype: tl.constexpr = points.dtype.element_ty
    blocks = tl.cdiv(queries, BLOCK)
    item, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, head = (item // heads).to(tl.int64), item % heads
    query = block * BLOCK + tl.arange(0, BLOCK)
    channels, columns = tl.arange(0, CHANNELS)[None, :], tl.arange(0, COLUMNS)[None, :]
    query_mask, channel_mask, stride = query < queries, channels < WIDTH, heads * WIDTH
    row = (image * queries + query) * heads + head
    start = image * pixels * stride + head * WIDTH
    g = tl.load(grad_out + row[:, None] * WIDTH + channels, mask=query_mask[:, None] & channel_mask, other=0).to(dtype)
    for level in range(LEVELS):
        h, w = tl.load(shapes + 2 * level), tl.load(shapes + 2 * level + 1)
        plane, grad_plane = value + start, grad_value + start
        to_points, to_weights = tl.zeros((BLOCK, COLUMNS), dtype), tl.zeros((BLOCK, COLUMNS), dtype)
        for p in tl.static_range(COUNT):
            sample = (row * LEVELS + level) * COUNT + p
            x, y = _place(points + 2 * sample, query_mask, w, h)
            weight = tl.load(weights + sample, mask=query_mask, other=0)
            first, x1, y1, on = _corners(x, y, w, h)
            x0, y0 = 1 - x1, 1 - y1
            d0 = tl.sum(g * _read(plane, first, on[0], channels, channel_mask, stride, dtype), 1)
            d1 = tl.sum(g * _read(plane, first + 1, on[1], channels, channel_mask, stride, dtype), 1)
            d2 = tl.sum(g * _read(plane, first + w, on[2], channels, channel_mask, stride, dtype), 1)
            d3 = tl.sum(g * _read(plane, first + w + 1, on[3], channels, channel_mask, stride, dtype), 1)
            upper, lower = x0 * d0 + x1 * d1, x0 * d2 + x1 * d3
            along_x = weight * w.to(dtype) * (y0 * (d1 - d0) + y1 * (d3 - d2))
            along_y = weight * h.to(dtype) * (lower - upper)
            to_points = tl.where(columns == 2 * p, along_x[:, None], to_points)
            to_points = tl.where(columns == 2 * p + 1, along_y[:, None], to_points)
            to_weights = tl.where(columns == p, (y0 * upper + y1 * lower)[:, None], to_weights)
            y0, y1 = weight * y0, weight * y1
            _add(grad_plane, first, on[0], channels, channel_mask, stride, (y0 * x0)[:, None] * g)
            _add(grad_plane, first + 1, on[1], channels, channel_mask, stride, (y0 * x1)[:, None] * g)
            _add(grad_plane, first + w, on[2], channels, channel_mask, stride, (y1 * x0)[:, None] * g)
            _add(grad_plane, first + w + 1, on[3], channels, channel_mask, stride, (y1 * x1)[:, None] * g)
        at = ((row * LEVELS + level) * COUNT)[:, None]
        tl.store(grad_points + 2 * at + columns, to_points, mask=query_mask[:, None] & (columns < 2 * COUNT))
        tl.store(grad_weights + at + columns, to_weights, mask=query_mask[:, None] & (columns < COUNT))
        start += h * w * stride


def _launch(kernel, program: tuple[int, int], shapes, value: Tensor, points: Tensor, *others: Tensor, **sizes) -> None:
    b, pixels, heads, width = value.shape
    queries, levels, count = points.shape[1], *points.shape[3:5]
    block, warps = program
    programs = b * heads * triton.cdiv(queries, block)
    if not programs:
        return
    shapes = constant(tuple(map(tuple, shapes)), value.device, torch.int32)
    sizes |= {"LEVELS": levels, "COUNT": count, "WIDTH": width, "CHANNELS": triton.next_power_of_2(width)}
    with torch.cuda.device_of(value):  # of several, the kernel runs on the current one
        # Fused multiply and add places points as grid_sample on a GPU does, on the same side of a kink.
        kernel[(programs,)](
            value,
            shapes,
            points,
            *others,
            queries,
            pixels,
            heads,
            **sizes,
            BLOCK=block,
            num_warps=warps,
            enable_fp_fusion=True,
        )


def forward(value: Tensor, shapes: list[tuple[int, int]], points: Tensor, weights: Tensor) -> Tensor:
    """:func:`proseco.nn.sampling.sample_levels` on a GPU; points and weights of float32 or float64."""
    value, points, weights = (tensor.contiguous() for tensor in (value, points, weights))
    b, _, heads, width = value.shape
    out = value.new_empty(b, points.shape[1], heads, width)
    _launch(_forward, FORWARD, shapes, value, points, weights, out)
    return out.flatten(2)


def backward(value: Tensor, shapes: list[tuple[int, int]], points: Tensor, weights: Tensor, grad_out: Tensor) -> tuple:
    """Gradients of value, points and weights; ``grad_out`` (B, Q, D): the gradient of the output of :func:`forward`."""
    value, points, weights, grad_out = (tensor.contiguous() for tensor in (value, points, weights, grad_out))
    grad_value = torch.zeros_like(value, dtype=points.dtype)
    grad_points, grad_weights = torch.empty_like(points), torch.empty_like(weights)
    columns = triton.next_power_of_2(max(value.shape[-1], 2 * points.shape[4]))
    others = (points, weights, grad_out, grad_value, grad_points, grad_weights)
    _launch(_backward, BACKWARD, shapes, value, *others, COLUMNS=columns)
    return grad_value.to(value.dtype), grad_points, grad_weights
