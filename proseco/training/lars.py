"""LARS, layer-wise adaptive rate scaling: stochastic gradient descent for large batches (You et al. 2017)."""

from collections.abc import Iterable

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """Momentum on updates whose norm is, layer by layer, a share of the weights' norm.

    With weights w of a layer, gradient g and learning rate a, a step is::

        u = g + weight_decay w
        v = momentum v + u trust |w| / |u|
        w = w - a v

    As in BYOL's and SoCo's programs |u| includes the decay and v does not include a (in the paper |g| and
    ``weight_decay`` |w| are added, and a is kept in v). Vectors, which are the biases and the weights of norms, have
    u = g and no factor; nor has a layer whose weights or update are 0.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ):
        """
        :param params: parameters, or groups of them with their own learning rates.
        :param trust: share of its norm by which a layer moves in a step of rate 1, momentum aside.
        """
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient. Nothing is read back from a GPU."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: Tensor, group: dict) -> None:
        update = weight.grad
        if weight.ndim > 1:
            update = update.add(weight, alpha=group["weight_decay"])
            length, own = update.norm(), weight.norm()
            update = update * torch.where((length > 0) & (own > 0), group["trust"] * own / length, 1.0)
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        state["velocity"].mul_(group["momentum"]).add_(update)
        weight.sub_(state["velocity"], alpha=group["lr"])
