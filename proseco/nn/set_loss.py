"""Set prediction losses: boxes matched one to one with targets (DETR; focal form of Deformable DETR)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from proseco import boxes as box_ops
from proseco.nn import matcher
from proseco.nn.tensors import at_least_float32, pad


def focal(logits: Tensor, target: Tensor, alpha: float = 0.25) -> Tensor:
    """Sigmoid focal loss with gamma 2 (Lin et al. 2017), summed. logits and one-hot target (..., C) -> ()."""
    logits = at_least_float32(logits)
    target = target.to(logits.dtype)
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = p * (1 - target) + (1 - p) * target
    return ((alpha * target + (1 - alpha) * (1 - target)) * wrong**2 * entropy).sum()


def matched_boxes(boxes: Tensor, targets: list[Tensor], pairs: list[tuple]) -> tuple[Tensor, Tensor]:
    """Predicted and target boxes of the matched pairs, all images after each other: 2 x (P, 4) cxcywh."""
    rows, columns = matcher.flatten(pairs, boxes.shape[1], [len(t) for t in targets], boxes.device)
    return at_least_float32(boxes.flatten(0, 1)[rows]), at_least_float32(torch.cat(targets)[columns])


def box_terms(boxes: Tensor, targets: list[Tensor], pairs: list[tuple], count: Tensor | float) -> tuple[Tensor, Tensor]:
    """L1 and 1 - GIoU of the matched pairs, summed over pairs and divided by ``count`` (eq. 5). boxes (B, N, 4)."""
    return _box_losses(*matched_boxes(boxes, targets, pairs), count)


def _box_losses(ours: Tensor, theirs: Tensor, count: Tensor | float) -> tuple[Tensor, Tensor]:
    l1 = (ours - theirs).abs().sum()
    overlap = box_ops.giou(box_ops.cxcywh_to_xyxy(ours), box_ops.cxcywh_to_xyxy(theirs))
    return l1 / count, (1 - overlap).sum() / count


def set_loss(
    out: dict,
    targets: list[dict],
    weights: dict[str, float],
    count: int | None = None,
    matched: list[list[tuple]] | None = None,
) -> dict[str, Tensor]:
    """Class, L1 and GIoU losses of every decoder layer, each with its own matching, divided by the number of targets.

    :param out: ``logits`` (layers, B, N, C), ``boxes`` (layers, B, N, 4) cxcywh; perhaps ``encoder`` (two stages),
        which learns object against background with every label 0.
    :param targets: per image ``boxes`` (n, 4) cxcywh in 0..1, ``labels`` (n,) int64; n may be 0; perhaps ``key``, the
        image's name for errors.
    :param weights: of ``class``, ``coord`` and ``giou``, in the cost and in the loss.
    :param count: targets of the whole batch if this is a part of it: the terms of its parts then sum to its terms.
    :param matched: the result of :func:`match` on the layers, if there is one already.
    :returns: the weighted terms, summed over layers.
    :raises FloatingPointError: a prediction is not finite; it names the image.
    """
    matched = match(out["logits"], out["boxes"], targets, weights) if matched is None else matched
    stages = [(logits, boxes, targets) for logits, boxes in zip(out["logits"], out["boxes"], strict=True)]
    if "encoder" in out:
        plain = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
        matched = matched + match(out["encoder"]["logits"][None], out["encoder"]["boxes"][None], plain, weights)
        stages.append((out["encoder"]["logits"], out["encoder"]["boxes"], plain))
    count = max(sum(len(t["labels"]) for t in targets) if count is None else count, 1)
    queries, counts = [logits.shape[1] for logits, _, _ in stages], [len(t["boxes"]) for t in targets]
    numbers = matcher.flatten_each(matched, queries, counts, out["boxes"].device)
    all_boxes = torch.cat([t["boxes"] for t in targets])
    sums = {name: out["boxes"].new_zeros(()) for name in weights}
    for (logits, boxes, wanted), (rows, columns) in zip(stages, numbers, strict=True):
        one_hot = logits.new_zeros(logits.shape)
        labels = torch.cat([t["labels"] for t in wanted])[columns]
        one_hot.view(-1).scatter_(0, rows * logits.shape[2] + labels, 1.0)  # an assignment would wait for a GPU
        ours, theirs = at_least_float32(boxes.flatten(0, 1)[rows]), at_least_float32(all_boxes[columns])
        l1, giou = _box_losses(ours, theirs, count)
        sums["class"] = sums["class"] + weights["class"] * focal(logits, one_hot) / count
        sums["coord"] = sums["coord"] + weights["coord"] * l1
        sums["giou"] = sums["giou"] + weights["giou"] * giou
    return sums


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, targets: list[dict], weights: dict[str, float]) -> list[list[tuple]]:
    """Matching of every layer with the targets: logits (layers, B, N, C), boxes (layers, B, N, 4) -> pairs."""
    labels, wanted = (pad([t[name] for t in targets]) for name in ("labels", "boxes"))
    cost = matcher.focal_cost(logits, labels, weight=weights["class"])
    cost += matcher.box_cost(boxes, wanted, coord=weights["coord"], giou=weights["giou"])
    names = [t["key"] for t in targets] if all("key" in t for t in targets) else None
    return matcher.assign(cost, [len(t["labels"]) for t in targets], names=names)
