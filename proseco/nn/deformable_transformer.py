"""Deformable DETR's encoder and decoder (Zhu et al. 2021), in the public parameter layout.

``mask`` is True on padding throughout. Positions are relative to the padded map; ``valid_ratios`` (B, L, 2) say which
share of its width and height the image fills.
"""

import copy
import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from proseco.base import environment
from proseco.base.errors import InputError
from proseco.nn.constants import constant
from proseco.nn.deformable_attention import DeformableAttention, sizes
from proseco.nn.heads import in_float32


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """log(x / (1 - x)), finite at 0 and 1 (the public code's clamping)."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


def lower(x: Tensor) -> Tensor:
    """``x`` in autocast's precision, cast once instead of by each product that follows; float64 stays."""
    device_type = x.device.type
    lowered = torch.is_autocast_enabled(device_type) and x.dtype != torch.float64
    return x.to(torch.get_autocast_dtype(device_type)) if lowered else x


class FeedForward(nn.Module):
    """Mixin of both kinds of layers: linear1, ReLU, linear2, residual."""

    def feed_forward(self, x: Tensor, inner: nn.Dropout, outer: nn.Dropout) -> Tensor:
        return x + outer(self.linear2(inner(self.linear1(x).relu())))


class EncoderLayer(FeedForward):
    """Deformable self-attention over all pixels of all levels, then the feed-forward net."""

    def __init__(self, width: int, ffn: int, dropout: float, levels: int, heads: int, points: int):
        super().__init__()
        self.self_attn = DeformableAttention(width, levels, heads, points)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, ffn), nn.Linear(ffn, width)
        self.dropout1, self.dropout2, self.dropout3 = nn.Dropout(dropout), nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x: Tensor, position: Tensor, reference: Tensor, shapes, mask: Tensor, size: Tensor) -> Tensor:
        low = lower(x)
        x = self.norm1(x + self.dropout1(self.self_attn(low + position, reference, low, shapes, mask, size)))
        return self.norm2(self.feed_forward(x, self.dropout2, self.dropout3))


class DecoderLayer(FeedForward):
    """Self-attention among the queries, deformable attention into the image, feed-forward net."""

    def __init__(self, width: int, ffn: int, dropout: float, levels: int, heads: int, points: int):
        super().__init__()
        self.cross_attn = DeformableAttention(width, levels, heads, points)
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, ffn), nn.Linear(ffn, width)
        self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)
        self.dropout3, self.dropout4 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        reference: Tensor,
        memory: Tensor,
        shapes,
        mask: Tensor,
        attention_mask: Tensor | None,
    ) -> Tensor:
        query = x + position
        among = self.self_attn(query, query, x, need_weights=False, attn_mask=attention_mask)[0]
        x = self.norm2(x + self.dropout2(among))
        x = self.norm1(x + self.dropout1(self.cross_attn(x + position, reference, memory, shapes, mask)))
        return self.norm3(self.feed_forward(x, self.dropout3, self.dropout4))


def pixel_centres(shapes, valid_ratios: Tensor) -> Tensor:
    """Centre of every pixel of every level, relative to the part of the map that is image. -> (B, S, 2)."""
    points = []
    for level, (h, w) in enumerate(shapes):
        y = torch.arange(h, device=valid_ratios.device, dtype=torch.float32) + 0.5
        x = torch.arange(w, device=valid_ratios.device, dtype=torch.float32) + 0.5
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).view(1, h * w, 2)
        points.append(grid / (valid_ratios[:, None, level] * constant((w, h), valid_ratios.device)))
    return torch.cat(points, 1)


class Encoder(nn.Module):
    """A stack of encoder layers whose reference points are the pixels themselves."""

    def __init__(self, layer: nn.Module, count: int):
        super().__init__()
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(count))

    def forward(self, x: Tensor, position: Tensor, shapes, valid_ratios: Tensor, mask: Tensor) -> Tensor:
        reference, position = pixel_centres(shapes, valid_ratios)[:, :, None] * valid_ratios[:, None], lower(position)
        run, size = compiled() if environment.compiles() else nn.Module.__call__, sizes(shapes, x.device)
        for layer in self.layers:
            x = run(layer, x, position, reference, shapes, mask, size)
        return x


