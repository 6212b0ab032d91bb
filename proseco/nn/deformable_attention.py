"""Multi-scale deformable attention (Deformable DETR, Zhu et al. 2021, eq. 3), in the public parameter layout."""

import math

import torch
from torch import Tensor, nn

from proseco.nn.constants import constant
from proseco.nn.sampling import sample_levels


def sizes(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """(H, W) of each level -> (L, 2) float32, widths and heights."""
    return constant(tuple((w, h) for h, w in shapes), device)


class DeformableAttention(nn.Module):
    """Each query samples P points per level and head around its reference points and sums them with learned weights."""

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
        size: Tensor | None = None,
    ) -> Tensor:
        """
        :param query: (B, Q, D).
        :param reference: (B, Q, L, 2) points, or (B, Q, L, 4) boxes as cxcywh; relative to the padded map (0..1).
        :param value: (B, S, D), the levels' pixels one after the other.
        :param shapes: (H, W) of each level, sum of H*W = S.
        :param mask: (B, S) bool, True on padding.
        :param size: (L, 2), width and height of each level, from :func:`sizes`; None: computed from ``shapes``.
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
            size = sizes(shapes, offsets.device) if size is None else size
            points = reference + offsets / size[:, None]
        else:
            points = reference[..., :2] + offsets / self.points * reference[..., 2:] * 0.5
        return self.output_proj(sample_levels(value, shapes, points, weights))
