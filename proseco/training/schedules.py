"""How long and how fast a training goes. No torch here: parameters are checked before anything heavy is imported."""

import math
from dataclasses import dataclass

from proseco.base.errors import InputError

#: Optimiser -> the keys of a schedule that only it and its like read; likewise of the ways in which the rate decays.
OPTIMIZERS = {"adamw": (), "sgd": ("momentum",), "lars": ("momentum", "trust")}
DECAYS = {"step": ("drop_at",), "cosine": ("final",)}


def changed(schedule: dict, by: dict) -> dict:
    """Keywords of a schedule with others laid over them: with another optimiser or decay, keys of the former's go."""
    kinds = {"optimizer": OPTIMIZERS, "decay": DECAYS}
    former = {kind: schedule.get(kind, getattr(Schedule, kind)) for kind in kinds}
    others = [known for kind, known in kinds.items() if by.get(kind, former[kind]) != former[kind]]
    gone = {key for known in others for keys in known.values() for key in keys}
    return {key: value for key, value in schedule.items() if key not in gone} | by


@dataclass(frozen=True)
class Pixels:
    """As many images as have so many pixels, and at least one."""

    count: int

    def images(self, height: int, width: int) -> int:
        return max(1, self.count // max(1, height * width))


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
        fit the device; the loss and its gradient stay those of the whole batch. ``micro_pixels`` instead: pixels of
        their views, padding included, so that only batches of large views are divided.
    :param group_steps: steps that deal their images out among each other by the size of their views, so that less of a
        batch is padding (:mod:`proseco.data.grouping`); all of one epoch. 1: every batch is drawn by itself.
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
    micro_pixels: int | None = None
    group_steps: int = 1

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
            raise InputError(f"a batch of {self.batch} is larger than the data, {images} images (schedule.batch)")
        steps = self.steps if self.steps is not None else round(self.epochs * images / self.batch)
        if steps < 1:
            raise InputError(f"a schedule of {steps} steps trains nothing")
        if self.warmup >= steps:
            raise InputError(f"a warm-up of {self.warmup} steps leaves nothing of a training of {steps}")
        return steps

    @property
    def at_a_time(self) -> int | Pixels | None:
        """What methods take as ``micro_batch``: images, or pixels of images, that a process holds at a time."""
        return self.micro_batch if self.micro_pixels is None else Pixels(self.micro_pixels)

    def drop(self, steps: int) -> int:
        """The step, from 0, at which the rate drops; ``steps``, after the last one, where it does not."""
        return round(self.drop_at * steps) if self.decay == "step" else steps

    def factor(self, step: int, steps: int, *, drop: int | None = None) -> float:
        """What every learning rate is multiplied by.

        It depends on the step alone and not on those before, so a training that is taken up needs no memory of it.

        :param step: from 0; ``steps`` of the whole training.
        :param drop: step at which the rate drops, where it is not that of ``drop_at``.
        """
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.decay == "step":
            return rise * (0.1 if step >= (self.drop(steps) if drop is None else drop) else 1.0)
        gone = max(0, step - self.warmup) / (steps - self.warmup)
        return rise * (self.final + (1 - self.final) * (1 + math.cos(math.pi * gone)) / 2)


@dataclass
class Finetuning(Schedule):
    """A schedule on labelled images, validated on its way, that may end where AP has stopped rising.

    :param validate_every: epochs from one validation to the next; or ``validations``, evenly spaced, exactly one of
        them. The last one comes at the end in any case.
    :param patience: validations in a row without a new best AP after which AP has stopped rising; None: it never has.
        Nor has one that is still 0.
    :param frozen_stages: how many of the backbone's first stages stay as they are (:func:`proseco.nn.backbone.freeze`).
    """

    validate_every: float | None = None
    validations: int | None = None
    patience: int | None = None
    frozen_stages: int = 0

    def moments(self, images: int) -> list[int]:
        """Numbers of steps after which to validate, ascending, the last one the number of all.

        :raises InputError: neither or both of validate_every and validations are given; see also :meth:`count`.
        """
        steps = self.count(images)
        if (self.validate_every is None) == (self.validations is None):
            given = f"validate_every={self.validate_every} and validations={self.validations}"
            raise InputError(f"a finetuning needs either validate_every or validations; it has {given}")
        every = steps / self.validations if self.validations else self.validate_every * images / self.batch
        every = max(every, 1.0)
        return sorted({min(round(every * i), steps) for i in range(1, int(steps / every) + 1)} | {steps})

    def course(self, validated: list[tuple[int, float]], steps: int) -> tuple[int, bool]:
        """What the validations so far make of the training.

        The rate's drop brings a gain of its own, so where AP has stopped rising before it, the drop comes at once, and
        patience begins anew; where AP has stopped rising after it, or there is none, the training ends.

        :param validated: numbers of steps, and the AP after them.
        :param steps: of the whole training, at most.
        :returns: the step, from 0, at which the rate drops, and whether the training ends.
        """
        drop, best, since, ended = self.drop(steps), -1.0, 0, False
        for step, ap in validated:
            if ap > best or best == 0:  # what has found nothing yet has not stopped getting better
                best, since = ap, step
            if step > drop:
                since = max(since, drop)
            waited = sum(since < other <= step for other, _ in validated)
            if self.patience is not None and waited >= self.patience:
                if step <= drop < steps:
                    drop = since = step
                else:
                    ended = True
        return drop, ended
