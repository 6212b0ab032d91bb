"""Selective Object Contrast (SoCo, Wei et al. 2021): backbone, FPN and box head of Mask R-CNN represent a proposal of
Selective Search alike in three views, or in SoCo*'s four.
"""

import copy

import torch
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from proseco.data.crops import ProposalViews
from proseco.methods import _byol
from proseco.nn.backbone import normalise, state_without_counts


def build(
    detector,
    *,
    side: int = 224,
    area: tuple[float, float] = (0.5, 1.0),
    boxes: int = 4,
    filter: dict,
    jitter: float = 0.1,
    jitter_probability: float = 0.5,
    first: dict,
    second: dict,
    extra_side: int | None = None,
    canonical_size: float = 96.0,
    projector: tuple[int, int] = (4096, 256),
    ema_rate: float = 0.99,
    scratch: bool = True,
    steps: int,
) -> "SoCo":
    """The defaults are those of the paper's FPN of 400 epochs.

    :param detector: Mask R-CNN with an FPN, its modules named as torchvision names them.
    :param side, area, boxes, jitter, jitter_probability: of the views, see :class:`proseco.data.crops.ProposalViews`.
    :param filter: which proposals are drawn from, keywords of :func:`proseco.data.filters.keep`.
    :param first: keywords of :func:`proseco.data.augment.strong` for V1; ``second`` for the others.
    :param extra_side: pixels of the fourth view, which makes it SoCo* (192 in its code); None: three views.
    :param canonical_size: pixels; a box of that side is pooled from the third level of the FPN (P4), one of half of it
        from the second, of twice from the fourth. 96 are SoCo's bounds, 48, 96 and 192, for views of 224.
    :param projector: widths of the hidden and the last layer of projector and predictor.
    :param ema_rate: keep rate of the target at the first step; ``steps`` of the whole training.
    :param scratch: draw the backbone's weights anew, as SoCo does, instead of going on from those that it has.
    """
    photometric = (first, *[second] * (2 if extra_side is None else 3))
    views = ProposalViews(side, tuple(area), boxes, filter, jitter, jitter_probability, photometric, extra_side)
    return SoCo(detector, views, canonical_size, tuple(projector), ema_rate, scratch, steps)


class _Encoder(nn.Module):
    """Backbone with FPN, RoIAlign on the level of a box's size, box head, projector."""

    def __init__(self, detector, canonical_size: float, widths: tuple[int, int]):
        super().__init__()
        self.backbone = _byol.with_trained_norm(detector.backbone).requires_grad_(True)
        self.box_head = _byol.with_trained_norm(detector.roi_heads.box_head)
        self.pool = copy.deepcopy(detector.roi_heads.box_roi_pool)
        self.pool.canonical_scale = canonical_size
        width = _width(self.box_head, detector.backbone.out_channels, self.pool.output_size)
        self.projector = _byol.head(width, *widths)

    def forward(self, images: Tensor, boxes: list[Tensor]) -> Tensor:
        """uint8 (B, 3, H, W), per image boxes (n_i, 4) cxcywh -> (sum of n_i, D), image by image."""
        corners, sizes = _byol.pixels_xyxy(images, boxes), [tuple(images.shape[2:])] * len(images)
        maps = self.backbone(normalise(images))
        return self.projector(self.box_head(_pool(self.pool, maps, corners, sizes)))


def _pool(pool: MultiScaleRoIAlign, maps: dict[str, Tensor], boxes: list[Tensor], sizes: list) -> Tensor:
    """Pool boxes, xyxy in pixels, as ``roi_align`` does with ``aligned``, an option that ``pool`` does not have.

    Without it a box is pooled half a pixel of its level's map too far right and down, mirrored or not, and each view is
    mirrored on its own.
    """
    finest = 2  # of stride 2^2
    levels = LevelMapper(finest, finest + len(pool.featmap_names) - 1, pool.canonical_scale, pool.canonical_level)
    half = (2.0 ** (levels(boxes) + finest - 1))[:, None].split([len(each) for each in boxes])
    return pool(maps, [each - pixels for each, pixels in zip(boxes, half, strict=True)], sizes)


class SoCo(_byol.Byol):
    """V1's boxes predict the target's projections of the same proposals in each other view, and these V1's."""

    def __init__(self, detector, transform, canonical_size, projector, ema_rate: float, scratch: bool, steps: int):
        encoder = _Encoder(detector, canonical_size, projector)
        if scratch:
            _draw_anew(encoder.backbone.body)
        super().__init__(encoder, projector, ema_rate, steps, transform)

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The means over the boxes of the distances, both ways. Batch norm sees a view at a time."""
        views = [(crops.images, crops.boxes) for crops in batch.crops]
        p1, *p = (self.student(*view) for view in views)
        z1, *z = (self.teacher(*view) for view in views)
        terms, boxes = {}, len(p[0]) // len(batch)
        of_first = [slice(boxes), slice(boxes), slice(boxes, None)]  # which of V1's boxes V2, V3 and V4 show
        for number, part, prediction, projection in zip((2, 3, 4), of_first, p, z, strict=False):
            prediction_1, projection_1 = (x.unflatten(0, (len(batch), -1))[:, part].flatten(0, 1) for x in (p1, z1))
            forth, back = _byol.distances(prediction_1, projection), _byol.distances(prediction, projection_1)
            terms[f"distance_1{number}"] = (forth.mean() + back.mean()) * batch.share
        return terms, self.figures(batch, z1)

    def state_dicts(self) -> dict[str, dict[str, Tensor]]:
        """Both networks: backbone, FPN and box head, in the names of the detector that is finetuned."""
        return {"student": _names(self.student.encoder), "teacher": _names(self.teacher.encoder)}


def _names(encoder: _Encoder) -> dict[str, Tensor]:
    parts = {"backbone.": encoder.backbone, "roi_heads.box_head.": encoder.box_head}
    states = {prefix: state_without_counts(part) for prefix, part in parts.items()}
    return {f"{prefix}{key}": value for prefix, state in states.items() for key, value in state.items()}


@torch.no_grad()
def _width(box_head: nn.Module, channels: int, size: tuple[int, int]) -> int:
    """Length of the vector that a box head computes from a pooled box."""
    pooled = torch.zeros(1, channels, *size, device=next(box_head.parameters()).device)
    return box_head.eval()(pooled).shape[1]


def _draw_anew(body: nn.Module) -> None:
    """Draw a ResNet's initial weights."""
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
