"""Supervised detection: what finetuning does. A row of this method has no pretraining but the backbone's."""

from torch import Tensor

from proseco.data.views import WeakView
from proseco.training.schedules import Pixels


def build(detector, *, weak: dict, micro_batch: int | Pixels | None = None) -> "Supervised":
    """
    :param detector: with a class head (:mod:`proseco.detectors`).
    :param weak: keywords of :func:`proseco.data.augment.weak_geometry`.
    :param micro_batch: see :class:`proseco.training.schedules.Schedule`.
    """
    return Supervised(detector, weak, micro_batch)


class Supervised:
    """The detector's own losses on annotated boxes."""

    def __init__(self, detector, weak: dict, micro_batch: int | Pixels | None):
        self.student, self.micro_batch = detector, micro_batch
        self.transform = WeakView(weak)

    def parts(self, batch) -> list:
        """An image's loss does not depend on the others: gradients of parts add up to that of the batch."""
        return batch.split(self.micro_batch)

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        terms = self.student.losses(batch.views[0], batch.mask, batch.targets(), batch.global_batch.boxes, batch.share)
        return terms, {}

    def after_step(self) -> None:
        pass

    def modules(self) -> dict:
        return {"student": self.student}
