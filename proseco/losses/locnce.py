"""InfoNCE with overlapping proposals as further positives (eq. 12)."""

from torch import Tensor

from proseco.losses._contrast import soft_cross_entropy


def loss(
    z: Tensor, z_hat: Tensor, boxes: Tensor, *, anchors: slice = slice(None), tau: float = 0.1, delta: float = 0.5
) -> Tensor:
    """-sum over the positives m of log p''(ij, im), mean over the anchors.

    :param z, z_hat, boxes, anchors: see :mod:`proseco.losses`.
    """
    return soft_cross_entropy(z, z_hat, boxes, anchors=anchors, tau=tau, delta=delta)
