"""Supervised detection: what finetuning does. As a pretraining it is none: backbone weights and a new detector."""

from torch import Tensor

from proseco.data.views import WeakView


def build(model, *, weak: dict) -> "Supervised":
    """
    :param model: detector with a class head (:mod:`proseco.detectors`).
    :param weak: keywords of :func:`proseco.data.augment.weak`.
    """
    return Supervised(model, weak)


class Supervised:
    """The detector's own losses on annotated boxes."""

    def __init__(self, detector, weak: dict):
        self.student = detector
        self.transform = WeakView(weak)

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.student.losses(batch.views[0], batch.mask, batch.targets()), {}

    def after_step(self) -> None:
        pass
