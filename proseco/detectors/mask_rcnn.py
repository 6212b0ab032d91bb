"""Mask R-CNN on a feature pyramid (He et al. 2017), of torchvision's components and names.

Its mask head is trained where the labels have masks, and helps the boxes, which alone are predicted.
"""

from torchvision.models.detection.mask_rcnn import MaskRCNNHeads

from proseco.detectors import _torchvision


def build(
    *,
    num_classes: int | None,
    backbone: dict,
    channels: int = 256,
    anchor_sizes: tuple[float, float, float, float, float] = (32, 64, 128, 256, 512),
    anchor_ratios: list[float] = (0.5, 1.0, 2.0),
    rpn_before_nms: tuple[int, int] = (2000, 1000),
    rpn_after_nms: tuple[int, int] = (2000, 1000),
    rpn_sampled: int = 256,
    box_sampled: int = 512,
    box_width: int = 1024,
    mask_width: int = 256,
    mask_layers: int = 4,
    canonical: int = 224,
    score_threshold: float = 0.05,
    nms: float = 0.5,
) -> _torchvision.RCNN:
    """Defaults are those of torchvision's ``maskrcnn_resnet50_fpn``; keywords as in :mod:`.faster_rcnn`.

    :param mask_width: channels of the mask head, and ``mask_layers`` its convolutions.
    """
    return _torchvision.rcnn(
        num_classes=num_classes,
        backbone=backbone,
        channels=channels,
        anchor_sizes=anchor_sizes,
        anchor_ratios=anchor_ratios,
        rpn_before_nms=rpn_before_nms,
        rpn_after_nms=rpn_after_nms,
        rpn_sampled=rpn_sampled,
        box_sampled=box_sampled,
        box_width=box_width,
        canonical=canonical,
        score_threshold=score_threshold,
        nms=nms,
        mask_head=MaskRCNNHeads(channels, (mask_width,) * mask_layers, 1),
        mask_width=mask_width,
    )
