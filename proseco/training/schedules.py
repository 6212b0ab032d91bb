"""How long and how fast a training goes. No torch here: parameters are checked before anything heavy is imported."""

import math
from dataclasses import dataclass

from proseco.base.errors import InputError

#: Optimiser -> the keys of a schedule that only it and its like read; likewise of the ways in which the rate decays.
OPTIMIZERS = {"adamw": (), "sgd": ("momentum",), "lars": ("momentum", "trust")}
DECAYS = {"step": ("drop_at",), "cosine": ("final",)}


@dataclass
class Schedule:
    """How long and how fast. ``lr_backbone`` 0 keeps the backbone as it is.

    :param batch: images of a step over all processes.
    :param epochs: passes over the data; or ``steps`` instead, exactly one of them.
    :param optimizer: ``adamw``, ``sgd`` with momentum, or ``lars`` (:mod:`proseco.training.lars`).
    :param trust: LARS's trust coefficient.
    :param decay: ``step`` multiplies every learning rate by .1 once, ``cosine`` follows half a wave down to ``final``.
    :param drop_at: share of the training after which the step comes (Section 4.1).
    :param final: share of the learning rate at which the half wave ends.
    :param warmup: steps in which the learning rate rises, linearly, to its full height.
    :param linear_factor: of the learning rate of sampling offsets and reference points (Deformable DETR).
    :param clip: largest norm of the whole gradient; None: it may be any.
    :param micro_batch: images of which a process holds the activations at a time, where its share of a batch does not
        fit the device; the loss and its gradient stay those of the whole batch.
    """

    batch: int
    lr: float
    lr_backbone: float = 0.0
    epochs: float | None = None
    steps: int | None = None
    optimizer: str = "adamw"
    momentum: float = 0.9
    trust: float = 1e-3
    decay: str = "step"
    drop_at: float = 0.8
    final: float = 0.0
    warmup: int = 0
    weight_decay: float = 1e-4
    linear_factor: float = 0.1
    clip: float | None = 0.1
    log_every: int = 50
    micro_batch: int | None = None

    def count(self, images: int) -> int:
        """Number of steps on that many images: epochs times images over batch, to the nearest whole number.

        Nothing is dropped at the end of an epoch: :mod:`proseco.data.loader` fills its last batch up from the next.

        :raises InputError: neither or both of epochs and steps are given, or nothing is left to do.
        """
        if (self.epochs is None) == (self.steps is None):
            raise InputError(
                f"a schedule needs either epochs or steps; it has epochs={self.epochs} and steps={self.steps}"
            )
        if self.batch > images:
            raise InputError(f"a batch of {self.batch} is larger than the data, {images} images")
        steps = self.steps if self.steps is not None else round(self.epochs * images / self.batch)
        if steps < 1:
            raise InputError(f"a schedule of {steps} steps trains nothing")
        if self.warmup >= steps:
            raise InputError(f"a warm-up of {self.warmup} steps leaves nothing of a training of {steps}")
        return steps

    def factor(self, step: int, steps: int) -> float:
        """What every learning rate is multiplied by.

        It depends on the step alone and not on those before, so a training that is taken up needs no memory of it.

        :param step: from 0; ``steps`` of the whole training.
        """
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.decay == "step":
            return rise * (0.1 if step >= round(self.drop_at * steps) else 1.0)
        gone = max(0, step - self.warmup) / (steps - self.warmup)
        return rise * (self.final + (1 - self.final) * (1 + math.cos(math.pi * gone)) / 2)
