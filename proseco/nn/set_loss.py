"""Set prediction losses: boxes matched one to one with targets (DETR; focal form of Deformable DETR)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from proseco import boxes as box_ops
from proseco.nn import matcher


def focal(logits: Tensor, target: Tensor, alpha: float = 0.25) -> Tensor:
    """Sigmoid focal loss with gamma 2 (Lin et al. 2017), summed. logits and one-hot target (..., C) -> ()."""
    logits, target = logits.float(), target.float()
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = p * (1 - target) + (1 - p) * target
    return ((alpha * target + (1 - alpha) * (1 - target)) * wrong**2 * entropy).sum()


def matched_boxes(boxes: Tensor, targets: list[Tensor], pairs: list[tuple]) -> tuple[Tensor, Tensor]:
    """Predicted and target boxes of the matched pairs, all images after each other: 2 x (P, 4) cxcywh."""
    ours = [b[rows.to(b.device)] for b, (rows, _) in zip(boxes, pairs, strict=True)]
    theirs = [t[columns.to(t.device)] for t, (_, columns) in zip(targets, pairs, strict=True)]
    return torch.cat(ours).float(), torch.cat(theirs).float()


def box_terms(boxes: Tensor, targets: list[Tensor], pairs: list[tuple], count: Tensor | float) -> tuple[Tensor, Tensor]:
    """L1 and 1 - GIoU of the matched pairs, summed over pairs and divided by ``count`` (eq. 5). boxes (B, N, 4)."""
    ours, theirs = matched_boxes(boxes, targets, pairs)
    l1 = (ours - theirs).abs().sum()
    overlap = box_ops.giou(box_ops.cxcywh_to_xyxy(ours), box_ops.cxcywh_to_xyxy(theirs))
    return l1 / count, (1 - overlap).sum() / count


def set_loss(out: dict, targets: list[dict], weights: dict[str, float], count: int | None = None) -> dict[str, Tensor]:
    """Class, L1 and GIoU losses of every decoder layer, each with its own matching, divided by the number of targets.

    :param out: ``logits`` (layers, B, N, C), ``boxes`` (layers, B, N, 4) cxcywh; perhaps ``encoder`` (two stages),
        which learns object against background with every label 0.
    :param targets: per image ``boxes`` (n, 4) cxcywh in 0..1, ``labels`` (n,) int64; n may be 0.
    :param weights: of ``class``, ``coord`` and ``giou``, in the cost and in the loss.
    :param count: targets of the whole batch, of which this is a part: the terms of its parts then sum to its terms.
    :returns: the weighted terms, summed over layers.
    """
    stages = [(logits, boxes, targets) for logits, boxes in zip(out["logits"], out["boxes"], strict=True)]
    if "encoder" in out:
        plain = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
        stages.append((out["encoder"]["logits"], out["encoder"]["boxes"], plain))
    count = max(sum(len(t["labels"]) for t in targets) if count is None else count, 1)
    sums = {name: out["boxes"].new_zeros(()) for name in weights}
    for logits, boxes, wanted in stages:
        counts = [len(t["labels"]) for t in wanted]
        labels = matcher.pad([t["labels"] for t in wanted])
        target_boxes = [t["boxes"] for t in wanted]
        with torch.no_grad():
            cost = matcher.focal_cost(logits, labels, weight=weights["class"])
            cost = cost + matcher.box_cost(
                boxes, matcher.pad(target_boxes), coord=weights["coord"], giou=weights["giou"]
            )
        pairs = matcher.assign(cost, counts)
        one_hot = torch.zeros_like(logits)
        for image, (rows, columns) in enumerate(pairs):
            one_hot[image, rows, wanted[image]["labels"][columns.to(labels.device)]] = 1
        l1, giou = box_terms(boxes, target_boxes, pairs, count)
        sums["class"] = sums["class"] + weights["class"] * focal(logits, one_hot) / count
        sums["coord"] = sums["coord"] + weights["coord"] * l1
        sums["giou"] = sums["giou"] + weights["giou"] * giou
    return sums
