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
    jitter_probability: float = 0.8,
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2),
    grayscale_probability: float = 0.2,
    blur_probability: float = 0.5,
    blur_sigma: tuple[float, float] = (0.1, 2.0),
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
    """The defaults are those of the 800-epoch ResNet-50 of the paper's public code.

    :param network: a ResNet; its classifier is taken off.
    :param side: see :class:`MultiCrop` for this and the next four, :func:`proseco.data.augment.strong` for colours.
    :param hidden: width of the projection head's hidden layer, ``width`` of the embeddings.
    :param prototypes: how many; they keep still for ``frozen_steps``.
    :param epsilon: and ``iterations``: see :func:`sinkhorn`.
    :param queue: past embeddings of each large crop that codes are computed with beside the batch's, once there are so
        many and ``queue_from`` steps are done; for batches that are small beside the number of prototypes.
    :raises InputError: a 0 where one divides by it.
    """
    counts = {"side": side, "small_side": small_side, "hidden": hidden, "width": width, "prototypes": prototypes}
    for key, value in (counts | {"temperature": temperature, "epsilon": epsilon, "iterations": iterations}).items():
        if value <= 0:
            raise InputError(f"{key} of swav is {value}; it must be more than 0 (scales.<scale>.backbones)")
    photometric = {
        "jitter_probability": jitter_probability,
        "jitter": jitter,
        "grayscale_probability": grayscale_probability,
        "blur_probability": blur_probability,
        "blur_sigma": blur_sigma,
    }
    views = MultiCrop(side, area, small_side, small_area, small_crops, photometric)
    return SwAV(
        _Student(network, hidden, width, prototypes),
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

    The matrix exp(scores / epsilon) is scaled by turns so that its columns (prototypes) have equal sums and its rows
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
        channels, device = network.fc.in_features, network.fc.weight.device
        network.fc = nn.Identity()
        self.network = network
        layers = nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width)
        self.head = nn.Sequential(*layers).to(device)
        self.prototypes = nn.Linear(width, prototypes, bias=False, device=device)
        self.normalise_prototypes()

    def forward(self, crops: list[Tensor]) -> Tensor:
        """V x uint8 (B, 3, h, w) -> embeddings (V, B, D), of length 1, float32.

        Batch norm sees crops of one size together in the network, all of them together in the head.
        """
        features = []
        for _, alike in groupby(crops, key=lambda crop: crop.shape):
            images = torch.cat(list(alike))
            features.append(self.network(normalise(images, images.new_zeros(1, 1, 1, dtype=torch.bool))))
        z = self.head(torch.cat(features)).float()
        return F.normalize(z, dim=-1).unflatten(0, (len(crops), -1))

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=-1))


class _Memory(nn.Module):
    """What a training remembers beside its weights: the steps done, on the CPU, and past embeddings (n, 2, D)."""

    def __init__(self, size: int, width: int, device: torch.device):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("queue", torch.zeros(size, 2, width, device=device))


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
        weight = student.prototypes.weight
        self.memory = _Memory(queue, weight.shape[1], weight.device)
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
        self.newest = distributed.gather(z[:2].transpose(0, 1).contiguous(), batch.whole.shares)
        rows, steps, size = self.newest, int(self.memory.steps), len(self.memory.queue)
        if size and steps >= self.queue_from and steps * len(rows) >= size:
            rows = torch.cat([rows, self.memory.queue])
        scores = self.student.prototypes(rows).transpose(0, 1)
        codes = sinkhorn(scores, epsilon=self.epsilon, iterations=self.iterations)
        return codes[:, batch.whole.first : batch.whole.first + len(batch)]

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

    @torch.no_grad()
    def after_step(self) -> None:
        """Prototypes back to unit length; the batch's embeddings into the queue, in the place of the oldest."""
        self.student.normalise_prototypes()
        self.memory.steps += 1
        queue = self.memory.queue
        queue.copy_(torch.cat([self.newest, queue])[: len(queue)])

    def modules(self) -> dict[str, nn.Module]:
        return {"student": self.student, "memory": self.memory}
