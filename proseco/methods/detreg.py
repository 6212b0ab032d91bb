"""DETReg (Bar et al. 2022) on Deformable DETR: find Selective Search boxes, and say what the backbone sees in them."""

import numpy as np
from torch import Tensor

from proseco.base import plugins
from proseco.base.errors import InputError, one_of
from proseco.data.views import Search, TopBoxes
from proseco.methods import _patches
from proseco.methods._one_network import OneNetwork
from proseco.nn import matcher
from proseco.nn.heads import MLP
from proseco.nn.tensors import at_least_float32
from proseco.training.schedules import Pixels

#: Of the backbone's maps, in the order in which a detector's ``features`` returns them.
STRIDES = (8, 16, 32)


def build(
    detector,
    *,
    weak: dict,
    boxes: int = 30,
    draw: bool = False,
    search: dict | None = None,
    side: int = 128,
    stride: int = 8,
    lambda_class: float = 2.0,
    lambda_coord: float = 5.0,
    lambda_giou: float = 2.0,
    lambda_embed: float = 1.0,
    micro_batch: int | Pixels | None = None,
) -> "DETReg":
    """
    :param detector: without class head, its backbone pretrained.
    :param weak: the view, keywords of :func:`proseco.data.augment.weak_geometry`.
    :param boxes: K, how many boxes of an image are used: its first ones, or with ``draw`` a random choice.
    :param search: ``side`` and ``proposals``, the entry of a plug-in: boxes are not the stored ones but found anew each
        time, on the image squeezed to a square of ``side`` pixels, as in the public code (128).
    :param side: pixels of the crop that a box's embedding is computed from.
    :param stride: of the backbone's map whose mean is the embedding: 8 (the public code's), 16 or 32.
    :param lambda_class, lambda_coord, lambda_giou: coefficients, in the matching and in the loss.
    :param lambda_embed: coefficient of the embedding's L1. The defaults of all four are the public code's.
    :param micro_batch: see :class:`proseco.training.schedules.Schedule`.
    """
    if stride not in STRIDES:
        raise one_of("stride", stride, map(str, STRIDES), "method.stride")
    weights = {"class": lambda_class, "coord": lambda_coord, "giou": lambda_giou}
    views = TopBoxes(weak, boxes, draw, search and _search(**search))
    return DETReg(detector, views, side, STRIDES.index(stride), weights, lambda_embed, micro_batch)


def _search(*, side: int, proposals: dict) -> Search:
    propose = plugins.bind("proposals", proposals)
    try:  # before the first image, in a loader's process
        propose(np.zeros((side, side, 3), np.uint8), seed=0)
    except InputError as error:
        raise InputError(f"method.search.proposals: {error}") from None
    return Search(propose, side)


class DETReg(OneNetwork):
    """One detector; its targets are the boxes and their embeddings."""

    def __init__(self, detector, transform, side: int, level: int, weights: dict, lambda_embed: float, micro_batch):
        width = detector.transformer.level_embed.shape[1]
        projector = MLP(width, width, detector.backbone[0].channels[level])
        super().__init__(detector, projector, transform, weights, micro_batch)
        self.side, self.level, self.lambda_embed = side, level, lambda_embed

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Object or not, L1 and GIoU of every layer; L1 between the embeddings of the last layer's matched queries and
        those of their boxes, a mean over the embedding's numbers.
        """
        out = self.predict(batch)
        terms, figures, matched = self.set_losses(out, batch)
        wanted = _patches.pooled(self.student.detector, batch.views[0], batch.mask, batch.boxes, self.side)[self.level]
        queries = out["queries"][-1]
        counts = [len(boxes) for boxes in batch.boxes]
        rows, columns = matcher.flatten(matched[-1], queries.shape[1], counts, queries.device)
        predicted = self.student.projector(queries.flatten(0, 1)[rows])
        l1 = (at_least_float32(predicted) - wanted[columns]).abs().mean(-1).sum()
        return terms | {"embed": self.lambda_embed * l1 / max(batch.global_batch.boxes, 1)}, figures