#: How many programs of a layer are compiled at most; other cases run uncompiled. Training, teacher and validation need
#: one each for batches in general, and further ones for a batch of one image or of as many as there are levels.
_PROGRAMS = 32


@lru_cache(maxsize=1)
def compiled() -> Callable:
    """:meth:`EncoderLayer.forward`, compiled for any sizes: one program for all layers of student and teacher.

    Most of a layer's time goes to passes over its maps other than matrix products: casts, sums, ReLU, dropout, norms.
    Compiled, they are few, and what the backward pass can recompute is not kept. Decoder and backbone stay as they are:
    the decoder has 300 queries where the encoder has thousands of pixels, and the backbone gets maps of other sizes at
    each step.

    The program raises InputError if it cannot be compiled, as without a C++ compiler.
    """
    environment.attention()  # refuses a wrong value here: while tracing it would be torch's error
    torch._dynamo.config.recompile_limit = max(_PROGRAMS, torch._dynamo.config.recompile_limit)
    program = torch.compile(EncoderLayer.forward, dynamic=True)

    def run(*arguments) -> Tensor:
        try:
            return program(*arguments)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"PROSECO_COMPILE is 1, but there is no compiling: {reason} (environment)") from error

    return run


class Decoder(nn.Module):
    """A stack of decoder layers; with ``bbox_embed`` set, each layer refines the reference boxes of the next."""

    def __init__(self, layer: nn.Module, count: int):
        super().__init__()
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(count))
        self.bbox_embed: nn.ModuleList | None = None

    def forward(
        self, x, position, reference, memory, shapes, valid_ratios, mask, attention_mask=None
    ) -> tuple[Tensor, list[Tensor]]:
        """
        :param x: (B, N, D) queries; ``position`` the same shape.
        :param attention_mask: (N, N) bool, True where a query (row) may not attend to another; None: nowhere.
        :param reference: (B, N, 2) points or (B, N, 4) boxes cxcywh, relative to the image.
        :returns: queries after each layer (layers, B, N, D); the reference that each layer *used*, a list of
            (B, N, 2 or 4).
        """
        queries, references, memory = [], [], lower(memory)
        for index, layer in enumerate(self.layers):
            scale = valid_ratios[:, None]
            scale = scale if reference.shape[-1] == 2 else torch.cat([scale, scale], -1)
            x = layer(x, position, reference[:, :, None] * scale, memory, shapes, mask, attention_mask)
            queries.append(x)
            references.append(reference)
            if self.bbox_embed is not None:
                reference = add_reference(in_float32(self.bbox_embed[index], x), reference).detach()
        return torch.stack(queries), references


def add_reference(offset: Tensor, reference: Tensor) -> Tensor:
    """Boxes from predicted offsets in logit space: offset (..., 4) + reference (..., 2 or 4) -> cxcywh in 0..1."""
    logit = inverse_sigmoid(reference)
    if reference.shape[-1] == 2:
        return torch.cat([offset[..., :2] + logit, offset[..., 2:]], -1).sigmoid()
    return (offset + logit).sigmoid()


