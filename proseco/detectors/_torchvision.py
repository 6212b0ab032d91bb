"""What the convolutional detectors share: torchvision's components behind the detector contract.

Images come resized and padded from the loader, so torchvision's own transform is left out. Its losses are means over
what was sampled in a call; here they are an image's share of the whole batch (docs/adding.md), whoever holds the rest.
Boxes are computed in float32, under autocast too, since bfloat16 has steps of 4 pixels near 1000: deltas are cast
before boxes are computed from them, and the box head's last layers, which end in boxes and scores, run in float32.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from proseco import boxes as box_ops
from proseco.base.errors import InputError
from proseco.nn.backbone import BLOCKS, ResNet, conv_norm, normalise
from proseco.nn.heads import in_float32
from proseco.nn.roi_align import native_roi_align
from proseco.nn.tensors import to_device

#: Images are padded to a multiple of the deepest stage's stride, so that the strides of its levels are whole numbers.
_DIVISOR = 32
#: Of BackboneWithFPN's levels, those that boxes are pooled from; the coarser ones only propose.
_POOLED = ("0", "1", "2", "3")


def pyramid(backbone: dict, channels: int, *, first: int, extra: ExtraFPNBlock | None = None) -> BackboneWithFPN:
    """ResNet with frozen batch norm below a feature pyramid.

    :param backbone: keywords of :class:`proseco.nn.backbone.ResNet`.
    :param first: number of the first stage that the pyramid stands on, 1..4.
    :param extra: what makes coarser levels; torchvision's subsampling when None.
    """
    body = ResNet(**backbone, num_classes=1, norm=FrozenBatchNorm2d)
    stages = range(first, 5)
    widths = [backbone["widths"][stage - 1] * BLOCKS[backbone["block"]].expansion for stage in stages]
    names = {f"layer{stage}": str(number) for number, stage in enumerate(stages)}
    whole = BackboneWithFPN(body, names, widths, channels, extra_blocks=extra)
    whole.body = _Stages(body, names)
    return whole


class _Stages(IntermediateLayerGetter):
    """torchvision's getter runs its modules one by one; here the stem's norm may be merged, see ``conv_norm``."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.maxpool(self.relu(conv_norm(self.conv1, self.bn1, x)))
        maps = OrderedDict()
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = self[stage](x)
            if stage in self.return_layers:
                maps[self.return_layers[stage]] = x
        return maps


def frame(images: Tensor, mask: Tensor) -> ImageList:
    """uint8 images (B, 3, H, W), mask (B, H, W) True on padding -> normalised, padded further; heights and widths."""
    height, width = mask.shape[1:]
    pixels = F.pad(normalise(images, mask), (0, -width % _DIVISOR, 0, -height % _DIVISOR))
    inside = ~mask
    sides = torch.stack([inside.any(2).sum(1), inside.any(1).sum(1)], 1)
    return ImageList(pixels, [(h, w) for h, w in sides.tolist()])


def pixels_xyxy(targets: list[dict], sizes: list[tuple[int, int]], *, first_label: int) -> list[dict]:
    """Targets as torchvision takes them: boxes xyxy in pixels, labels counted from ``first_label``.

    :param sizes: height and width of each image in pixels.
    """
    converted = []
    sides = torch.tensor([(width, height) for height, width in sizes], dtype=targets[0]["boxes"].dtype)
    for target, side in zip(targets, to_device(sides, targets[0]["boxes"].device), strict=True):
        boxes = box_ops.scale(box_ops.cxcywh_to_xyxy(target["boxes"]), side)
        converted.append({"boxes": boxes, "labels": target["labels"] + first_label})
    return converted


def detections(raw: list[dict], frames: list[tuple[int, int]], sizes: Tensor, *, first_label: int) -> list[dict]:
    """torchvision's detections, best first, in the form of the contract.

    :param frames: height and width in pixels that the boxes are in; ``sizes`` (B, 2) width and height to scale them to.
    """
    converted = []
    for image, (height, width), size in zip(raw, frames, sizes, strict=True):
        boxes = image["boxes"] / image["boxes"].new_tensor([width, height, width, height])
        boxes = box_ops.scale(boxes, size.to(boxes))
        converted.append({"boxes_xyxy": boxes, "scores": image["scores"], "labels": image["labels"] - first_label})
    return converted


class _RPNHead(RPNHead):
    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]


class _BoxPredictor(FastRCNNPredictor):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return in_float32(super().forward, x)


