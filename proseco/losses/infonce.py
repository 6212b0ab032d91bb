"""InfoNCE between object proposals (van den Oord et al. 2018; eq. 11)."""

from torch import Tensor

from proseco.losses._contrast import soft_cross_entropy


def loss(z: Tensor, z_hat: Tensor, boxes: Tensor, *, anchors: slice = slice(None), tau: float = 0.1) -> Tensor:
    """-log p'' of an anchor and its match, mean over the anchors.

    :param z, z_hat, boxes, anchors: see :mod:`proseco.losses`.
    """
    return soft_cross_entropy(z, z_hat, boxes, anchors=anchors, tau=tau, delta=1.0)
