"""Deformable DETR (Zhu et al. 2021), in the parameter layout of the public checkpoints (Deformable DETR, DETReg)."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proseco import boxes as box_ops
from proseco.base.errors import InputError
from proseco.nn import position, set_loss
from proseco.nn.backbone import Body, normalise
from proseco.nn.deformable_transformer import DeformableTransformer, add_reference
from proseco.nn.heads import MLP, in_float32


def build(
    *,
    num_classes: int | None,
    backbone: dict,
    width: int = 256,
    heads: int = 8,
    encoder_layers: int = 6,
    decoder_layers: int = 6,
    ffn: int = 1024,
    dropout: float = 0.1,
    levels: int = 4,
    points: int = 4,
    queries: int = 300,
    box_refinement: bool = False,
    two_stage: bool = False,
    class_weight: float = 2.0,
    coord_weight: float = 5.0,
    giou_weight: float = 2.0,
) -> "DeformableDETR":
    """
    :param num_classes: classes of the detection head; None builds no class head (pretraining has a projector).
    :param backbone: keywords of :class:`proseco.nn.backbone.ResNet` (block, layers, stem, widths).
    :param levels: feature levels: strides 8, 16, 32, then halved again and again.
    """
    if levels < 1 or width % heads or width % 32:  # 32 groups of each GroupNorm
        raise InputError(
            f"detector: levels={levels} must be at least 1 and width={width} a multiple of heads={heads} and 32"
        )
    if two_stage and (not box_refinement or num_classes is None):
        raise InputError("detector.two_stage needs box_refinement: true and a class head (it cannot be pretrained)")
    transformer = DeformableTransformer(
        width=width,
        heads=heads,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        ffn=ffn,
        dropout=dropout,
        levels=levels,
        points=points,
        queries=queries,
        two_stage=two_stage,
    )
    weights = {"class": class_weight, "coord": coord_weight, "giou": giou_weight}
    return DeformableDETR(Body(**backbone), transformer, num_classes, levels, box_refinement, weights)


class DeformableDETR(nn.Module):
    """The detector contract (:mod:`proseco.detectors`), with queries."""

    body_prefix = "backbone.0.body."
    head_prefixes = ("class_embed.", "transformer.decoder.class_embed.")  # with two stages the decoder has it too
    learns_masks = False

    def __init__(self, body: Body, transformer, num_classes: int | None, levels: int, refine: bool, weights: dict):
        super().__init__()
        width = transformer.level_embed.shape[1]
        self.num_classes, self.weights = None, weights
        self.backbone = nn.ModuleList([body])  # "backbone.0.body...", as the public Joiner names it
        self.transformer = transformer
        layers = len(transformer.decoder.layers)
        two_stage = transformer.two_stage
        if not two_stage:
            self.query_embed = nn.Embedding(transformer.queries, width * 2)
        # A single level is stride 32; several begin at stride 8.
        channels = body.channels if levels > 1 else body.channels[-1:]
        projections = [nn.Sequential(nn.Conv2d(c, width, 1), nn.GroupNorm(32, width)) for c in channels[:levels]]
        previous = channels[-1]
        while len(projections) < levels:
            down = nn.Conv2d(previous, width, 3, stride=2, padding=1)
            projections.append(nn.Sequential(down, nn.GroupNorm(32, width)))
            previous = width
        for projection in projections:
            nn.init.xavier_uniform_(projection[0].weight)
            nn.init.zeros_(projection[0].bias)
        self.input_proj = nn.ModuleList(projections)

        box = MLP(width, width, width, 4)
        nn.init.zeros_(box.layers[-1].weight)
        nn.init.zeros_(box.layers[-1].bias)
        heads = layers + two_stage
        if refine:
            self.bbox_embed = nn.ModuleList(copy.deepcopy(box) for _ in range(heads))
            transformer.decoder.bbox_embed = self.bbox_embed
        else:
            self.bbox_embed = nn.ModuleList([box] * heads)  # shared; the public state dict repeats its keys
        if not two_stage:  # the first boxes are small: sigmoid(-2) = .12 of the image
            nn.init.constant_(self.bbox_embed[0].layers[-1].bias[2:], -2.0)
        if num_classes is not None:
            self.add_class_head(num_classes)

    def add_class_head(self, num_classes: int) -> None:
        """Give a detector a new class head; as with the heads of the boxes, layers that refine have their own."""
        heads, refine = len(self.bbox_embed), self.transformer.decoder.bbox_embed is not None
        head = nn.Linear(self.transformer.level_embed.shape[1], num_classes)
        nn.init.constant_(head.bias, -math.log((1 - 0.01) / 0.01))
        self.num_classes = num_classes
        self.class_embed = nn.ModuleList([copy.deepcopy(head) for _ in range(heads)] if refine else [head] * heads)
        if self.transformer.two_stage:
            self.transformer.decoder.class_embed = self.class_embed  # not used there; the public state dict has it

    def features(self, images: Tensor, mask: Tensor) -> list[Tensor]:
        """Backbone: uint8 RGB (B, 3, H, W), mask (B, H, W) True on padding -> [(B, C_i, H/s, W/s)], s in 8, 16, 32."""
        return self.backbone[0](normalise(images, mask))

    def decode(
        self,
        features: list[Tensor],
        mask: Tensor,
        *,
        extra_content: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> dict:
        """Everything after the backbone.

        :param features: of :meth:`features`.
        :param mask: (B, H, W) of the images, True on padding.
        :param extra_content: (B, N, D), added to the content of the queries, for pretraining.
        :param attention_mask: (N, N) bool, True where a query (row) may not attend to another; None: nowhere.
        :returns: ``queries`` (layers, B, N, D), ``boxes`` (layers, B, N, 4) cxcywh in 0..1, float32; with a class head
            ``logits`` (layers, B, N, C); with two stages ``encoder``: the first stage's ``logits`` and ``boxes``.
        """
        sources = features if len(self.input_proj) > 1 else features[-1:]
        maps = [project(f) for project, f in zip(self.input_proj, sources, strict=False)]
        for project in self.input_proj[len(maps) :]:
            maps.append(project(sources[-1] if len(maps) == len(sources) else maps[-1]))
        masks = [F.interpolate(mask[None].float(), size=m.shape[-2:])[0].bool() for m in maps]
        positions = [position.sine(m, f.shape[1]).to(f.dtype) for m, f in zip(masks, maps, strict=True)]
        encoded = self.transformer.encode(maps, positions, masks)

        out, proposals, embed = {}, None, None
        if self.transformer.two_stage:
            memory, anchors = self.transformer.encoder_proposals(*encoded)  # anchors: logits of cxcywh
            class_logits = in_float32(self.class_embed[-1], memory)
            box_logits = in_float32(self.bbox_embed[-1], memory) + anchors
            best = class_logits[..., 0].topk(self.transformer.queries, dim=1).indices[..., None]
            proposals = box_logits.gather(1, best.expand(-1, -1, 4)).detach()
            out["encoder"] = {"logits": class_logits, "boxes": box_logits.sigmoid()}
        else:
            embed = self.query_embed.weight
        queries, references = self.transformer.decode(
            *encoded, embed, proposals, extra_content=extra_content, attention_mask=attention_mask
        )
        heads = zip(self.bbox_embed, queries, references, strict=False)
        out["queries"] = queries
        out["boxes"] = torch.stack([add_reference(in_float32(head, q), r) for head, q, r in heads])
        if self.num_classes is not None:
            out["logits"] = torch.stack(
                [in_float32(head, q) for head, q in zip(self.class_embed, queries, strict=False)]
            )
        return out

    def forward(self, images: Tensor, mask: Tensor) -> dict:
        """uint8 images (B, 3, H, W), mask (B, H, W) True on padding -> :meth:`decode`'s dictionary."""
        return self.decode(self.features(images, mask), mask)

    def losses(
        self, images: Tensor, mask: Tensor, targets: list[dict], count: int | None = None, share: float = 1.0
    ) -> dict[str, Tensor]:
        """Set loss with auxiliary losses.

        :param targets: per image ``boxes`` (n, 4) cxcywh in 0..1 and ``labels`` (n,) int64.
        :param count: targets of the whole batch if these images are a part of it. ``share``, their fraction of its
            images, is for losses that are means over images and is not used here.
        :returns: weighted terms ``class``, ``coord``, ``giou`` whose sum is trained on.
        """
        return set_loss.set_loss(self(images, mask), targets, self.weights, count)

    @torch.no_grad()
    def detect(self, images: Tensor, mask: Tensor, sizes: Tensor, limit: int = 100) -> list[dict]:
        """The ``limit`` best of N x C class scores of each image.

        :param sizes: (B, 2) width and height in pixels that the relative boxes are multiplied with.
        :returns: per image ``boxes_xyxy`` (n, 4) pixels, ``scores`` (n,) in 0..1, ``labels`` (n,).
        """
        out = self(images, mask)
        scores = out["logits"][-1].float().sigmoid().flatten(1)
        best, index = scores.topk(min(limit, scores.shape[1]), dim=1)
        query, label = index // self.num_classes, index % self.num_classes
        boxes = box_ops.cxcywh_to_xyxy(out["boxes"][-1]).gather(1, query[..., None].expand(-1, -1, 4))
        boxes = box_ops.scale(boxes, sizes[:, None].to(boxes))
        rows = zip(boxes, best, label, strict=True)
        return [{"boxes_xyxy": b, "scores": s, "labels": c} for b, s, c in rows]
