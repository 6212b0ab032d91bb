"""Spatially Consistent Representation Learning (SCRL, Roh et al. 2021): a backbone that represents a region of an
image alike in two views.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from proseco.data.crops import SharedRegions
from proseco.methods import _byol
from proseco.nn.backbone import normalise
from proseco.nn.roi_align import native_roi_align

_STRIDE = 32  # pixels, of the last stage


def build(
    network,
    *,
    side: int = 224,
    area: tuple[float, float] = (0.2, 1.0),
    boxes: int = 10,
    min_size: float = 32.0,
    max_iou: float = 0.5,
    first: dict,
    second: dict,
    projector: tuple[int, int] = (4096, 256),
    ema_rate: float = 0.996,
    steps: int,
) -> "SCRL":
    """The defaults are those of the public code's ResNet-50 of 1,000 epochs.

    :param network: classification ResNet (:class:`proseco.nn.backbone.ResNet`); its classifier is left alone.
    :param side, area, boxes, min_size, max_iou: of the views, see :class:`proseco.data.crops.SharedRegions`.
    :param first: keywords of :func:`proseco.data.augment.strong` for the first view; ``second`` for the other.
    :param projector: widths of the hidden and the last layer of projector and predictor.
    :param ema_rate: keep rate of the target at the first step; ``steps`` of the whole training.
    """
    views = SharedRegions(side, tuple(area), boxes, min_size, max_iou, (first, second))
    return SCRL(network, views, tuple(projector), ema_rate, steps)


class _Encoder(nn.Module):
    """ResNet, RoIAlign of the last map to one cell per box, projector."""

    def __init__(self, network, widths: tuple[int, int]):
        super().__init__()
        self.network = network
        self.projector = _byol.head(network.channels[-1], *widths)

    def forward(self, images: Tensor, boxes: list[Tensor]) -> Tensor:
        """uint8 (B, 3, H, W), per image boxes (n_i, 4) cxcywh -> (sum of n_i, D), image by image."""
        corners = _byol.pixels_xyxy(images, boxes)
        features = self.network.stages(normalise(images))[-1]
        # The public code pools without `aligned`, half a cell off: to the right in both views, mirrored or not.
        with native_roi_align():
            pooled = roi_align(features, corners, output_size=1, spatial_scale=1 / _STRIDE, aligned=True)
        return self.projector(pooled.flatten(1))


class SCRL(_byol.Byol):
    """Each view's boxes predict the target's projections of the same boxes in the other."""

    def __init__(self, network, transform, projector: tuple[int, int], ema_rate: float, steps: int):
        network.fc.requires_grad_(False)
        super().__init__(_Encoder(network, projector), projector, ema_rate, steps, transform)

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The mean over the boxes of the distance, both ways. Both views pass through the networks as one batch."""
        images = torch.cat([crops.images for crops in batch.crops])
        boxes = [b for crops in batch.crops for b in crops.boxes]
        predictions, projections = self.student(images, boxes), self.teacher(images, boxes)
        swapped = torch.cat(projections.chunk(2)[::-1])  # every image has as many boxes in both views
        loss = 2 * _byol.distances(predictions, swapped).mean()  # the sum of both ways
        return {"distance": loss * batch.share}, self.figures(batch, projections)
