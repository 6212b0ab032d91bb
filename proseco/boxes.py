"""Boxes: conversions, areas, overlaps. The format is in the name; ``xyxy`` is in pixels, ``cxcywh`` relative (0..1).

Everything works on the last axis (4) and is differentiable.
"""

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size -> corners, in the same unit. (..., 4) -> (..., 4)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def scale(boxes: Tensor, width_height: Tensor) -> Tensor:
    """Multiply x by width and y by height. boxes (..., 4), width_height (..., 2), broadcast."""
    return boxes * torch.cat([width_height, width_height], dim=-1)


def area(boxes_xyxy: Tensor) -> Tensor:
    """Area, 0 where a side is negative. (..., 4) -> (...)."""
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0).prod(-1)


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of boxes that broadcast against each other. (..., 4), (..., 4) -> (...), (...)."""
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    return intersection, area(a) + area(b) - intersection


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: a box without area overlaps nothing."""
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), torch.zeros_like(a))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair. a (..., N, 4), b (..., M, 4), both xyxy -> (..., N, M) in 0..1."""
    return _ratio(*_overlap(a[..., :, None, :], b[..., None, :, :]))


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of boxes that broadcast against each other (Rezatofighi et al., 2019), in -1..1.

    :param a: (..., 4), xyxy; for all pairs pass ``a[..., :, None, :]`` and ``b[..., None, :, :]``.
    """
    intersection, union = _overlap(a, b)
    low = torch.minimum(a[..., :2], b[..., :2])
    high = torch.maximum(a[..., 2:], b[..., 2:])
    hull = (high - low).clamp(min=0).prod(-1)
    return _ratio(intersection, union) - _ratio(hull - union, hull)