class DeformableTransformer(nn.Module):
    """Encoder and decoder over multi-scale features. For the two-stage form see :meth:`encoder_proposals`."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        encoder_layers: int,
        decoder_layers: int,
        ffn: int,
        dropout: float,
        levels: int,
        points: int,
        queries: int,
        two_stage: bool,
    ):
        super().__init__()
        self.queries, self.two_stage = queries, two_stage
        shape = (width, ffn, dropout, levels, heads, points)
        self.encoder = Encoder(EncoderLayer(*shape), encoder_layers)
        self.decoder = Decoder(DecoderLayer(*shape), decoder_layers)
        self.level_embed = nn.Parameter(torch.empty(levels, width))
        if two_stage:
            self.enc_output, self.enc_output_norm = nn.Linear(width, width), nn.LayerNorm(width)
            self.pos_trans, self.pos_trans_norm = nn.Linear(width * 2, width * 2), nn.LayerNorm(width * 2)
        else:
            self.reference_points = nn.Linear(width, 2)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module._initialise()
        if not two_stage:
            nn.init.zeros_(self.reference_points.bias)
        nn.init.normal_(self.level_embed)

    def encode(self, features: list[Tensor], positions: list[Tensor], masks: list[Tensor]) -> tuple:
        """
        :param features: per level (B, D, H, W); positions the same; masks (B, H, W), True on padding.
        :returns: memory (B, S, D), shapes, valid_ratios (B, L, 2), mask (B, S).
        """
        shapes = [tuple(f.shape[-2:]) for f in features]
        memory = torch.cat([f.flatten(2).transpose(1, 2) for f in features], 1)
        levels = zip(positions, self.level_embed, strict=True)
        position = torch.cat([p.flatten(2).transpose(1, 2) + embed for p, embed in levels], 1)
        mask = torch.cat([m.flatten(1) for m in masks], 1)
        ratios = [torch.stack([(~m[:, 0]).float().mean(1), (~m[:, :, 0]).float().mean(1)], -1) for m in masks]
        ratios = torch.stack(ratios, 1)
        return self.encoder(memory, position, shapes, ratios, mask), shapes, ratios, mask

    def decode(
        self,
        memory,
        shapes,
        ratios,
        mask,
        query_embed: Tensor | None,
        proposals: Tensor | None = None,
        *,
        extra_content: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """
        :param query_embed: (N, 2D): position, content; None for two stages.
        :param proposals: (B, N, 4) logits of the boxes that the first stage chose, for two stages.
        :param extra_content: (B, N, D), added to the content of the queries.
        :param attention_mask: as of :class:`Decoder`.
        :returns: as :class:`Decoder`.
        """
        b = len(memory)
        if proposals is None:
            position, content = query_embed.expand(b, -1, -1).chunk(2, -1)
            reference = in_float32(self.reference_points, position).sigmoid()
        else:
            embedded = self.pos_trans_norm(self.pos_trans(_embed_boxes(proposals.sigmoid(), memory.shape[-1] // 2)))
            position, content = embedded.chunk(2, -1)
            reference = proposals.sigmoid()
        if extra_content is not None:
            content = content + extra_content
        return self.decoder(content, position, reference, memory, shapes, ratios, mask, attention_mask)

    def encoder_proposals(self, memory: Tensor, shapes, ratios: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """First stage: one proposal per pixel, of side .05 * 2^level of the image.

        :returns: features (B, S, D), zero where there is no proposal; boxes (B, S, 4) as logits of cxcywh, infinite
            there (on padding, or nearer than 1 % to the border).
        """
        centre = pixel_centres(shapes, ratios)
        side = torch.cat([torch.full((h * w,), 0.05 * 2**level) for level, (h, w) in enumerate(shapes)])
        side = side.to(centre)[None, :, None].expand(len(memory), -1, 2)
        boxes = torch.cat([centre, side], -1)
        usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True) & ~mask[..., None]
        logits = (boxes / (1 - boxes)).log().masked_fill(~usable, math.inf)
        return self.enc_output_norm(self.enc_output(memory.masked_fill(~usable, 0))), logits


def _embed_boxes(boxes: Tensor, features: int, temperature: float = 10000.0) -> Tensor:
    """Sine embedding of box coordinates: (B, N, 4) in 0..1 -> (B, N, 4 * features)."""
    exponent = torch.arange(features, device=boxes.device) // 2 * 2 / features
    angle = boxes[..., None] * (2 * math.pi) / temperature ** exponent.to(torch.float32)
    return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1).flatten(-3)
