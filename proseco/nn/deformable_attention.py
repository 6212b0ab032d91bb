"""Multi-scale deformable attention (Deformable DETR, Zhu et al. 2021, eq. 3), in the public parameter layout."""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proseco.base import environment
from proseco.base.errors import InputError
from proseco.nn import _sampling
from proseco.nn.constants import constant


def sample_levels(value: Tensor, shapes: list[tuple[int, int]], points: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples over levels and points, zeros outside of each level.

    On a CPU a compiled kernel (:mod:`proseco.nn._sampling`), elsewhere :func:`sample_levels_plain` or, where the
    environment asks for it, a Triton kernel (:mod:`proseco.nn._sampling_gpu`). Sums are of float32 at least, and so are
    points, as autocast has it too: bf16 places a point of a wide map to within half a pixel.

    :param value: (B, S, heads, D/heads), S = sum of H*W over the levels, row by row.
    :param shapes: (H, W) of each level.
    :param points: (B, Q, heads, L, P, 2), x and y in 0..1 of the level's whole map (padding included). On a CPU
        and in the Triton kernel what samples a point that is NaN is NaN.
    :param weights: (B, Q, heads, L, P), attention weights.
    :returns: (B, Q, D).
    :raises InputError: the Triton kernel is asked for, and Triton is not installed.
    """
    kind = torch.promote_types(value.dtype, torch.float32)
    points, weights = points.to(kind), weights.to(kind)
    sample = sample_levels_plain
    if not torch.compiler.is_compiling():
        if value.device.type == "cpu":
            sample = _sampling.sample
        elif value.device.type == "cuda" and environment.attention() == "triton":
            return _triton()(value, shapes, points, weights)
    return sample(value.to(kind), shapes, points, weights).to(value.dtype)


@lru_cache
def _triton() -> Callable:
    try:
        from proseco.nn import _sampling_gpu  # not everywhere beside torch
    except ModuleNotFoundError as error:
        raise InputError(f"PROSECO_ATTENTION is triton, but there is no module {error.name!r} (environment)") from None
    return _sampling_gpu.sample


def sample_levels_plain(value: Tensor, shapes: list[tuple[int, int]], points: Tensor, weights: Tensor) -> Tensor:
    """:func:`sample_levels` in PyTorch's own operations, one ``grid_sample`` a level, as the public core does."""
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


class DeformableAttention(nn.Module):
    """Each query samples P points a level and head around its reference points and sums them with learned weights."""

    def __init__(self, width: int, levels: int, heads: int, points: int):
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self._initialise()

    def _initialise(self) -> None:
        """Offsets begin as a star: head h looks along the angle 2 pi h / heads, point p at distance p + 1."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angle = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        star = torch.stack([angle.cos(), angle.sin()], -1)
        star = star / star.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.points + 1, dtype=torch.float32)
        offsets = star[:, None, None, :] * distance[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: Tensor,
        reference: Tensor,
        value: Tensor,
        shapes: list[tuple[int, int]],
        mask: Tensor | None = None,
    ) -> Tensor:
        """
        :param query: (B, Q, D).
        :param reference: (B, Q, L, 2) points, or (B, Q, L, 4) boxes as cxcywh; relative to the padded map (0..1).
        :param value: (B, S, D), the levels' pixels one after the other.
        :param shapes: (H, W) of each level, sum of H*W = S.
        :param mask: (B, S) bool, True on padding.
        :returns: (B, Q, D).
        """
        b, q, _ = query.shape
        s = value.shape[1]
        value = self.value_proj(value)
        if mask is not None:
            value = value.masked_fill(mask[..., None], 0)
        value = value.view(b, s, self.heads, -1)
        # Positions in float32: bf16 has 8 bits, too few to tell pixels apart.
        offsets = self.sampling_offsets(query).float().view(b, q, self.heads, self.levels, self.points, 2)
        weights = self.attention_weights(query).view(b, q, self.heads, -1).softmax(-1)
        weights = weights.view(b, q, self.heads, self.levels, self.points)
        reference = reference.float()[:, :, None, :, None, :]
        if reference.shape[-1] == 2:
            size = constant(tuple((w, h) for h, w in shapes), offsets.device)[:, None]
            points = reference + offsets / size
        else:
            points = reference[..., :2] + offsets / self.points * reference[..., 2:] * 0.5
        return self.output_proj(sample_levels(value, shapes, points, weights))
