"""Cross-entropy between all proposals of a batch, exact, a few anchors at a time.

Its tables have a row for each anchor and a column for each of the M = B N proposals: 1.4 GB each at B = 64, N = 300. No
row needs another, so rows are computed in chunks. The gradient has a closed form and is added up on the way: no table
outlives its chunk, and the backward pass computes nothing again.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Bytes of a chunk's tables together. On a CPU that is 291 anchors at M = 19,200 in float32, and more is no faster; a
#: GPU has sixty kernels to start for each chunk.
CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 2**30}
TABLES = 3  # spare, relation and log p'', each (a, M)

#: (rows, spare, relation) -> (local, share): the target w of the anchors with the numbers ``rows`` (a,), in two parts.
#: local (a, N) has the weights of the proposals of each anchor's own image. share (a, 1) is that of a distribution over
#: all proposals, written to ``relation`` (a, M); None if there is none. ``spare`` (a, M) may be written to.
Target = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def cross_entropy(z: Tensor, z_hat: Tensor, rows: Tensor, *, tau: float, target: Target) -> Tensor:
    """-sum_c w_rc log p''_rc, mean over the anchors r; 0 without any.

    The gradient reaches all of ``z_hat`` and nothing else, once: there is no second derivative.

    :param z: (M, D) teacher; ``z_hat`` (M, D) student; both float32, or both float64.
    :param rows: (a,) int64, the numbers of the anchors.
    :param tau: p'' is the softmax of z_r . z_hat_c / tau over c (eq. 7).
    """
    learns = torch.is_grad_enabled() and z_hat.requires_grad
    # Autocast would round the logits to bfloat16: near a cosine of 1, divided by tau_t = .07, that moves p' by 3 %.
    with torch.autocast(z.device.type, enabled=False):
        return _CrossEntropy.apply(z_hat, z, rows, tau, target, learns)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z_hat: Tensor, z: Tensor, rows: Tensor, tau: float, target: Target, learns: bool) -> Tensor:
        size = max(CHUNK_BYTES[z_hat.device.type] // (TABLES * len(z_hat) * z_hat.element_size()), 1)
        # Allocated once: on a CPU, clearing the pages of new ones for every chunk took up to a third of the time.
        tables = z_hat.new_empty(TABLES, min(size, len(rows)), len(z_hat))
        entropies = z_hat.new_empty(len(rows))
        gradient = torch.zeros_like(z_hat) if learns else None
        for chunk, entropy in zip(rows.split(size), entropies.split(size), strict=True):
            spare, relation, log_p = tables[:, : len(chunk)]
            local, share = target(chunk, spare, relation)
            anchors = z[chunk] / tau
            torch.log_softmax(torch.mm(anchors, z_hat.T, out=spare), -1, out=log_p)
            images = log_p.unflatten(1, (-1, local.shape[1]))  # (a, B, N), the same memory
            own = torch.arange(len(chunk), device=chunk.device), chunk // local.shape[1]  # each anchor's image in it
            torch.sum(local * images[own], -1, out=entropy).neg_()
            if share is not None:
                entropy -= share[:, 0] * torch.mul(relation, log_p, out=spare).sum(-1)
            if learns:  # d entropy / d logits = sum(w) p'' - w, in the place of log p''
                total = local.sum(-1, keepdim=True)
                log_p.exp_().mul_(total if share is None else total + share)
                images[own] -= local
                if share is not None:
                    log_p.addcmul_(relation, share, value=-1)
                gradient.addmm_(log_p.T, anchors)
        count = max(len(rows), 1)
        if learns:
            ctx.save_for_backward(gradient.div_(count))
        return entropies.sum() / count

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out: Tensor) -> tuple:
        (gradient,) = ctx.saved_tensors
        return grad_out * gradient, None, None, None, None, None
