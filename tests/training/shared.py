"""Trainings of the tiny detector that one process and several run alike; as a program, one process of several.

``python -m tests.training.shared FOLDER`` runs them all with RANK and WORLD_SIZE set, and the first process writes what
came out to ``FOLDER/two.pt``.
"""

import csv
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from proseco.data.loader import training_batches
from proseco.data.views import Example
from proseco.evaluation.predict import predict
from proseco.losses import locsce
from proseco.methods import proseco, supervised
from proseco.runs.finetuning import _Best
from proseco.training import distributed
from proseco.training.loop import fit
from proseco.training.schedules import Finetuning, Schedule
from proseco.training.snapshots import Snapshots
from tests import tiny

CPU = torch.device("cpu")
STEPS, BATCH, CLASSES = 10, 5, 5
LARS = {"optimizer": "lars", "lr": 2.0, "lr_backbone": 0.5, "decay": "cosine", "warmup": 2}


class Source:
    """Images of noise, each of its own size, with 0 to 3 boxes; every number is a function of the image's."""

    def __init__(self, count=9, boxes=(2, 0, 3, 1)):
        self.count, self.boxes = count, boxes
        self.records = [{"key": f"image{i}", "id": 7 * i + 3} for i in range(count)]

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        rng = np.random.default_rng(number)
        height, width = rng.integers(40, 97, 2)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        boxes = rng.uniform(0.2, 0.5, (self.boxes[number % len(self.boxes)], 4)).astype(np.float32)
        labels = rng.integers(0, CLASSES, len(boxes))
        return SimpleNamespace(key=f"image{number}", image=image, boxes=boxes, labels=labels)


def example(sample, rng=None, *, views=2):
    """Views that differ; the second one darker by a random amount."""
    other = sample.image // 2 if rng is None else sample.image // rng.integers(2, 4)
    both = [sample.image, other.astype(np.uint8)][:views]
    return Example(
        sample.key, both, sample.boxes, sample.labels, (2 * sample.image.shape[1], 3 * sample.image.shape[0])
    )


def pretraining(micro_batch=None, **changes):
    torch.manual_seed(1)
    model = tiny.detector(num_classes=None, **changes).train()
    loss = partial(locsce.loss, delta=0.3)
    options = {"weak": {}, "strong": {}, "ema_rate": 0.9, "projector": (20, 12), "contrast_aux": True}
    return proseco.build(model, loss=loss, micro_batch=micro_batch, **options)


def finetuning(micro_batch=None, **changes):
    return supervised.build(tiny.detector(**changes).train(), weak={}, micro_batch=micro_batch)


def train(
    method,
    log,
    *,
    source=None,
    steps=STEPS,
    batch=BATCH,
    precision=torch.float32,
    transform=example,
    device=CPU,
    changes=None,
    **options,
):
    """Train for a few steps on the processes' shares; the rows of the log, and all weights.

    :param changes: keys of the schedule.
    """
    source = source or Source()
    plan = {"lr": 1e-3, "lr_backbone": 1e-4, "clip": 1.0, "log_every": 1} | (changes or {})
    fit(
        method,
        partial(training_batches, source, transform),
        Schedule(batch=batch, steps=steps, **plan),
        steps=steps,
        steps_per_epoch=len(source) / batch,
        seed=4,
        device=device,
        precision=precision,
        log=log,
        title="test",
        **options,
    )
    return result(method, log)


def result(method, log):
    weights = {
        f"{name}.{key}": value
        for name, module in method.modules().items()
        for key, value in module.state_dict().items()
    }
    if not log.exists():  # not of the first process
        return {"weights": weights}
    with open(log, newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return {"rows": rows, "weights": weights}


def everything(folder):
    """Name -> what came out of it."""
    found = {
        "pretraining": train(pretraining(), folder / "pretraining.csv"),
        "finetuning": train(finetuning(), folder / "finetuning.csv"),
        "lars": train(finetuning(), folder / "lars.csv", changes=LARS, steps=5),
        "one box in all": train(finetuning(), folder / "one.csv", source=Source(boxes=(0, 0, 0, 0, 1)), steps=2),
        "no box": train(pretraining(), folder / "none.csv", source=Source(boxes=(0,)), steps=2),
    }
    found["stopping"] = stopping(folder)
    model = tiny.detector()
    find = {"view": example, "device": CPU, "precision": torch.float32}
    found["detections"] = torch.from_numpy(predict(model, Source(), batch=2, **find))
    found["failure"] = failure(folder)
    return found


def stopping(folder):
    """A finetuning that ends where AP has stopped rising. AP is scripted, and scored in the first process alone. Each
    validation has a state before it, which all processes wait for.
    """
    (folder / "states").mkdir(exist_ok=True)
    aps, steps = iter([2.0, 3.0, 1.0, 1.0]), 8
    plan = Finetuning(batch=BATCH, lr=1e-3, steps=steps, validations=4, patience=1)
    made = finetuning()
    course = partial(plan.course, steps=steps)

    def score(found):
        return {"AP": next(aps)}

    best = _Best(made.student, lambda: np.zeros((1, 7)), score, title="test", course=course)
    found = train(
        made,
        folder / "stopping.csv",
        steps=steps,
        at_step=dict.fromkeys((1, 2, 3, 4), best.validate),
        snapshots=Snapshots(folder / "states", 100),
        extra_state={"best": best},
        factor=lambda step: plan.factor(step, steps, drop=best.drop),
    )
    return found | {"history": best.history, "left": len(list(aps)), "drop": best.drop}


def failure(folder):
    """The message of a training in which a term of the first images' process is no number at the fourth step."""
    method = pretraining()
    losses, calls = method.losses, []

    def poisoned(batch):
        calls.append(batch)
        terms, figures = losses(batch)
        if len(calls) == 4 and batch.global_batch.first == 0:
            terms["coord"] = terms["coord"] * float("nan")
        return terms, figures

    method.losses = poisoned
    try:
        train(method, folder / "failure.csv")
    except FloatingPointError as error:
        return str(error)
    return None


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with distributed.joined(CPU):
        rank = distributed.rank()
        results = everything(out)
        names = ("pretraining", "finetuning", "lars")
        ranks = distributed.gather_values({name: results[name]["weights"] for name in names})
        failures = distributed.gather_values(results["failure"])
        histories = distributed.gather_values({key: results["stopping"][key] for key in ("history", "left", "drop")})
    if rank == 0:
        torch.save(results | {"ranks": ranks, "failures": failures, "histories": histories}, out / "two.pt")
