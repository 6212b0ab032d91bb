"""Faster R-CNN on a feature pyramid (Ren et al. 2015, Lin et al. 2017), of torchvision's components and names."""

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
    canonical: int = 224,
    score_threshold: float = 0.05,
    nms: float = 0.5,
) -> _torchvision.RCNN:
    """Defaults are those of torchvision's ``fasterrcnn_resnet50_fpn``.

    :param num_classes: classes, without background; None builds what a pretraining has: backbone, pyramid, box head.
    :param backbone: keywords of :class:`proseco.nn.backbone.ResNet`.
    :param channels: of the pyramid.
    :param anchor_sizes: side of the anchors in pixels, one per level (strides 4 to 64); ``anchor_ratios`` height over
        width.
    :param rpn_before_nms: proposals of a level that are looked at, in training and in testing; ``rpn_after_nms`` those
        of an image that are kept.
    :param rpn_sampled: anchors of an image that the proposals learn from; ``box_sampled`` proposals that the boxes do.
    :param box_width: of the box head.
    :param canonical: side in pixels of the boxes that are pooled at stride 16.
    :param score_threshold: detections below it are left out; ``nms`` the IoU from which the worse of two is.
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
    )