class _RoIAlign(MultiScaleRoIAlign):
    """Takes the levels' strides from the padded frame. torchvision guesses them from the largest image of its first
    call, and is wrong by a factor of two where that is two thirds of its frame."""

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        height, width = x[_POOLED[0]].shape[-2:]
        with native_roi_align():
            return super().forward(x, boxes, [(4 * height, 4 * width)])


class _RPN(RegionProposalNetwork):
    """Knows how many anchors the last call sampled."""

    def compute_loss(self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list, regression_targets: list):
        # How many positives and negatives torchvision's BalancedPositiveNegativeSampler draws of each image.
        size = self.fg_bg_sampler.batch_size_per_image
        most = int(size * self.fg_bg_sampler.positive_fraction)
        labels_of = torch.stack(labels)
        positive = (labels_of >= 1).sum(1).clamp(max=most)
        negative = torch.minimum((labels_of == 0).sum(1), size - positive)
        self.sampled = (positive + negative).sum()
        return super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)


class _RoIHeads(RoIHeads):
    def has_mask(self) -> bool:
        """Masks are trained where there are some (:meth:`RCNN.losses`), never predicted: boxes are what is scored."""
        return False


class RCNN(nn.Module):
    """Faster or Mask R-CNN on a feature pyramid behind the detector contract (:mod:`proseco.detectors`).

    Names are those of torchvision's models. Without classes there are ``backbone.body``, ``backbone.fpn``,
    ``roi_heads.box_roi_pool`` and ``roi_heads.box_head``, which a pretraining can learn; :attr:`head_prefixes` are the
    rest.
    """

    body_prefix = "backbone.body."
    head_prefixes = ("rpn.", "roi_heads.box_predictor.", "roi_heads.mask_head.", "roi_heads.mask_predictor.")

    def __init__(self, backbone: BackboneWithFPN, rpn: _RPN | None, roi_heads: _RoIHeads):
        super().__init__()
        self.backbone, self.rpn, self.roi_heads = backbone, rpn, roi_heads
        #: Whether :meth:`losses` takes the objects' masks.
        self.learns_masks = roi_heads.mask_predictor is not None

    def _levels(self, images: ImageList) -> "OrderedDict[str, Tensor]":
        """Of :func:`frame` -> float32 levels (B, C, H/s, W/s) of the pyramid, s in 4, 8, 16, 32, 64."""
        return OrderedDict((name, level.float()) for name, level in self.backbone(images.tensors).items())

    def losses(
        self, images: Tensor, mask: Tensor, targets: list[dict], count: int | None = None, share: float = 1.0
    ) -> dict[str, Tensor]:
        """torchvision's losses as a mean over images, each divided by what is sampled of an image, in train mode.

        They equal torchvision's if every image has as many anchors and proposals as are sampled; if one has fewer, the
        missing ones count as loss 0, so that an image weighs the same whatever else is in its batch. The masks' loss is
        the mean over images of each one's mean over its positives. Sampling uses torch's generator.

        :param targets: per image ``boxes`` (n, 4) cxcywh in 0..1, ``labels`` (n,) int64 and perhaps ``masks`` (n, h, w)
            uint8 of the image without padding; where no image has the key, masks are not trained, and their term is 0.
        :param count: not used here: see :meth:`proseco.detectors.deformable_detr.DeformableDETR.losses`.
        :param share: these images' share of those of the whole batch.
        :returns: float32 ``objectness``, ``rpn_box_reg``, ``classifier``, ``box_reg`` and, of Mask R-CNN, ``mask``.
        """
        framed = frame(images, mask)
        levels = self._levels(framed)
        wanted = pixels_xyxy(targets, framed.image_sizes, first_label=1)  # 0 is the background
        proposals, proposing = self.rpn(framed, levels, wanted)
        heads = self.roi_heads
        proposals, matched, labels, deltas = heads.select_training_samples(proposals, wanted)
        pooled = heads.box_roi_pool(levels, proposals, framed.image_sizes)
        classifier, box = fastrcnn_loss(*heads.box_predictor(heads.box_head(pooled)), labels, deltas)
        of_images = share / len(targets)
        anchors = self.rpn.sampled * (of_images / self.rpn.fg_bg_sampler.batch_size_per_image)
        boxes = sum(map(len, labels)) * (of_images / heads.fg_bg_sampler.batch_size_per_image)
        terms = {name.removeprefix("loss_"): value * anchors for name, value in proposing.items()}
        terms |= {"classifier": classifier * boxes, "box_reg": box * boxes}
        if self.learns_masks:  # whatever the images have: processes add up their terms by position
            terms["mask"] = box.new_zeros(())
            if any("masks" in target for target in targets):
                masks = self._mask_loss(levels, framed.image_sizes, targets, proposals, matched, labels)
                terms["mask"] = masks * of_images
        return terms

    def _mask_loss(self, levels, sizes, targets, proposals, matched, labels) -> Tensor:
        """Sum over images, those that have masks, of the mean cross-entropy of their positive proposals' masks."""
        heads = self.roi_heads
        positive = [(t.get("masks") is not None) & (chosen > 0) for t, chosen in zip(targets, labels, strict=True)]
        boxes = [b[rows] for b, rows in zip(proposals, positive, strict=True)]
        logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(levels, boxes, sizes))).float()
        total = logits.sum() * 0  # keeps the head's gradient where there is no positive at all
        parts = logits.split([len(b) for b in boxes])
        for target, own, part, number, rows in zip(targets, boxes, parts, matched, positive, strict=True):
            if len(own):
                classes = target["labels"] + 1
                with native_roi_align():  # the masks are pooled to the head's size
                    total = total + maskrcnn_loss(part, [own], [target["masks"]], [classes], [number[rows]])
        return total

    @torch.no_grad()
    def detect(self, images: Tensor, mask: Tensor, sizes: Tensor, limit: int = 100) -> list[dict]:
        """At most ``limit`` boxes of each image, in evaluation mode, best first.

        :param sizes: (B, 2) width and height in pixels that the boxes shall be in.
        :returns: per image ``boxes_xyxy`` (n, 4) pixels, ``scores`` (n,) in 0..1, ``labels`` (n,).
        """
        framed = frame(images, mask)
        levels = self._levels(framed)
        self.roi_heads.detections_per_img = limit
        raw, _ = self.roi_heads(levels, self.rpn(framed, levels)[0], framed.image_sizes)
        return detections(raw, framed.image_sizes, sizes, first_label=1)


