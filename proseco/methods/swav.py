"""Swapped prediction of cluster codes (SwAV; Caron et al., NeurIPS 2020): a backbone pretrained without labels."""

from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proseco.base.errors import InputError
from proseco.data.multicrop import MultiCrop
from proseco.nn.backbone import normalise
from proseco.training import distributed


def build(
    network,
    *,
    side: int = 224,
    area: tuple[float, float] = (0.14, 1.0),
    small_side: int = 96,
    small_area: tuple[float, float] = (0.05, 0.14),
    small_crops: int = 6,
    photometric: dict,
    hidden: int = 2048,
    width: int = 128,
    prototypes: int = 3000,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    frozen_steps: int = 313,
    queue: int = 0,
    queue_from: int = 0,
) -> "SwAV":
    """The defaults are those of the paper's ResNet-50 of 800 epochs, as its public code has them.

    :param network: classification ResNet (:class:`proseco.nn.backbone.ResNet`); its classifier is left alone.
    :param side, area, small_side, small_area, small_crops, photometric: of the views, see
        :class:`proseco.data.multicrop.MultiCrop`.
    :param hidden: width of the projection head's hidden layer, ``width`` of the embeddings.
    :param prototypes: their number; they are fixed for the first ``frozen_steps``.
    :param epsilon, iterations: see :func:`sinkhorn`.
    :param queue: how many past embeddings of each large crop join the batch's when codes are computed, once there are
        that many and ``queue_from`` steps are done; for batches that are small compared to the number of prototypes.
    :raises InputError: a size, number or divisor is not above 0.
    """
    counts = {"side": side, "small_side": small_side, "hidden": hidden, "width": width, "prototypes": prototypes}
    for key, value in (counts | {"temperature": temperature, "epsilon": epsilon, "iterations": iterations}).items():
        if value <= 0:
            raise InputError(f"{key} of swav is {value}; it must be more than 0 (scales.<scale>.backbones)")
    views = MultiCrop(side, area, small_side, small_area, small_crops, photometric)
    student = distributed.with_norm_over_all(_Student(network, hidden, width, prototypes))
    return SwAV(
        student,
        views,
        temperature=temperature,
        epsilon=epsilon,
        iterations=iterations,
        frozen_steps=frozen_steps,
        queue=queue,
        queue_from=queue_from,
    )


