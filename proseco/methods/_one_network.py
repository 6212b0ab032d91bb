"""What methods without a teacher share: a detector over a fixed backbone, with a class head of one class, object."""

import torch
from torch import Tensor, nn

from proseco import boxes as box_ops
from proseco.methods._state import flat_state
from proseco.nn import set_loss
from proseco.training.schedules import Pixels


class Student(nn.Module):
    """The detector, and what only the pretraining has beside it."""

    def __init__(self, detector, projector: nn.Module):
        super().__init__()
        self.detector, self.projector = detector, projector


class OneNetwork:
    """Set losses of objects that have no class, on all layers of the decoder. A subclass adds its own."""

    def __init__(
        self, detector, projector: nn.Module, transform, weights: dict[str, float], micro_batch: int | Pixels | None
    ):
        """:param weights: of ``class``, ``coord`` and ``giou``, in the matching and in the loss."""
        self.transform, self.weights, self.micro_batch = transform, weights, micro_batch
        detector.backbone.requires_grad_(False)
        detector.add_class_head(1)
        self.student = Student(detector, projector)

    def predict(self, batch, **options) -> dict:
        """The result of the detector's ``decode`` on the first view, over the fixed backbone's features.

        :param options: further arguments of ``decode``.
        """
        with torch.no_grad():
            features = self.student.detector.features(batch.views[0], batch.mask)
        return self.student.detector.decode(features, batch.mask, **options)

    def parts(self, batch) -> list:
        """An image's loss does not depend on the others: gradients of parts add up to that of the batch."""
        return batch.split(self.micro_batch)

    def set_losses(self, out: dict, batch) -> tuple[dict[str, Tensor], dict[str, Tensor], list]:
        """Terms of the detector's set loss, figures to watch, and per layer the (query, box) pairs of each image."""
        targets = batch.targets()
        matched = set_loss.match(out["logits"], out["boxes"], targets, self.weights)
        terms = set_loss.set_loss(out, targets, self.weights, batch.global_batch.boxes, matched)
        with torch.no_grad():
            pairs = set_loss.matched_boxes(out["boxes"][-1], batch.boxes, matched[-1])
            ours, theirs = (box_ops.cxcywh_to_xyxy(boxes)[:, None] for boxes in pairs)
            overlap = box_ops.iou(ours, theirs).sum() / max(batch.global_batch.boxes, 1)
        return terms, {"matched_iou": overlap}, matched

    def after_step(self) -> None:
        pass

    def modules(self) -> dict[str, nn.Module]:
        return {"student": self.student}

    @torch.no_grad()
    def matched_predictions(self, batch) -> dict[str, list[tuple[Tensor, list[int]]]]:
        """For pictures: what is predicted for the boxes. There is no teacher.

        :returns: ``student`` -> per image boxes (m, 4) cxcywh on the CPU, and the number of the box of each; m is the
            least of N and the boxes.
        """
        was_training = self.student.training
        self.student.eval()
        out = self.predict(batch)
        self.student.train(was_training)
        (pairs,) = set_loss.match(out["logits"][-1:], out["boxes"][-1:], batch.targets(), self.weights)
        last = zip(out["boxes"][-1].cpu(), pairs, strict=True)
        return {"student": [(boxes[rows], numbers.tolist()) for boxes, (rows, numbers) in last]}

    def state_dicts(self) -> dict[str, dict[str, Tensor]]:
        """The whole detector with the backbone, as both networks; what only pretraining needs under ``projector.``."""
        state = flat_state(self.student)
        return {"student": state, "teacher": state}
