"""Similarity contrastive estimation (Denize et al. 2023) between object proposals: eq. 6-8, the one-hot target."""

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
    relation_mask: str = "self",
) -> Tensor:
    """LocSCE with delta = 1: the only positive of an anchor is its match.

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
        delta=1.0,
        relation_mask=relation_mask,
        normalize_target=False,
    )
