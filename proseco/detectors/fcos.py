"""FCOS on a feature pyramid (Tian et al. 2019), torchvision's model and names."""

import torch
from torch import Tensor, nn
from torchvision.models.detection import fcos
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from proseco.base.errors import InputError
from proseco.detectors._torchvision import detections, frame, pixels_xyxy, pyramid


def build(
    *,
    num_classes: int | None,
    backbone: dict,
    channels: int = 256,
    layers: int = 4,
    radius: float = 1.5,
    score_threshold: float = 0.2,
    nms: float = 0.6,
) -> "FCOS":
    """Defaults are those of torchvision's ``fcos_resnet50_fpn``.

    :param num_classes: None builds no class logits.
    :param backbone: keywords of :class:`proseco.nn.backbone.ResNet`.
    :param channels: of the pyramid and the heads, a multiple of 32 from 64 on; ``layers`` convolutions of each head.
    :param radius: of the square about an object's centre whose locations learn it, in strides.
    :param score_threshold: detections below it are left out; ``nms`` the IoU from which the worse of two is.
    """
    if channels % 32 or channels < 64:  # 32 groups of each GroupNorm, and the coarsest level may have one pixel
        raise InputError(f"detector: channels={channels} must be a multiple of 32, from 64 on")
    body = pyramid(backbone, channels, first=2, extra=LastLevelP6P7(channels, channels))
    head = _Head(channels, 1, num_classes or 1, layers)
    # Distances to a box's sides come out of a ReLU. torchvision starts them at about 0, where by chance a side may be 0
    # at all locations: a box has no area then, and no gradient ever moves it. Here they start at about a stride.
    nn.init.constant_(head.regression_head.bbox_reg.bias, 1.0)
    if num_classes is None:
        head.classification_head.cls_logits = None
    return FCOS(
        body, head=head, num_classes=num_classes, center_sampling_radius=radius, score_thresh=score_threshold,
        nms_thresh=nms,
    )  # fmt: skip


class _Head(fcos.FCOSHead):
    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        return {name: value.float() for name, value in super().forward(x).items()}

    def compute_loss(self, targets: list, head_outputs: dict, anchors: list, matched_idxs: list) -> dict[str, Tensor]:
        """torchvision's terms, as sums over locations."""
        terms = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        foreground = (torch.stack(matched_idxs) >= 0).sum().clamp(min=1)
        return {name: value * foreground for name, value in terms.items()}


class FCOS(fcos.FCOS):
    """torchvision's FCOS behind the detector contract (:mod:`proseco.detectors`)."""

    body_prefix = "backbone.body."
    head_prefixes = ("head.classification_head.cls_logits.",)
    learns_masks = False

    def _levels(self, images) -> list[Tensor]:
        """Of :func:`frame` -> float32 levels (B, C, H/s, W/s) of the pyramid, s in 8, 16, 32, 64, 128."""
        return [level.float() for level in self.backbone(images.tensors).values()]

    def losses(
        self, images: Tensor, mask: Tensor, targets: list[dict], count: int | None = None, share: float = 1.0
    ) -> dict[str, Tensor]:
        """torchvision's three terms, divided by the locations around the objects' centres.

        torchvision divides by the locations that learn an object, which only a whole batch knows. Here it is the number
        of objects times the locations around the centre of each, 9 with a radius of 1.5; fewer of them learn where
        an object is small or hidden.

        :param targets: per image ``boxes`` (n, 4) cxcywh in 0..1 and ``labels`` (n,) int64.
        :param count: objects of the whole batch where these images are a part of it; ``share`` is not used here.
        :returns: float32 terms ``classification``, ``bbox_regression``, ``bbox_ctrness``.
        """
        framed = frame(images, mask)
        levels = self._levels(framed)
        wanted = pixels_xyxy(targets, framed.image_sizes, first_label=0)
        sums = self.compute_loss(
            wanted, self.head(levels), self.anchor_generator(framed, levels), [level[0, 0].numel() for level in levels]
        )
        count = max(sum(len(t["labels"]) for t in targets) if count is None else count, 1)
        locations = (2 * self.center_sampling_radius) ** 2
        return {name: value / (count * locations) for name, value in sums.items()}

    @torch.no_grad()
    def detect(self, images: Tensor, mask: Tensor, sizes: Tensor, limit: int = 100) -> list[dict]:
        """At most ``limit`` boxes of each image, best first.

        :param sizes: (B, 2) width and height in pixels that the boxes shall be in.
        :returns: per image ``boxes_xyxy`` (n, 4) pixels, ``scores`` (n,) in 0..1, ``labels`` (n,).
        """
        framed = frame(images, mask)
        levels = self._levels(framed)
        lengths = [level[0, 0].numel() for level in levels]
        outputs = {name: list(value.split(lengths, 1)) for name, value in self.head(levels).items()}
        anchors = [list(of_image.split(lengths)) for of_image in self.anchor_generator(framed, levels)]
        self.detections_per_img = limit
        raw = self.postprocess_detections(outputs, anchors, framed.image_sizes)
        return detections(raw, framed.image_sizes, sizes, first_label=0)
