"""A finetuning from labels to AP: what stage ``finetune`` runs (Section 4.1, finetuning protocols)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from proseco import pictures
from proseco.base import environment, files, plugins
from proseco.base.randomness import seed as derive_seed
from proseco.data.loader import training_batches
from proseco.data.sources import AnnotatedImages
from proseco.data.views import FixedView
from proseco.evaluation import coco_ap, voc_ap
from proseco.evaluation.predict import predict
from proseco.nn import backbone
from proseco.training import devices, distributed
from proseco.training.loop import fit
from proseco.training.schedules import Finetuning
from proseco.training.snapshots import Snapshots
from proseco.weights import checkpoint
from proseco.weights.start import BODY

SCORINGS = {"coco": coco_ap, "voc": voc_ap}


def run(
    *,
    names: dict,
    detector: dict,
    views: dict,
    schedule: dict,
    annotations: dict[str, dict],
    digest: str,
    root: Path,
    start: Path,
    out: Path,
    results: Path,
    scratch: Path,
    device: str,
    precision: str,
    init_from: str,
    predict_batch: int,
    scoring: str = "coco",
) -> None:
    """Train on ``annotations["train"]``, choose by AP on ``["val"]``, report AP on ``["test"]``.

    Of several processes the first scores and writes.

    :param names: method, benchmark and seed, for messages and ``metrics.json``.
    :param detector: entry of the detector; its class head is built for the data set.
    :param schedule: keywords of :class:`proseco.training.schedules.Finetuning`.
    :param digest: of the annotations' files, for ``run.json``.
    :param start: checkpoint of stage ``pretrain``; what it does not hold is drawn from the seed.
    :param init_from: its network, ``student`` or ``teacher``.
    :param scoring: whose rule all APs follow, a key of SCORINGS.
    :param out: file for the best weights; ``results`` a folder for metrics.json, per_class.csv, log.csv, speed.csv,
        predict.csv, detections.png and run.json; ``scratch`` a folder for states to go on from.
    """
    where = devices.pick_device(device)
    kind = devices.pick_precision(precision, where)
    devices.prepare(where)
    with distributed.joined(where):
        plan = Finetuning(**schedule)
        sources = {part: AnnotatedImages(content, root) for part, content in annotations.items()}
        steps = plan.count(len(sources["train"]))
        seed = derive_seed(names["seed"], "finetune")  # equal for all methods of a cell: the same batches and views
        torch.manual_seed(seed)
        classes = annotations["train"]["categories"]
        model = plugins.call("detectors", detector, num_classes=len(classes), place="detector")
        load_start(model, start, init_from)
        backbone.freeze(model, plan.frozen_stages)
        if model.learns_masks:
            sources["train"] = AnnotatedImages(annotations["train"], root, outlines=True)
        given = {"weak": views["weak"], "micro_batch": plan.at_a_time}
        method = plugins.call("methods", {"name": "supervised"}, model.to(where), **given)
        title = "-".join(str(value) for value in names.values())
        view = FixedView(**views["predict"])
        log = results / "predict.csv"
        find = partial(predict, model, view=view, batch=predict_batch, device=where, precision=kind, log=log)
        validate = partial(find, sources["val"], title=f"validate {title}")
        score = SCORINGS[scoring].score
        course = partial(plan.course, steps=steps)
        best = _Best(model, validate, partial(score, annotations["val"]), title=title, course=course)
        ran = fit(
            method,
            partial(training_batches, sources["train"], method.transform, group=plan.group_steps),
            plan,
            steps=steps,
            steps_per_epoch=len(sources["train"]) / plan.batch,
            seed=seed,
            device=where,
            precision=kind,
            log=results / "log.csv",
            title=title,
            factor=lambda step: plan.factor(step, steps, drop=best.drop),
            at_step=dict.fromkeys(plan.moments(len(sources["train"])), best.validate),
            snapshots=Snapshots(scratch, environment.checkpoint_every()),
            watching={"best": best},
        )
        model.load_state_dict(best.weights)
        if annotations["test"] == annotations["val"]:  # as the paper has it
            detections = best.detections
        else:
            detections = find(sources["test"], title="test")
        if distributed.rank() > 0:
            return
    scores = score(annotations["test"], detections)
    picture(sources["test"], detections, results / "detections.png")
    made = {**names, "classes": [c["name"] for c in classes], "detector": detector}
    made["category_ids"] = [c["original_id"] for c in classes]
    made["predict"] = {**views["predict"], "batch": predict_batch}
    checkpoint.save(out, {"detector": best.weights}, made)
    counts = {"labels": len(sources["train"]), "test_images": len(sources["test"]), "steps": ran, "scoring": scoring}
    chosen = {"best_step": best.step, "validation": best.history, "dropped_at": best.drop if best.drop < ran else None}
    why = f"no AP above that of step {best.step} in {plan.patience} validations" if ran < steps else None
    files.write_json(results / "metrics.json", {**names, **scores, **counts, **chosen, "stopped_early": why})
    coco_ap.write_per_class(results / "per_class.csv", scores["per_class"])
    facts = {"schedule": schedule, "detector": detector, "init_from": init_from, "start": files.digest(start)}
    facts |= {"annotations": digest, "views": views, "predict_batch": predict_batch, "scoring": scoring}
    facts |= devices.facts(where, kind)
    files.write_json(results / "run.json", files.provenance(**names, **facts))
    print(f"{title}: AP {scores['AP']:.1f}, AP50 {scores['AP50']:.1f}, AP75 {scores['AP75']:.1f}")


def load_start(model: torch.nn.Module, start: Path, network: str) -> None:
    """Put pretrained weights into a detector. Its ``heads`` are always new; so is all that a bare backbone lacks.

    :raises InputError: the checkpoint is of another detector; it names the keys.
    """
    state = checkpoint.load(start, network)
    if all(key.startswith(BODY) for key in state):
        checkpoint.load_body(model, {key.removeprefix(BODY): state[key] for key in state}, source=str(start))
    else:
        checkpoint.load_into(model, state, source=str(start), new=model.heads, unused=("projector.", *model.heads))


class _Best:
    """Validates, keeps a copy of the weights with the highest AP so far (of equals, the first; where no image to
    validate on shows an object, the last), and ends the training where its schedule says so."""

    def __init__(self, model, find: Callable[[], np.ndarray], evaluate: Callable, *, title: str, course: Callable):
        """
        :param find: the model's detections on the images to validate on; ``evaluate`` makes their figures of these.
        :param title: begins the line that each validation prints.
        :param course: (step, AP) of the validations so far -> (step of the rate's drop, whether the training ends), as
            :meth:`proseco.training.schedules.Finetuning.course`.
        """
        self.model, self.find, self.evaluate, self.title, self.course = model, find, evaluate, title, course
        self.score, self.step, self.history = -1.0, 0, []
        self.weights: dict = {}
        self.detections = np.zeros((0, 7))
        self.drop, self.ended = self._course()

    def validate(self, step: int) -> bool:
        """After so many steps; whether the training ends."""
        detections = self.find()
        ap = distributed.first(self.evaluate(detections)["AP"] if distributed.rank() == 0 else None)
        self.history.append({"step": step, "AP": ap})
        if ap is None or ap > self.score:
            self.score, self.step, self.detections = ap or 0.0, step, detections
            self.weights = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        before = self.drop
        self.drop, self.ended = self._course()
        if distributed.rank() == 0:
            said = f"best {self.score:.2f} at step {self.step:,}" if self.step < step else "the best so far"
            said += "; the learning rate drops" if self.drop < before else ""
            said += "; AP has stopped rising" if self.ended else ""
            figure = "without an object to score, the last weights are kept" if ap is None else f"AP {ap:.2f}, {said}"
            tqdm.write(f"{self.title}: step {step:,}: validation {figure}")
        return self.ended

    def _course(self) -> tuple[int, bool]:
        return self.course([(validation["step"], validation["AP"] or 0.0) for validation in self.history])

    def state_dict(self) -> dict:
        chosen = {"score": self.score, "step": self.step, "history": list(self.history)}
        return chosen | {"weights": self.weights, "detections": torch.from_numpy(self.detections)}

    def load_state_dict(self, state: dict) -> None:
        self.score, self.step, self.history = state["score"], state["step"], state["history"]
        self.weights, self.detections = state["weights"], state["detections"].numpy()
        self.drop, self.ended = self._course()


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
