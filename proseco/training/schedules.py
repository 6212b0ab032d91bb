"""How long and how fast a training goes. No torch here: parameters are checked before anything heavy is imported."""

from dataclasses import dataclass

from proseco.base.errors import InputError


@dataclass
class Schedule:
    """How long and how fast. ``lr_backbone`` 0 keeps the backbone as it is.

    :param batch: images of a step over all processes.
    :param epochs: passes over the data; or ``steps`` instead, exactly one of them.
    :param drop_at: share of the training after which every learning rate is multiplied by .1 (Section 4.1).
    :param linear_factor: of the learning rate of sampling offsets and reference points (Deformable DETR).
    :param clip: largest norm of the whole gradient.
    :param micro_batch: images of which a process holds the activations at a time, where its share of a batch does not
        fit the device; the loss and its gradient stay those of the whole batch.
    """

    batch: int
    lr: float
    lr_backbone: float = 0.0
    epochs: float | None = None
    steps: int | None = None
    drop_at: float = 0.8
    weight_decay: float = 1e-4
    linear_factor: float = 0.1
    clip: float = 0.1
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
        return steps
