"""Proposal Selection Contrast (ProSeCo, ICLR 2023): Sections 3.1-3.3, Figure 2."""

import copy
import inspect
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from proseco import boxes as box_ops
from proseco.data.views import TwoViews
from proseco.methods._state import flat_state
from proseco.nn import ema, matcher
from proseco.nn.heads import MLP
from proseco.nn.set_loss import box_terms, matched_boxes
from proseco.nn.tensors import pad, to_device
from proseco.training import distributed
from proseco.training.schedules import Pixels


def build(
    detector,
    *,
    weak: dict,
    strong: dict,
    loss: Callable,
    boxes: int = 30,
    ema_rate: float = 0.999,
    projector: tuple[int, int] = (4096, 256),
    lambda_contrast: float = 2.0,
    lambda_sim: float = 2.0,
    lambda_coord: float = 5.0,
    lambda_giou: float = 2.0,
    contrast_aux: bool = False,
    micro_batch: int | Pixels | None = None,
) -> "ProSeCo":
    """
    :param detector: without class head, its backbone pretrained.
    :param weak, strong: the views (Table 4), keywords of :mod:`proseco.data.augment`.
    :param loss: contrastive loss, see :mod:`proseco.losses`.
    :param boxes: K, Selective Search boxes drawn for each image at every step.
    :param ema_rate: keep rate of the teacher.
    :param projector: widths of the MLP's hidden and last layer.
    :param lambda_contrast, lambda_sim, lambda_coord, lambda_giou: coefficients of eq. 2, 4 and 5.
    :param contrast_aux: contrast at every decoder layer instead of the last alone.
    :param micro_batch: images, or pixels of them, whose activations a process holds at a time
        (:meth:`ProSeCo.propose`); None: all.
    """
    weights = {"contrast": lambda_contrast, "sim": lambda_sim, "coord": lambda_coord, "giou": lambda_giou}
    views = TwoViews(weak, boxes, strong)
    return ProSeCo(detector, views, loss, ema_rate, tuple(projector), weights, contrast_aux, micro_batch)


