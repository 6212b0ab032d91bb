"""Bipartite matching: costs in one batch on the device, assignment by SciPy."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from proseco import boxes as box_ops


def box_cost(a: Tensor, b: Tensor, *, coord: float, giou: float) -> Tensor:
    """coord * L1 + giou * (1 - GIoU) of every pair (eq. 2 and 4). (..., N, 4), (..., K, 4) cxcywh -> (..., N, K)."""
    a, b = a.float(), b.float()
    l1 = torch.cdist(a, b, p=1)
    overlap = box_ops.giou(
        box_ops.cxcywh_to_xyxy(a)[..., :, None, :],
        box_ops.cxcywh_to_xyxy(b)[..., None, :, :],
    )
    return coord * l1 + giou * (1 - overlap)


def similarity_cost(a: Tensor, b: Tensor, *, sim: float) -> Tensor:
    """-sim * cosine of every pair. Similarity must lower the cost: eq. 2 writes + under an argmin (docs/method.md).

    :param a: (..., N, D), L2-normalised; b (..., K, D) likewise.
    """
    return -sim * (a.float() @ b.float().transpose(-1, -2))


def focal_cost(logits: Tensor, labels: Tensor, *, weight: float, alpha: float = 0.25) -> Tensor:
    """Difference of the focal loss with and without the label (Deformable DETR's class cost, gamma 2).

    :param logits: (..., N, C); labels (..., K) int64 -> (..., N, K).
    """
    p = logits.float().sigmoid()
    positive = alpha * (1 - p) ** 2 * -(p + 1e-8).log()
    negative = (1 - alpha) * p**2 * -(1 - p + 1e-8).log()
    cost = positive - negative
    return weight * cost.gather(-1, labels[..., None, :].expand(*cost.shape[:-1], labels.shape[-1]))


def assign(cost: Tensor, counts: list[int] | None = None, *, names: list[str] | None = None) -> list[tuple]:
    """Assignment of least total cost, per image.

    :param cost: (B, N, K).
    :param counts: how many of the K columns of each image are real; all of them when None.
    :param names: of the images, for the error.
    :returns: per image (rows, columns), int64 tensors on the CPU of min(N, count) entries, sorted by row.
    :raises FloatingPointError: a cost is not finite; it names the image.
    """
    table = cost.detach().cpu().double().numpy()
    pairs = []
    for index, matrix in enumerate(table):
        matrix = matrix[:, : counts[index]] if counts is not None else matrix
        try:
            rows, columns = linear_sum_assignment(matrix)
        except ValueError:
            name = names[index] if names else f"number {index} of the batch"
            raise FloatingPointError(f"matching: a cost of image {name} is not finite") from None
        pairs.append((torch.from_numpy(rows), torch.from_numpy(columns)))
    return pairs


def pad(tensors: list[Tensor], length: int | None = None) -> Tensor:
    """Stack tensors of unequal first length, zeros behind: [(k_i, ...)] -> (B, K, ...), K = max(k_i) or length."""
    longest = max(len(t) for t in tensors) if length is None else length
    out = tensors[0].new_zeros(len(tensors), longest, *tensors[0].shape[1:])
    for row, tensor in zip(out, tensors, strict=True):
        row[: len(tensor)] = tensor
    return out
