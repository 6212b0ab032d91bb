"""What the four losses share: the target of eq. 9, and the cross-entropy against it (eq. 10)."""

import math

import torch
from torch import Tensor

from proseco import boxes as box_ops
from proseco.losses import _ranges
from proseco.losses._chunked import cross_entropy


def soft_cross_entropy(
    z: Tensor,
    z_hat: Tensor,
    boxes: Tensor,
    *,
    anchors: slice,
    tau: float,
    delta: float,
    lambda_sce: float = 1.0,
    tau_t: float = 1.0,
    relation_mask: str = "self",
    normalize_target: bool = False,
) -> Tensor:
    """Eq. 10: cross-entropy of p'' (eq. 7) against w = lambda_sce [positive] + (1 - lambda_sce) p' (eq. 9).

    With ``lambda_sce`` = 1 no relation counts and this is eq. 12; with ``delta`` = 1 as well, eq. 11.

    :param z, z_hat, boxes, anchors: see :mod:`proseco.losses`.
    :param relation_mask: which pairs p' (eq. 6) leaves out: ``self`` the anchor itself; ``literal`` every pair of the
        same image or the same query, as the product of the two indicators reads.
    :param normalize_target: each row of w is divided by its sum, as in SCE's reference code.
    :returns: mean over the anchors; float64 where an embedding is, else float32.
    """
    _ranges.check(tau=tau, delta=delta, lambda_sce=lambda_sce, tau_t=tau_t, relation_mask=relation_mask)
    images, queries, _ = z.shape
    dtype = torch.promote_types(torch.promote_types(z.dtype, z_hat.dtype), torch.float32)
    z, z_hat = z.detach().to(dtype).flatten(0, 1), z_hat.to(dtype).flatten(0, 1)
    corners = box_ops.cxcywh_to_xyxy(boxes.detach().to(torch.promote_types(boxes.dtype, torch.float32)))
    # A mask leaves something in every row or in none; then there is no relation.
    literal = relation_mask == "literal"
    related = lambda_sce < 1 and (min(images, queries) > 1 if literal else len(z) > 1)

    def target(rows: Tensor, spare: Tensor, relation: Tensor) -> tuple[Tensor, Tensor | None]:
        local = lambda_sce * positives(corners, rows, delta).to(dtype)
        share = local.new_full((len(rows), 1), 1 - lambda_sce if related else 0.0)
        if related:
            logits = torch.mm(z[rows] / tau_t, z.T, out=spare)
            torch.softmax(leave_out(logits, rows, queries, literal=literal), -1, out=relation)  # p' of eq. 6
        if normalize_target:
            total = (local.sum(-1, keepdim=True) + share).clamp(min=torch.finfo(dtype).tiny)
            local, share = local / total, share / total
        return local, share if related else None

    rows = torch.arange(len(z), device=z.device).view(images, queries)[anchors].flatten()
    return cross_entropy(z, z_hat, rows, tau=tau, target=target)


def leave_out(logits: Tensor, rows: Tensor, queries: int, *, literal: bool) -> Tensor:
    """Set to -inf, in place, what eq. 6 leaves out. logits (a, B N), of the anchors numbered ``rows`` (a,)."""
    # By scatter_: an assignment would copy the number to a GPU first and wait for queued work.
    if literal:
        pairs, rows = logits.unflatten(1, (-1, queries)), rows[:, None, None]
        pairs.scatter_(1, (rows // queries).expand(-1, 1, pairs.shape[2]), -math.inf)
        pairs.scatter_(2, (rows % queries).expand(-1, pairs.shape[1], 1), -math.inf)
    else:
        logits.scatter_(1, rows[:, None], -math.inf)
    return logits


def positives(corners: Tensor, rows: Tensor, delta: float) -> Tensor:
    """The indicator of eq. 9: IoU_i(j, m) >= delta within the anchor's image. (B, N, 4) xyxy, (a,) -> (a, N) bool.

    Every proposal is its own positive. At delta = 1 it is the only one, also when two boxes coincide, so that the
    localised losses become the plain ones exactly.
    """
    queries = corners.shape[1]
    image, query = rows // queries, rows % queries
    own = query[:, None] == torch.arange(queries, device=corners.device)
    if delta == 1:
        return own
    return (box_ops.iou(corners[image, query][:, None], corners[image])[:, 0] >= delta) | own