class _Branch(nn.Module):
    """What student and teacher each have: all of a detector after its backbone, and the projector."""

    def __init__(self, detector, widths: tuple[int, int], contrasted: slice):
        super().__init__()
        self.detector, self.contrasted = detector, contrasted
        self.projector = MLP(detector.transformer.level_embed.shape[1], *widths)

    def forward(self, features: list[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """-> embeddings (contrasted layers, B, N, D), L2-normalised; boxes (layers, B, N, 4) cxcywh; both float32.

        Embeddings are those of the last decoder layers, the contrasted ones.
        """
        out = self.detector.decode(features, mask)
        embedded = self.projector(out["queries"][self.contrasted])
        return F.normalize(embedded.float(), dim=-1), out["boxes"].float()


class ProSeCo:
    """Student and EMA teacher over one fixed backbone; proposals contrasted, boxes learned from Selective Search."""

    def __init__(
        self, detector, transform, loss, ema_rate: float, projector, weights: dict, contrast_aux: bool, micro_batch
    ):
        self.transform, self.loss, self.ema_rate, self.weights = transform, loss, ema_rate, weights
        self.positive_from, self.micro_batch = _positive_from(loss), micro_batch
        self.backbone = detector.backbone.requires_grad_(False)
        self.features = detector.features
        self.student = _Branch(detector, projector, slice(None if contrast_aux else -1, None))
        # The backbone is shared, not copied: it never changes (Section 4.1).
        shared = {id(p): p for p in self.backbone.parameters()} | {id(b): b for b in self.backbone.buffers()}
        self.teacher = copy.deepcopy(self.student, shared).requires_grad_(False).eval()

    def parts(self, batch) -> list:
        """The batch as one: its proposals are contrasted with each other. :meth:`propose` goes by ``micro_batch``."""
        return [batch]

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The three steps of Figure 2: propose, match, contrast (and fit the boxes). The last two in float32."""
        teacher, student = self.propose(batch)
        with torch.autocast(batch.views.device.type, enabled=False):
            aligned, box_pairs = self.match(teacher, student, batch)
            return self.contrast(teacher, student, aligned, box_pairs, batch)

    def propose(self, batch) -> tuple[tuple, tuple]:
        """(embeddings, boxes) of the teacher on the weak view and of the student on the strong one.

        With ``micro_batch``, that many images at a time; only the student's outputs are kept, and its activations are
        recomputed in the backward pass (GradCache, Gao et al. 2021). The loss is that of the whole batch, with all its
        negatives, at the price of a second forward pass of the student.
        """
        size = batch.at_a_time(self.micro_batch)
        chunks = zip(batch.views.split(size, 1), batch.mask.split(size), strict=True)
        parts = [self._propose(*views, mask, recompute=size < len(batch)) for views, mask in chunks]
        if len(parts) == 1:
            return parts[0]
        teachers, students = zip(*parts, strict=True)
        return _joined(teachers), _joined(students)

    def _propose(self, weak: Tensor, strong: Tensor, mask: Tensor, *, recompute: bool) -> tuple[tuple, tuple]:
        with torch.no_grad():
            both = self.features(torch.cat([weak, strong]), torch.cat([mask, mask]))
            half = len(weak)
            teacher = self.teacher([f[:half] for f in both], mask)
        features = [f[half:] for f in both]
        if recompute and torch.is_grad_enabled():
            return teacher, checkpoint(self.student, features, mask, use_reentrant=False)
        return teacher, self.student(features, mask)

    def match(self, teacher: tuple, student: tuple, batch) -> tuple[list[Tensor], list]:
        """Proposal matching (eq. 1-2) of the contrasted layers, box matching (eq. 3-4) of every layer.

        :returns: per contrasted layer sigma (B, N): the student's prediction for each of the teacher's proposals; and
            per layer the (prediction, box) pairs of each image.
        """
        (z, b), (z_hat, b_hat) = teacher, student
        w, names = self.weights, batch.keys
        with torch.no_grad():
            proposal_costs = matcher.similarity_cost(z, z_hat, sim=w["sim"])
            proposal_costs += matcher.box_cost(b[-len(z) :], b_hat[-len(z) :], coord=w["coord"], giou=w["giou"])
            box_costs = matcher.box_cost(b_hat, pad(batch.boxes), coord=w["coord"], giou=w["giou"])
            sigmas = matcher.assign(proposal_costs, names=names)  # teacher's rows: all, in order
            aligned = [to_device(torch.stack([columns for _, columns in sigma]), z.device) for sigma in sigmas]
            box_pairs = matcher.assign(box_costs, [len(t) for t in batch.boxes], names=names)
        return aligned, box_pairs

    def contrast(self, teacher, student, aligned, box_pairs, batch) -> tuple[dict, dict]:
        """Eq. 5: the contrastive term and the box losses, the latter at every layer.

        The anchors are this process's proposals, the proposals they are contrasted with those of all processes.
        """
        (z, b), (z_hat, b_hat) = teacher, student
        w, whole = self.weights, batch.global_batch
        anchors = slice(whole.first, whole.first + len(batch))
        contrast = z.new_zeros(())
        for sigma, of_teacher, of_student, boxes in zip(aligned, z, z_hat, b[-len(z) :], strict=True):
            index = sigma[..., None].expand(-1, -1, of_student.shape[-1])
            local = (of_teacher, of_student.gather(1, index), boxes)
            gathered = (distributed.gather(tensor, whole.shares) for tensor in local)
            contrast = contrast + self.loss(*gathered, anchors=anchors) * batch.share
        count = max(whole.boxes, 1)
        per_layer = [box_terms(o, batch.boxes, p, count) for o, p in zip(b_hat, box_pairs, strict=True)]
        l1, giou = (torch.stack(values).sum() for values in zip(*per_layer, strict=True))
        terms = {"contrast": w["contrast"] * contrast, "coord": w["coord"] * l1, "giou": w["giou"] * giou}
        return terms, self._figures(teacher, student, aligned, box_pairs, batch)

    @torch.no_grad()
    def _figures(self, teacher, student, aligned, box_pairs, batch) -> dict[str, Tensor]:
        """To watch: positives of an anchor (eq. 9), itself among them; IoU with the drawn boxes; cosine of matches;
        how far the teacher is behind the student. Parts of the means over the whole batch, as the terms are.
        """
        (z, b), (z_hat, b_hat) = teacher, student
        corners = box_ops.cxcywh_to_xyxy(b[-1])
        others = ~torch.eye(corners.shape[1], dtype=torch.bool, device=corners.device)
        positive = (box_ops.iou(corners, corners) >= self.positive_from) & others
        ours, theirs = (box_ops.cxcywh_to_xyxy(x) for x in matched_boxes(b_hat[-1], batch.boxes, box_pairs[-1]))
        matched = box_ops.iou(ours[:, None], theirs[:, None]).mean() if len(ours) else z.new_zeros(())
        partner = z_hat[-1].gather(1, aligned[-1][..., None].expand(-1, -1, z_hat.shape[-1]))
        boxes = sum(map(len, batch.boxes)) / max(batch.global_batch.boxes, 1)
        return {
            "positives": (1 + positive.float().sum(-1).mean()) * batch.share,
            "matched_iou": matched * boxes,
            "cosine": (z[-1] * partner).sum(-1).mean() * batch.share,
            "ema_distance": ema.distance(self.teacher, self.student) * batch.share,
        }

    def after_step(self) -> None:
        """The teacher follows the student, every iteration."""
        ema.update(self.teacher, self.student, self.ema_rate)

    def modules(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}

    @torch.no_grad()
    def matched_predictions(self, batch) -> dict[str, list[tuple[Tensor, list[int]]]]:
        """For pictures: what ``student`` and ``teacher`` predict for the drawn boxes, matched as eq. 3-4.

        :returns: network -> per image boxes (m, 4) cxcywh on the CPU, and the number of the drawn box of each; m is the
            least of N and K.
        """
        was_training = self.student.training
        self.student.eval()
        teacher, student = self.propose(batch)
        self.student.train(was_training)
        predictions = {}
        for name, predicted in (("student", student), ("teacher", teacher)):
            _, box_pairs = self.match(predicted, predicted, batch)
            last = zip(predicted[1][-1].cpu(), box_pairs[-1], strict=True)
            predictions[name] = [(boxes[rows], numbers.tolist()) for boxes, (rows, numbers) in last]
        return predictions

    def state_dicts(self) -> dict[str, dict[str, Tensor]]:
        """Both networks, each a whole detector with the backbone; the projector under ``projector.``."""
        return {"student": flat_state(self.student), "teacher": flat_state(self.teacher)}


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
    """Embeddings and boxes, both (layers, images, ...), of several parts of a batch -> of all its images."""
    return tuple(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True))


def _positive_from(loss: Callable) -> float:
    """IoU from which the loss takes a proposal as a positive of another: its ``delta``. At 1, and in a loss without
    one, an anchor is its only positive.
    """
    delta = inspect.signature(loss).parameters.get("delta")
    return math.inf if delta is None or delta.default == 1 else delta.default
