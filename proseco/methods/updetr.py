"""UP-DETR (Dai et al. 2021) on Deformable DETR: find where patches, given to groups of the queries, were cut out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proseco.base.errors import InputError
from proseco.data.views import RandomPatches
from proseco.methods import _patches
from proseco.methods._one_network import OneNetwork
from proseco.nn import matcher
from proseco.nn.heads import MLP
from proseco.nn.tensors import at_least_float32
from proseco.training.schedules import Pixels


def build(
    detector,
    *,
    weak: dict,
    patches: int = 10,
    min_side: int = 8,
    side: int = 128,
    mask_ratio: float = 0.1,
    lambda_class: float = 2.0,
    lambda_coord: float = 5.0,
    lambda_giou: float = 2.0,
    lambda_feature: float = 1.0,
    micro_batch: int | Pixels | None = None,
) -> "UPDETR":
    """
    :param detector: without class head, its backbone pretrained.
    :param weak: the view, keywords of :func:`proseco.data.augment.weak_geometry`.
    :param patches: random boxes of an image, each given to an equal share of the queries.
    :param min_side: smallest side of a patch in pixels; ``side``: of the square that it is resized to.
    :param mask_ratio: share of the queries that are not told their patch.
    :param lambda_class, lambda_coord, lambda_giou: coefficients, in the matching and in the loss.
    :param lambda_feature: coefficient of the reconstruction.
    :param micro_batch: see :class:`proseco.training.schedules.Schedule`.
    :raises InputError: the queries cannot be shared out equally.
    """
    queries = detector.transformer.queries
    if patches < 1 or queries % patches:
        raise InputError(f"method.patches is {patches}; it must divide detector.queries, {queries} (params.yaml)")
    weights = {"class": lambda_class, "coord": lambda_coord, "giou": lambda_giou}
    views = RandomPatches(weak, patches, min_side)
    return UPDETR(detector, views, patches, side, mask_ratio, weights, lambda_feature, micro_batch)


def group_attention_mask(queries: int, patches: int, device: torch.device | None = None) -> Tensor:
    """(queries, queries) bool, True where a query may not attend to another: where their patches differ."""
    patch = torch.arange(queries, device=device) // (queries // patches)
    return patch[:, None] != patch


class UPDETR(OneNetwork):
    """One detector; every query knows one patch, and attends to no query of another patch."""

    def __init__(
        self, detector, transform, patches: int, side: int, mask_ratio: float, weights, lambda_feature, micro_batch
    ):
        width, channels = detector.transformer.level_embed.shape[1], detector.backbone[0].channels[-1]
        projector = nn.ModuleDict(
            {"patch": nn.Linear(channels, width), "feature": MLP(width, width, channels)},
        )
        super().__init__(detector, projector, transform, weights, micro_batch)
        self.patches, self.side, self.mask_ratio, self.lambda_feature = patches, side, mask_ratio, lambda_feature

    def predict(self, batch) -> dict:
        """The detector's results, and ``patches`` (B P, C): the features of the patches that the queries were given."""
        detector, view = self.student.detector, batch.views[0]
        queries = detector.transformer.queries
        patch_features = _patches.pooled(detector, view, batch.mask, batch.boxes, self.side)[-1]
        patch_queries = self.student.projector["patch"](patch_features).unflatten(0, (len(batch), self.patches))
        patch_queries = patch_queries.repeat_interleave(queries // self.patches, 1)
        if self.student.training:
            kept = torch.rand(*patch_queries.shape[:2], 1, device=view.device) >= self.mask_ratio
            patch_queries = patch_queries * kept
        attention_mask = group_attention_mask(queries, self.patches, view.device)
        out = super().predict(batch, extra_content=patch_queries, attention_mask=attention_mask)
        return out | {"patches": patch_features}

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Match or not, L1, GIoU, and the squared distance of the L2-normalised features, all of every layer."""
        out = self.predict(batch)
        terms, figures, matched = self.set_losses(out, batch)
        wanted = F.normalize(out["patches"], dim=-1)
        total = wanted.new_zeros(())
        for queries, pairs in zip(out["queries"], matched, strict=True):
            counts = [self.patches] * len(batch)
            rows, columns = matcher.flatten(pairs, queries.shape[1], counts, queries.device)
            predicted = at_least_float32(self.student.projector["feature"](queries.flatten(0, 1)[rows]))
            total = total + (F.normalize(predicted, dim=-1) - wanted[columns]).square().sum()
        return terms | {"feature": self.lambda_feature * total / batch.global_batch.boxes}, figures
