"""Boxes cut out of a view, and what the fixed backbone says of them: the targets of DETReg and UP-DETR."""

import torch
from torch import Tensor
from torchvision.ops import roi_align

from proseco import boxes as box_ops
from proseco.nn.roi_align import native_roi_align


def crop(view: Tensor, mask: Tensor, boxes: list[Tensor], side: int) -> Tensor:
    """Cut boxes out and resize each to a square: bilinear when enlarging, a mean over areas when shrinking.

    :param view: (B, 3, H, W) uint8; mask (B, H, W), True on padding.
    :param boxes: per image (n_i, 4) cxcywh in 0..1 of the image without the padding.
    :returns: (sum of n_i, 3, side, side) uint8, the crops of all images after each other.
    """
    sizes = torch.stack([(~mask[:, 0]).sum(-1), (~mask[:, :, 0]).sum(-1)], -1)
    crops = []
    # Image by image, without the padding: an edge is continued by its own pixels, not by black.
    for image, size, wanted, (width, height) in zip(view, sizes, boxes, sizes.tolist(), strict=True):
        corners = box_ops.scale(box_ops.cxcywh_to_xyxy(wanted), size)
        picture = image[None, :, :height, :width].to(wanted.dtype)
        with native_roi_align():
            crops.append(roi_align(picture, [corners], side, aligned=True))
    return torch.cat(crops).round().to(torch.uint8)


@torch.no_grad()
def pooled(detector, view: Tensor, mask: Tensor, boxes: list[Tensor], side: int) -> list[Tensor]:
    """Means of the backbone's maps over each :func:`crop`: [(sum of n_i, C_s) for s in 8, 16, 32], float32."""
    crops = crop(view, mask, boxes, side)
    levels = detector.features(crops, crops.new_zeros(len(crops), side, side, dtype=torch.bool))
    return [level.float().mean((2, 3)) for level in levels]
