"""What the four losses share: similarities over the batch, relations among proposals, overlapping positives."""

import torch
from torch import Tensor

from proseco import boxes as box_ops
from proseco.losses import _ranges


def log_similarity(z: Tensor, z_hat: Tensor, tau: float) -> Tensor:
    """log p'' of eq. 7, in float32. z (a, N, D), z_hat (B, N, D) -> (a, N, B, N), normalised over the last two axes."""
    _ranges.check(tau=tau)
    logits = torch.einsum("ijd,nmd->ijnm", z.float(), z_hat.float()) / tau
    return logits.flatten(2).log_softmax(-1).view_as(logits)


def relation(z: Tensor, anchors: slice, tau_t: float, mask: str) -> Tensor:
    """p' of eq. 6: softmax of an anchor over the other teacher embeddings. (B, N, D) -> (a, N, B, N), no gradient.

    :param mask: ``self`` leaves out the anchor itself; ``literal`` every pair of the same image or the same query, as
        the product of the two indicators reads. A row of which nothing is left is 0.
    """
    _ranges.check(tau_t=tau_t, relation_mask=mask)
    z = z.detach().float()
    logits = torch.einsum("ijd,nmd->ijnm", z[anchors], z) / tau_t
    images = torch.eye(len(z), dtype=torch.bool, device=z.device)[anchors]
    queries = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    same_image, same_query = images[:, None, :, None], queries[None, :, None, :]
    left_out = same_image & same_query if mask == "self" else same_image | same_query
    logits = logits.masked_fill(left_out, float("-inf"))
    return logits.flatten(2).softmax(-1).nan_to_num(0.0).view_as(logits)


def positives(boxes: Tensor, delta: float) -> Tensor:
    """The indicator of eq. 9: IoU_i(j, m) >= delta between proposals of one image. (a, N, 4) cxcywh -> (a, N, N) bool.

    Every proposal is its own positive. At delta = 1 it is the only one, also when two boxes coincide, so that the
    localised losses become the plain ones exactly.
    """
    _ranges.check(delta=delta)
    corners = box_ops.cxcywh_to_xyxy(boxes.detach().float())
    own = torch.eye(boxes.shape[1], dtype=torch.bool, device=boxes.device)
    if delta == 1:
        return own.expand(len(boxes), -1, -1)
    return (box_ops.iou(corners, corners) >= delta) | own


def own_image(pairs: Tensor, anchors: slice) -> Tensor:
    """The part of (a, N, B, N) whose two proposals are of one image -> (a, N, N)."""
    images = torch.arange(pairs.shape[2], device=pairs.device)[anchors]
    return pairs[torch.arange(len(images), device=pairs.device), :, images]


def positive_log_likelihood(log_p: Tensor, boxes: Tensor, anchors: slice, delta: float) -> tuple[Tensor, Tensor]:
    """Sum of log p'' over an anchor's positives, and their number: 2 x (a, N)."""
    positive = positives(boxes[anchors], delta)
    return (own_image(log_p, anchors) * positive).sum(-1), positive.sum(-1)


def soft_cross_entropy(
    z: Tensor,
    z_hat: Tensor,
    boxes: Tensor,
    *,
    anchors: slice,
    tau: float,
    tau_t: float,
    lambda_sce: float,
    delta: float,
    relation_mask: str,
    normalize_target: bool,
) -> Tensor:
    """Eq. 10: cross-entropy of p'' against w = lambda_sce [positive] + (1 - lambda_sce) p', mean over the anchors."""
    _ranges.check(lambda_sce=lambda_sce)
    log_p = log_similarity(z[anchors].detach(), z_hat, tau)
    likelihood, count = positive_log_likelihood(log_p, boxes, anchors, delta)
    related = (relation(z, anchors, tau_t, relation_mask) * log_p).sum((-1, -2))
    rows = lambda_sce * likelihood + (1 - lambda_sce) * related
    if normalize_target:  # the target of each row sums to 1, as in SCE's reference code
        rows = rows / (lambda_sce * count + (1 - lambda_sce))
    return -rows.mean()
