"""Sine position embedding of feature maps, over the part of each image that is not padding."""

import math

import torch
from torch import Tensor


def sine(mask: Tensor, channels: int, temperature: float = 10000.0) -> Tensor:
    """Sine embedding of the normalised position (DETR, with Deformable DETR's half-pixel offset).

    :param mask: (B, H, W) bool, True on padding.
    :param channels: D, even; the first half encodes y, the second x.
    :returns: (B, D, H, W) float32.
    """
    inside = ~mask
    features = channels // 2
    exponent = torch.arange(features, device=mask.device) // 2 * 2 / features
    period = temperature ** exponent.to(torch.float32)
    parts = []
    for axis in (1, 2):
        position = inside.cumsum(axis, dtype=torch.float32)
        position = (position - 0.5) / (position.amax(axis, keepdim=True) + 1e-6) * (2 * math.pi)
        angle = position[..., None] / period  # (B, H, W, D/2)
        parts.append(torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(-2))
    return torch.cat(parts, dim=-1).permute(0, 3, 1, 2)
