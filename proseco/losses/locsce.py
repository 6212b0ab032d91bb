"""Localised SCE, the paper's loss (eq. 6-10)."""

from torch import Tensor

from proseco.losses._contrast import soft_cross_entropy


def loss(
    z: Tensor,
    z_hat: Tensor,
    boxes: Tensor,
    *,
    anchors: slice = slice(None),
    tau: float = 0.1,
    tau_t: float = 0.07,
    lambda_sce: float = 0.5,
    delta: float = 0.5,
    relation_mask: str = "self",
    normalize_target: bool = False,
) -> Tensor:
    """Proposals that overlap by an IoU of at least ``delta`` are positives; the rest is weighted by its relation.

    Not normalised (the default, eq. 9 as written), its value grows with the number of positives: it may well rise
    while training goes well.

    :param z, z_hat, boxes, anchors: see :mod:`proseco.losses`.
    """
    return soft_cross_entropy(
        z,
        z_hat,
        boxes,
        anchors=anchors,
        tau=tau,
        tau_t=tau_t,
        lambda_sce=lambda_sce,
        delta=delta,
        relation_mask=relation_mask,
        normalize_target=normalize_target,
    )
