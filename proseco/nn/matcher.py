"""Bipartite matching: costs in one batch on the device, assignment by lapx on the host, threads over the images."""

import itertools

import lap
import numpy as np
import torch
from torch import Tensor

from proseco import boxes as box_ops
from proseco.nn.tensors import at_least_float32, to_device, to_host


def box_cost(a: Tensor, b: Tensor, *, coord: float, giou: float) -> Tensor:
    """coord * L1 + giou * (1 - GIoU) of every pair (eq. 2 and 4). (..., N, 4), (..., K, 4) cxcywh -> (..., N, K)."""
    a, b = at_least_float32(a), at_least_float32(b)
    l1 = _pairwise_l1(a, b) if a.is_cuda else torch.cdist(a, b, p=1)
    overlap = box_ops.giou(
        box_ops.cxcywh_to_xyxy(a)[..., :, None, :],
        box_ops.cxcywh_to_xyxy(b)[..., None, :, :],
    )
    return coord * l1 + giou * (1 - overlap)


def _pairwise_l1(a: Tensor, b: Tensor) -> Tensor:
    """L1 distance of every pair, for a GPU: cdist starts a block of threads for each pair there."""
    return (a[..., :, None, :] - b[..., None, :, :]).abs().sum(-1)


def similarity_cost(a: Tensor, b: Tensor, *, sim: float) -> Tensor:
    """-sim * cosine of every pair. Similarity must lower the cost: eq. 2 writes + under an argmin (docs/method.md).

    :param a: (..., N, D), L2-normalised; b (..., K, D) likewise.
    """
    with torch.autocast(a.device.type, enabled=False):  # which would round the cosines to bfloat16
        return -sim * (at_least_float32(a) @ at_least_float32(b).transpose(-1, -2))


def focal_cost(logits: Tensor, labels: Tensor, *, weight: float, alpha: float = 0.25) -> Tensor:
    """Difference of the focal loss with and without the label (Deformable DETR's class cost, gamma 2).

    :param logits: (..., N, C); labels (..., K) int64, its leading axes broadcast -> (..., N, K).
    """
    p = at_least_float32(logits).sigmoid()
    positive = alpha * (1 - p) ** 2 * -(p + 1e-8).log()
    negative = (1 - alpha) * p**2 * -(1 - p + 1e-8).log()
    cost = positive - negative
    return weight * cost.gather(-1, labels[..., None, :].expand(*cost.shape[:-1], labels.shape[-1]))


def assign(
    costs: Tensor, counts: list[int] | None = None, *, names: list[str] | None = None
) -> list[list[tuple[Tensor, Tensor]]]:
    """Assignment of least total cost, per layer and image. All costs are moved to the host at once.

    :param costs: (layers, B, N, K).
    :param counts: how many of the K columns of each image are real; all of them when None.
    :param names: of the images, for the error.
    :returns: per layer, per image (rows, columns), int64 tensors on the CPU of min(N, count) entries, sorted by row.
    :raises FloatingPointError: a cost is not finite; it names the image.
    """
    layers, images, queries, width = costs.shape
    tables = to_host(at_least_float32(costs.detach()).flatten(0, 1)).numpy()
    widths = np.tile(counts if counts is not None else [width] * images, layers)
    pairs: list = [None] * len(tables)
    for count in np.unique(widths):  # problems of one size are solved in one call
        (same,) = np.nonzero(widths == count)
        problems = (tables if len(same) == len(tables) else tables[same])[:, :, :count]
        finite = np.isfinite(problems).all((1, 2))
        if not finite.all():  # lapx would not notice
            image = same[finite.argmin()] % images
            name = names[image] if names else f"number {image} of the batch"
            raise FloatingPointError(f"matching: a cost of image {name} is not finite")
        # Sums in float64, as SciPy's: square problems have them anyway, others only if the costs are float64 too.
        precision = "native" if count == queries else "float64"
        rows, columns = lap.lapjvr_batch(
            problems, extend_cost=True, return_cost=False, n_threads=torch.get_num_threads(), precision=precision
        )
        for number, row, column in zip(same, rows, columns, strict=True):
            pairs[number] = torch.from_numpy(row), torch.from_numpy(column)
    return [pairs[first : first + images] for first in range(0, len(pairs), images)]


def flatten(pairs: list[tuple], queries: int, counts: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The pairs of all images as indices into the B N predictions and into all targets in a row: 2 x (P,) int64.

    One move to the device instead of two per image.
    """
    return flatten_each([pairs], [queries], counts, device)[0]


def flatten_each(
    layers: list[list[tuple]], queries: list[int], counts: list[int], device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """:func:`flatten` for several layers, each with its own number of queries; one move to the device for all."""
    starts = list(itertools.accumulate(counts[:-1], initial=0))
    numbers = []
    for pairs, width in zip(layers, queries, strict=True):
        rows = torch.cat([rows + image * width for image, (rows, _) in enumerate(pairs)])
        columns = torch.cat([columns + start for (_, columns), start in zip(pairs, starts, strict=True)])
        numbers.append(torch.stack([rows, columns]))
    indices = to_device(torch.cat(numbers, 1), device).split([each.shape[1] for each in numbers], 1)
    return [(rows, columns) for rows, columns in indices]
