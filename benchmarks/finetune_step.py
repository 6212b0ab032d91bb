"""A whole step of a finetuning, and of the inference that scores it, against the same made of the public pieces.

    python -m benchmarks.finetune_step [--scale paper] [--batch 32] [--predict-batch 4] [--height 480 --width 640]
        [--objects 7] [--classes 80]

The detector of row proseco with class heads and random weights on images of noise: a training step from bytes on the
host to updated weights, and detections from bytes on the host to rows on the host. The peers are the same in float32
with the pieces that :mod:`benchmarks.pretrain_step` lists, as far as they are in it. Ours runs in float32 without TF32
or as ``--precision`` says, samples on a GPU as PROSECO_ATTENTION says and compiles its encoder where PROSECO_COMPILE is
1. Both run in turn in the same process, and parts of a training step are timed as there. The last line has the ratios
of images a second of both.
"""

from functools import partial

import numpy as np
import torch

from benchmarks import _steps
from proseco.base import cli, params, plugins
from proseco.base.errors import InputError, one_of
from proseco.data.batch import Batch
from proseco.evaluation import predict
from proseco.experiment import rows
from proseco.nn import backbone, set_loss
from proseco.training import devices
from proseco.training.schedules import Finetuning


def main(
    *,
    scale: str = "paper",
    device: str = "auto",
    precision: str = "auto",
    batch: int | None = None,
    predict_batch: int | None = None,
    height: int = 480,
    width: int = 640,
    objects: int = 7,
    classes: int = 80,
    steps: int = 12,
    ours_alone: bool = False,
) -> None:
    """Time a step of a finetuning and of inference, ours and the public pieces'."""
    settings = params.load()
    if scale not in settings["scales"]:
        raise one_of("scale", scale, settings["scales"], "params.yaml")
    row, section = rows.row(settings, scale, "proseco"), settings["scales"][scale]
    schedule = section["schedules"]["default"]
    batch = schedule["batch"] if batch is None else batch
    predict_batch = section["finetune"]["predict_batch"] if predict_batch is None else predict_batch
    counts = {"batch": batch, "predict-batch": predict_batch, "height": height, "width": width}
    for name, value in (counts | {"objects": objects, "classes": classes, "steps": steps}).items():
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    where = devices.pick_device(device, "--device")
    kind = devices.pick_precision(precision, where, "--precision")
    devices.prepare(where)
    trainer = build(row, schedule | {"batch": batch}, section["views"]["weak"], classes, where)
    frame = np.array([[width, height]])
    draw = partial(_steps.draw, device=where, boxes=objects, views=1, classes=classes)
    _steps.say_where(where)
    rate = _steps.matrix_rate(where, kind)
    print(f"{width} x {height}, median of {steps} steps; matrix product's rate: {rate / 1e12:.3f} TFLOP/s in {kind}")
    ratios = {}
    for work, count, form in (("train", batch, trainer.step), ("predict", predict_batch, partial(infer, trainer))):
        if work == "predict":
            trainer.method.student.eval().requires_grad_(False)
        forms = {"ours": partial(form, precision=kind)}
        if not ours_alone:
            forms["public"] = partial(public, partial(form, precision=torch.float32))
        batches = [draw(frame.repeat(count, 0))]
        of_each = dict.fromkeys(forms, batches)
        _steps.warm(forms, of_each)
        seconds, peaks = _steps.compare(forms, of_each, steps, where)
        print(f"{work}, batches of {count}")
        rates = _steps.report(seconds, peaks, of_each, _steps.arithmetic(forms["ours"], batches[0]), rate)
        if "public" in rates:
            ratios[work] = rates["ours"] / rates["public"]
        if work == "train":
            print(f"{'part of ours':14} {'share':>6}")
            for name, share in trainer.shares(batches * 3, kind, _places(trainer.method.student)).items():
                print(f"{name:14} {share:6.1%}")
    if ratios:
        print("finetune_step: speedup", " ".join(f"{work} {ratio:.2f}" for work, ratio in ratios.items()))


def _places(detector) -> list[tuple]:
    found = [(detector, "features", "backbone"), (set_loss, "set_loss", "losses")]
    return found + _steps.transformer_places(detector)


def build(row: rows.Row, schedule: dict, weak: dict, classes: int, device: torch.device) -> _steps.Trainer:
    """Finetuning's method over a detector with random weights."""
    torch.manual_seed(0)
    plan = Finetuning(**schedule | row.schedule)
    detector = plugins.call("detectors", row.detector, num_classes=classes, place="detector")
    backbone.freeze(detector, plan.frozen_stages)
    method = plugins.call("methods", {"name": "supervised"}, detector.to(device), weak=weak)
    return _steps.Trainer(method, plan, device)


def infer(trainer: _steps.Trainer, batch: Batch, *, precision: torch.dtype) -> np.ndarray:
    """Detections of a batch, as those of a data set are made."""
    numbers = list(range(len(batch)))
    return predict.detect(trainer.method.student, batch, numbers, device=trainer.device, precision=precision)


def public(step, batch: Batch) -> None:
    """A step with the public pieces in the place of ours."""
    with _steps.public_pieces():
        step(batch)


if __name__ == "__main__":
    cli.run(main)
