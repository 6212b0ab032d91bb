"""InfoNCE between object proposals (van den Oord et al. 2018; eq. 11)."""

from torch import Tensor

from proseco.losses._contrast import log_similarity, positive_log_likelihood


def loss(z: Tensor, z_hat: Tensor, boxes: Tensor, *, anchors: slice = slice(None), tau: float = 0.1) -> Tensor:
    """-log p'' of an anchor and its match, mean over the anchors.

    :param z: z_hat, boxes, anchors: see :mod:`proseco.losses`.
    """
    log_p = log_similarity(z[anchors].detach(), z_hat, tau)
    return -positive_log_likelihood(log_p, boxes, anchors, delta=1.0)[0].mean()
