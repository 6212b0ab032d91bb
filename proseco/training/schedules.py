"""Length and learning rate of a training. No torch here: parameters are checked before anything heavy is imported."""

import math
from dataclasses import dataclass

from proseco.base.errors import InputError

#: Optimiser -> keys of a schedule that only it, and others that list them, read; likewise for the decay of the rate.
OPTIMIZERS = {"adamw": (), "sgd": ("momentum",), "lars": ("momentum", "trust")}
DECAYS = {"step": ("drop_at",), "cosine": ("final",)}


def override(schedule: dict, changes: dict) -> dict:
    """Keywords of a schedule with ``changes`` to them. If these name another optimiser or decay, the old one's go."""
    kinds = {"optimizer": OPTIMIZERS, "decay": DECAYS}
    old = {kind: schedule.get(kind, getattr(Schedule, kind)) for kind in kinds}
    replaced = [options for kind, options in kinds.items() if changes.get(kind, old[kind]) != old[kind]]
    dropped = {key for options in replaced for keys in options.values() for key in keys}
    return {key: value for key, value in schedule.items() if key not in dropped} | changes


@dataclass(frozen=True)
class Pixels:
    """A micro-batch given in pixels: as many images as fit into ``count`` pixels, at least one."""

    count: int

    def images(self, height: int, width: int) -> int:
        return max(1, self.count // max(1, height * width))


@dataclass
class Schedule:
    """Length and learning rate of a training. ``lr_backbone`` 0 keeps the backbone fixed.

    :param batch: images per step, over all processes.
    :param epochs: passes over the data; or ``steps`` instead, exactly one of them.
    :param optimizer: ``adamw``, ``sgd`` with momentum, or ``lars`` (:mod:`proseco.training.lars`).
    :param trust: LARS's trust coefficient.
    :param decay: ``step`` multiplies every learning rate by .1 once, ``cosine`` lowers it to ``final`` along a cosine.
    :param drop_at: share of the training after which the step comes (Section 4.1).
    :param final: share of the learning rate at which the cosine ends.
    :param warmup: number of first steps in which the learning rate rises linearly to its full value.
    :param linear_factor: factor of the learning rate of sampling offsets and reference points (Deformable DETR).
    :param clip: largest norm of the whole gradient; None: no limit.
    :param micro_batch: images whose activations a process holds at a time, if its share of a batch does not fit the
        device; the loss and its gradient stay those of the global batch. ``micro_pixels`` instead: pixels of their
        views, padding included, so that only batches of large views are split.
    :param group_steps: steps that pool and redistribute their images by view size, to reduce padding
        (:mod:`proseco.data.grouping`), within an epoch. 1: every batch is drawn by itself.
    :param pad_to: the sides of a batch's frame are multiples of this many pixels. cuDNN plans its convolutions anew, on
        the host, for each frame that it does not remember; with 32 there are an eighth as many.
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
    pad_to: int = 1

    def count(self, images: int) -> int:
        """Number of steps on that many images: epochs times images over batch, to the nearest whole number.

        Nothing is dropped at the end of an epoch: :mod:`proseco.data.loader` fills its last batch from the next.

        :raises InputError: neither or both of epochs and steps are given; the batch is larger than the data; no step is
            left, or none after the warm-up.
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
        """What methods take as ``micro_batch``: images, or their pixels, that a process holds at a time; None: all."""
        return self.micro_batch if self.micro_pixels is None else Pixels(self.micro_pixels)

    @property
    def frames(self) -> dict[str, int]:
        """What :func:`proseco.data.loader.training_batches` takes of a schedule."""
        return {"group": self.group_steps, "pad_to": self.pad_to}

    def drop(self, steps: int) -> int:
        """The step, from 0, at which the rate drops; ``steps``, past the last one, if it does not."""
        return round(self.drop_at * steps) if self.decay == "step" else steps

    def factor(self, step: int, steps: int, *, drop: int | None = None) -> float:
        """What every learning rate is multiplied by.

        It depends on the step alone, not on earlier ones, so a resumed training needs no state of it.

        :param step: from 0; ``steps`` of the whole training.
        :param drop: step at which the rate drops, if it is not that of ``drop_at``.
        """
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.decay == "step":
            return rise * (0.1 if step >= (self.drop(steps) if drop is None else drop) else 1.0)
        progress = max(0, step - self.warmup) / (steps - self.warmup)
        return rise * (self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2)


@dataclass
class Finetuning(Schedule):
    """A schedule on labelled images, with validations, that may end when AP has stopped rising.

    :param validate_every: epochs from one validation to the next; or ``validations``, their number, evenly spaced;
        exactly one of them. The last validation is at the end in any case.
    :param patience: validations in a row without a new best AP after which AP has stopped rising; None: it never has.
        Nor has an AP that is still 0.
    :param frozen_stages: number of the backbone's first stages that stay fixed (:func:`proseco.nn.backbone.freeze`).
    """

    validate_every: float | None = None
    validations: int | None = None
    patience: int | None = None
    frozen_stages: int = 0

    def moments(self, images: int) -> list[int]:
        """Numbers of steps after which to validate, ascending; the last one is that of all steps.

        :raises InputError: neither or both of validate_every and validations are given; see also :meth:`count`.
        """
        steps = self.count(images)
        if (self.validate_every is None) == (self.validations is None):
            both = f"validate_every={self.validate_every} and validations={self.validations}"
            raise InputError(f"a finetuning needs either validate_every or validations; it has {both}")
        interval = steps / self.validations if self.validations else self.validate_every * images / self.batch
        interval = max(interval, 1.0)
        return sorted({min(round(interval * i), steps) for i in range(1, int(steps / interval) + 1)} | {steps})

    def course(self, validated: list[tuple[int, float]], steps: int) -> tuple[int, bool]:
        """How the training goes on after these validations.

        The rate's drop brings a gain of its own: if AP stops rising before it, the drop comes at once and patience
        begins anew; if AP stops rising after it, or there is no drop, the training ends.

        :param validated: (number of steps, AP after them) of each validation so far.
        :param steps: of the whole training, at most.
        :returns: the step, from 0, at which the rate drops, and whether the training ends.
        """
        drop, best, since, ended = self.drop(steps), -1.0, 0, False
        for step, ap in validated:
            if ap > best or best == 0:  # a detector that has found nothing yet has not stopped getting better
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