def rcnn(
    *,
    num_classes: int | None,
    backbone: dict,
    channels: int,
    anchor_sizes,
    anchor_ratios,
    rpn_before_nms,
    rpn_after_nms,
    rpn_sampled: int,
    box_sampled: int,
    box_width: int,
    canonical: int,
    score_threshold: float,
    nms: float,
    mask_head: nn.Module | None = None,
    mask_width: int = 0,
) -> RCNN:
    """Build the parts and put them together; see :func:`proseco.detectors.faster_rcnn.build`.

    :param mask_head: (R, channels, 14, 14) -> (R, mask_width, 14, 14); None: no masks.
    """
    if len(anchor_sizes) != 5:
        raise InputError(f"detector: anchor_sizes={list(anchor_sizes)} must be five, one a level of the pyramid")
    body = pyramid(backbone, channels, first=1)

    def pool(side: int) -> _RoIAlign:
        return _RoIAlign(_POOLED, output_size=side, sampling_ratio=2, canonical_scale=canonical)

    box_pool, box_head = pool(7), TwoMLPHead(channels * 7**2, box_width)
    thresholds = {"bbox_reg_weights": None, "score_thresh": score_threshold, "nms_thresh": nms}
    sampling = {"fg_iou_thresh": 0.5, "bg_iou_thresh": 0.5, "positive_fraction": 0.25}
    options = {**sampling, **thresholds, "batch_size_per_image": box_sampled, "detections_per_img": 100}
    if num_classes is None:
        return RCNN(body, None, _RoIHeads(box_pool, box_head, None, **options))
    anchors = AnchorGenerator(tuple((side,) for side in anchor_sizes), (tuple(anchor_ratios),) * len(anchor_sizes))
    rpn = _RPN(
        anchors,
        _RPNHead(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=rpn_sampled,
        positive_fraction=0.5,
        pre_nms_top_n=dict(zip(("training", "testing"), rpn_before_nms, strict=True)),
        post_nms_top_n=dict(zip(("training", "testing"), rpn_after_nms, strict=True)),
        nms_thresh=0.7,
    )
    predictor = _BoxPredictor(box_width, num_classes + 1)
    roi_heads = _RoIHeads(box_pool, box_head, predictor, **options)
    if mask_head is not None:
        roi_heads.mask_roi_pool, roi_heads.mask_head = pool(14), mask_head
        roi_heads.mask_predictor = MaskRCNNPredictor(mask_width, mask_width, num_classes + 1)
    return RCNN(body, rpn, roi_heads)
