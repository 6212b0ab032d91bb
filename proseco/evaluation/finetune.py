"""A finetuning from labels to AP: what stage ``finetune`` runs (Section 4.1, finetuning protocols)."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from proseco import pictures
from proseco.base import files, plugins
from proseco.base.randomness import seed as derive_seed
from proseco.data.loader import training_batches
from proseco.data.sources import AnnotatedImages
from proseco.data.views import FixedView
from proseco.evaluation import coco_ap
from proseco.evaluation.predict import predict
from proseco.training.loop import fit, pick_device
from proseco.training.schedules import Schedule
from proseco.weights import checkpoint


def run(
    *,
    names: dict,
    detector: dict,
    views: dict,
    schedule: dict,
    annotations: dict[str, dict],
    root: Path,
    start: Path,
    out: Path,
    results: Path,
    device: str,
    init_from: str,
    validations: int,
    predict_batch: int,
) -> None:
    """Train on ``annotations["train"]``, choose by AP on ``["val"]``, report AP on ``["test"]``.

    :param names: method, benchmark and seed, for messages and ``metrics.json``.
    :param detector: entry of the detector; its class head is built for the data set.
    :param start: checkpoint of stage ``pretrain``; what it does not hold is drawn from the seed.
    :param init_from: its network, ``student`` or ``teacher``.
    :param validations: how often to validate, evenly spaced, the last time at the end.
    :param out: file for the best weights; ``results`` a folder for metrics.json, log.csv, detections.png, run.json.
    """
    where = pick_device(device)
    plan = Schedule(**schedule)
    sources = {part: AnnotatedImages(content, root) for part, content in annotations.items()}
    steps = plan.count(len(sources["train"]))
    seed = derive_seed(names["seed"], "finetune")  # equal for all methods of a cell: the same batches, the same views
    torch.manual_seed(seed)
    classes = annotations["train"]["categories"]
    model = plugins.call("detectors", detector, num_classes=len(classes), place="detector")
    load_start(model, start, init_from)
    method = plugins.call("methods", {"name": "supervised"}, model.to(where), weak=views["weak"])
    title = "-".join(str(value) for value in names.values())
    best = _Best(model, sources["val"], FixedView(**views["predict"]), predict_batch, where, title)
    summary = fit(
        method,
        training_batches(sources["train"], method.transform, batch=plan.batch, steps=steps, seed=seed, device=where),
        plan,
        steps=steps,
        steps_per_epoch=len(sources["train"]) / plan.batch,
        seed=seed,
        device=where,
        log=results / "log.csv",
        title=title,
        at_step={round(steps * (i + 1) / validations): best.validate for i in range(validations)},
    )
    model.load_state_dict(best.weights)
    if annotations["test"] == annotations["val"]:  # as the paper has it
        detections = best.detections
    else:
        detections = predict(model, sources["test"], best.view, batch=predict_batch, device=where, title="test")
    scores = coco_ap.score(annotations["test"], detections)
    picture(sources["test"], detections, results / "detections.png")
    made = {**names, "classes": [c["name"] for c in classes], "detector": detector}
    checkpoint.save(out, {"detector": best.weights}, made)
    counts = {"labels": len(sources["train"]), "test_images": len(sources["test"])}
    chosen = {"best_step": best.step, "validation": best.history}
    files.write_json(results / "metrics.json", {**names, **scores, **counts, **chosen, **summary})
    facts = {"schedule": schedule, "detector": detector, "init_from": init_from, "start": files.digest(start)}
    files.write_json(results / "run.json", files.provenance(**names, **facts, device=str(where)))
    print(f"{title}: AP {scores['AP']:.1f}, AP50 {scores['AP50']:.1f}, AP75 {scores['AP75']:.1f}")


def load_start(model: torch.nn.Module, start: Path, network: str) -> None:
    """Put pretrained weights into a detector. The class head is always new; so is all that a bare backbone lacks.

    :raises InputError: the checkpoint is of another detector; it names the keys.
    """
    state = checkpoint.load(start, network)
    new = checkpoint.CLASS_HEAD
    if all(key.startswith("backbone.") for key in state):
        new += tuple(name for name, _ in model.named_children() if name != "backbone")
    checkpoint.load_into(model, state, source=str(start), new=new, unused=("projector.", *checkpoint.CLASS_HEAD))


class _Best:
    """Validates, and keeps a copy of the weights with the highest AP so far; of equals, the first."""

    def __init__(self, model, source: AnnotatedImages, view: FixedView, batch: int, device: torch.device, title: str):
        self.model, self.source, self.view, self.batch, self.device = model, source, view, batch, device
        self.title, self.score, self.step, self.history = title, -1.0, 0, []
        self.weights: dict = {}
        self.detections = np.zeros((0, 7))

    def validate(self, step: int) -> None:
        title = f"validate {self.title}"
        detections = predict(self.model, self.source, self.view, batch=self.batch, device=self.device, title=title)
        ap = coco_ap.score(self.source.annotations, detections)["AP"] or 0.0
        self.history.append({"step": step, "AP": ap})
        if ap > self.score:
            self.score, self.step, self.detections = ap, step, detections
            self.weights = {key: value.detach().clone() for key, value in self.model.state_dict().items()}


def picture(
    source: AnnotatedImages, detections: np.ndarray, path: Path, *, images: int = 5, least: float = 0.3
) -> None:
    """Detections of score ``least`` or more beside ground truth, a column an image."""
    categories = [category["name"] for category in source.annotations["categories"]]
    with_objects = [i for i, record in enumerate(source.records) if len(source.rows[record["id"]])]
    chosen = with_objects[:: max(1, len(with_objects) // images)][:images]
    rows: list[list] = [[], []]
    draw = partial(pictures.draw_boxes, at_most=pictures.cell_side(images))
    for number in chosen:
        sample, record = source[number], source.records[number]
        truth = [categories[label] for label in sample.labels]
        rows[0].append(draw(sample.image, sample.boxes_xyxy, color=pictures.TRUTH, labels=truth))
        mine = detections[(detections[:, 0] == record["id"]) & (detections[:, 5] >= least)]
        corners = np.concatenate([mine[:, 1:3], mine[:, 1:3] + mine[:, 3:5]], 1)
        found = [categories[int(label)] for label in mine[:, 6]]
        scores = mine[:, 5].tolist()
        rows[1].append(draw(sample.image, corners, color=pictures.DETECTION, labels=found, scores=scores))
    pictures.contact_sheet(rows, path, (), ("ground truth", f"score >= {least:g}"))
