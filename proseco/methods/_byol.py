"""What SCRL and SoCo share: an online network that predicts what a target network, its moving average, sees in another
view (BYOL, Grill et al. 2020).
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from proseco import boxes as box_ops
from proseco.nn import ema
from proseco.nn.constants import constant
from proseco.training import distributed


def head(width: int, hidden: int, out: int) -> nn.Sequential:
    """Projector or predictor: linear, batch norm, ReLU, linear without bias; (n, width) -> (n, out)."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out, bias=False),
    )


class Online(nn.Module):
    """The encoder that is trained, projector included, and the predictor."""

    def __init__(self, encoder: nn.Module, predictor: nn.Module):
        super().__init__()
        self.encoder, self.predictor = encoder, predictor

    def forward(self, images: Tensor, boxes: list[Tensor]) -> Tensor:
        """-> predictions (n, D), one row per box."""
        return self.predictor(self.encoder(images, boxes))


class Target(nn.Module):
    """A copy of the encoder that follows it. The keep rate rises from ``ema_rate`` to 1 along a cosine.

    Its batch norm sees the batch and gathers its own statistics, as in training: those of the online network belong to
    other weights.
    """

    def __init__(self, encoder: nn.Module, ema_rate: float, steps: int):
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.ema_rate, self.steps, self.step = ema_rate, steps, 0

    @torch.no_grad()
    def forward(self, images: Tensor, boxes: list[Tensor]) -> Tensor:
        """-> projections (n, D), one row per box."""
        return self.encoder(images, boxes)

    def keep_rate(self) -> float:
        """1 - (1 - ema_rate) (cos(pi k / K) + 1) / 2 after k of K steps."""
        return 1 - (1 - self.ema_rate) * (math.cos(math.pi * self.step / self.steps) + 1) / 2

    def follow(self, encoder: nn.Module) -> None:
        """One step towards the online network's encoder."""
        ema.update(self.encoder, encoder, self.keep_rate(), buffers=False)
        self.step += 1

    def get_extra_state(self) -> Tensor:
        """The step, which a state to go on from must hold."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        """The counterpart of :meth:`get_extra_state`."""
        self.step = int(state)


class Byol:
    """The part of a method (:class:`proseco.training.loop.Method`) that SCRL and SoCo share."""

    def __init__(self, encoder: nn.Module, projector: tuple[int, int], ema_rate: float, steps: int, transform):
        """
        :param projector: widths of the hidden and the last layer, which the predictor has too.
        """
        hidden, out = projector
        student = Online(encoder, head(out, hidden, out))
        self.student = distributed.with_norm_over_all(student).train()
        self.teacher = Target(self.student.encoder, ema_rate, steps)
        self.transform = transform

    def parts(self, batch) -> list:
        """Batch norm sees the whole batch: there are no parts."""
        return [batch]

    def after_step(self) -> None:
        """The target follows, every iteration."""
        self.teacher.follow(self.student.encoder)

    def modules(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}

    @torch.no_grad()
    def figures(self, batch, projections: Tensor) -> dict[str, Tensor]:
        """To watch: the root mean square distance of the unit projections from their mean, 0 if all are equal (a
        collapse, which the loss does not tell from success); how far the target is behind the online network. Parts of
        means over the whole batch, as the terms are.
        """
        spread = F.normalize(projections.float(), dim=-1).std(0, correction=0).norm()
        return {
            "spread": spread * batch.share,
            "ema_distance": ema.distance(self.teacher.encoder, self.student.encoder) * batch.share,
        }


def pixels_xyxy(images: Tensor, boxes: list[Tensor]) -> tuple[Tensor, ...]:
    """Per image boxes (n_i, 4) cxcywh in 0..1 -> xyxy in pixels of ``images`` (B, 3, H, W)."""
    height, width = images.shape[2:]
    size = constant((width, height), images.device)
    return box_ops.scale(box_ops.cxcywh_to_xyxy(torch.cat(boxes)), size).split([len(b) for b in boxes])


def distances(predictions: Tensor, projections: Tensor) -> Tensor:
    """|p - z|^2 of the normalised vectors, 2 - 2 cos: (n, D), (n, D) -> (n,) float32. No gradient reaches ``z``."""
    p, z = (F.normalize(x.float(), dim=-1) for x in (predictions, projections.detach()))
    return 2 - 2 * (p * z).sum(-1)


def with_trained_norm(module: nn.Module) -> nn.Module:
    """Replace frozen batch norm by one that is trained, with the same names and values, in place."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d):
            norm = nn.BatchNorm2d(len(child.weight), eps=child.eps)
            norm.load_state_dict(child.state_dict(), strict=False)  # a frozen one counts no batches
            setattr(module, name, norm.to(child.weight.device))
        else:
            with_trained_norm(child)
    return module