def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Codes (eq. 3-5): samples shared out among prototypes by score, each prototype getting about as many.

    The matrix exp(scores / epsilon) is scaled in turns so that its columns (prototypes) have equal sums and its rows
    (samples) sum to 1; the rows come last. In logarithms, so that no epsilon is too small.

    :param scores: (..., n, K), of n samples with K prototypes.
    :param epsilon: smoothness of the codes; they are one-hot in the limit of 0.
    :returns: (..., n, K).
    """
    log = scores / epsilon
    for _ in range(iterations):
        log = log - log.logsumexp(-2, keepdim=True)
        log = log - log.logsumexp(-1, keepdim=True)
    return log.exp()


def swapped(scores: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """Eq. 1-2 and 6: every crop predicts the code of each coded crop but its own. Mean over images and such pairs.

    :param scores: (V, B, K), of embeddings with prototypes; the coded crops come first.
    :param codes: (C, B, K), C at most V.
    """
    log = F.log_softmax(scores / temperature, -1)
    pairs = len(codes) * (len(scores) - 1)
    others = log.sum(0) - log[: len(codes)]
    return -(codes * others).sum((0, 2)).mean() / pairs


class _Student(nn.Module):
    """The network, a projection head and the prototypes, which are unit vectors like the embeddings."""

    def __init__(self, network, hidden: int, width: int, prototypes: int):
        super().__init__()
        network.fc.requires_grad_(False)
        self.network = network
        self.head = nn.Sequential(
            nn.Linear(network.channels[-1], hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, width),
        )
        self.prototypes = nn.Linear(width, prototypes, bias=False)
        self.normalise_prototypes()

    def forward(self, crops: list[Tensor]) -> Tensor:
        """V x uint8 (B, 3, h, w) -> embeddings (V, B, D), of length 1, float32.

        Batch norm sees crops of one size together in the network, all of them together in the head.
        """
        features = []
        for _, alike in groupby(crops, key=lambda crop: crop.shape):
            features.append(self.network.stages(normalise(torch.cat(list(alike))))[-1].mean((2, 3)))
        z = self.head(torch.cat(features)).float()
        return F.normalize(z, dim=-1).unflatten(0, (len(crops), -1))

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=-1))


class _Memory(nn.Module):
    """What a training remembers beside its weights: the steps done, and past embeddings (n, 2, D), the newest first."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.steps = 0
        self.register_buffer("queue", torch.zeros(size, 2, width))

    @torch.no_grad()
    def push(self, newest: Tensor) -> None:
        """Count a step; its embeddings take the place of the oldest."""
        self.steps += 1
        self.queue.copy_(torch.cat([newest, self.queue])[: len(self.queue)])

    def get_extra_state(self) -> Tensor:
        """The steps, which a state to go on from must hold."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """The counterpart of :meth:`get_extra_state`."""
        self.steps = int(state)


class SwAV:
    """Each crop of an image predicts the cluster that another one is assigned to."""

    def __init__(
        self,
        student: _Student,
        transform,
        *,
        temperature: float,
        epsilon: float,
        iterations: int,
        frozen_steps: int,
        queue: int,
        queue_from: int,
    ):
        self.student, self.transform = student, transform
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.frozen_steps, self.queue_from = frozen_steps, queue_from
        self.memory = _Memory(queue, student.prototypes.in_features)
        self.newest: Tensor | None = None  # embeddings (n, 2, D) of the step in progress, of all processes

    def parts(self, batch) -> list:
        """The batch as one: batch norm and the codes see all of it."""
        return [batch]

    def losses(self, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Embed, assign, predict. After the network in float32."""
        z = self.student([crops.images for crops in batch.crops])
        with torch.autocast(z.device.type, enabled=False):
            codes = self.assign(z, batch)
            return self.predict(z, codes, batch)

    @torch.no_grad()
    def assign(self, z: Tensor, batch) -> Tensor:
        """Codes (2, B, K) of the large crops, shared out over the images of all processes and the queue."""
        self.newest = distributed.gather(z[:2].transpose(0, 1).contiguous(), batch.global_batch.shares)
        rows, steps, queue = self.newest, self.memory.steps, self.memory.queue
        if steps >= self.queue_from and steps * len(rows) >= len(queue):  # else not yet full
            rows = torch.cat([rows, queue])
        scores = self.student.prototypes(rows).transpose(0, 1)
        codes = sinkhorn(scores, epsilon=self.epsilon, iterations=self.iterations)
        return codes[:, batch.global_batch.first : batch.global_batch.first + len(batch)]

    def predict(self, z: Tensor, codes: Tensor, batch) -> tuple[dict, dict]:
        """The swapped prediction, and to watch: for which share of the images the two large crops are assigned to one
        prototype, and the entropy of the codes in nats, which is log K at the start and 0 of a hard assignment.
        """
        weight = self.student.prototypes.weight
        if self.memory.steps < self.frozen_steps:
            weight = weight.detach()
        loss = swapped(F.linear(z, weight), codes, self.temperature)
        first, second = codes.argmax(-1)
        entropy = torch.special.entr(codes).sum(-1)
        figures = {"agreement": (first == second).float().mean(), "code_entropy": entropy.mean()}
        return {"swapped": loss * batch.share}, {key: value * batch.share for key, value in figures.items()}

    def after_step(self) -> None:
        """Prototypes back to unit length."""
        self.student.normalise_prototypes()
        self.memory.push(self.newest)

    def modules(self) -> dict[str, nn.Module]:
        return {"student": self.student, "memory": self.memory}
