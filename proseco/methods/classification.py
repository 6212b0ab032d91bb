"""Supervised classification of images: the backbone of the demo, as ImageNet's labels give the paper's."""

import torch
import torch.nn.functional as F
from torch import Tensor

from proseco.data.views import SquareCrop
from proseco.nn.backbone import normalise


def build(network, *, side: int, area: tuple[float, float] = (0.4, 1.0), smoothing: float = 0.0) -> "Classification":
    """
    :param network: (B, 3, H, W) -> (B, classes), with batch norm.
    :param side: pixels of the square that it sees; ``area``: range of the window's share of the image.
    :param smoothing: of the labels, 0..1.
    """
    return Classification(network, SquareCrop(side, tuple(area)), smoothing)


class Classification:
    """Cross-entropy on one label per image."""

    def __init__(self, network, transform, smoothing: float):
        self.student, self.transform, self.smoothing = network, transform, smoothing

    def parts(self, batch) -> list:
        """Batch norm sees the whole batch: there are no parts."""
        return [batch]

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        logits = self.student(normalise(batch.views[0], batch.mask)).float()
        labels = torch.cat(batch.labels)
        right = (logits.argmax(-1) == labels).float().mean()
        return {"entropy": F.cross_entropy(logits, labels, label_smoothing=self.smoothing)}, {"accuracy": right}

    def after_step(self) -> None:
        pass

    def modules(self) -> dict:
        return {"student": self.student}
