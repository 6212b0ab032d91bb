"""A finetuning, from labels to AP: what stage ``finetune`` runs (Section 4.1, finetuning protocols)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from proseco import pictures
from proseco.base import environment, files, plugins, provenance
from proseco.base.randomness import seed as derive_seed
from proseco.data.loader import training_batches
from proseco.data.sources import AnnotatedImages
from proseco.data.views import FixedView
from proseco.data.workers import explained_ends
from proseco.evaluation import coco_ap, voc_ap
from proseco.evaluation.predict import corners, predict
from proseco.nn import backbone
from proseco.training import devices, distributed
from proseco.training.loop import fit
from proseco.training.schedules import Finetuning
from proseco.training.snapshots import Snapshots
from proseco.weights import checkpoint
from proseco.weights.start import BODY

SCORINGS = {"coco": coco_ap, "voc": voc_ap}


@explained_ends()
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
    :param start: checkpoint of stage ``pretrain``; what it does not hold is initialised from the seed.
    :param init_from: its network, ``student`` or ``teacher``.
    :param scoring: the rule that all APs follow, a key of SCORINGS.
    :param out: file for the best weights; ``results`` a folder for metrics.json, per_class.csv, log.csv, speed.csv,
        predict.csv, detections.png and run.json; ``scratch`` a folder for states to resume from.
    """
    torch_device = devices.pick_device(device)
    dtype = devices.pick_precision(precision, torch_device)
    devices.prepare(torch_device)
    title = "-".join(str(value) for value in names.values())
    with distributed.joined(torch_device):
        finetuning = Finetuning(**schedule)
        sources = {part: AnnotatedImages(content, root) for part, content in annotations.items()}
        steps = finetuning.count(len(sources["train"]))
        seed = derive_seed(names["seed"], "finetune")  # equal for all methods of a cell: the same batches and views
        torch.manual_seed(seed)
        started_from = files.digest(start)
        model = _build(detector, annotations["train"], start, init_from, finetuning.frozen_stages).to(torch_device)
        if model.learns_masks:
            sources["train"] = AnnotatedImages(annotations["train"], root, outlines=True)
        options = {"weak": views["weak"], "micro_batch": devices.at_a_time(finetuning)}
        method = plugins.call("methods", {"name": "supervised"}, model, **options)
        predict_on = partial(
            predict,
            model,
            view=FixedView(**views["predict"]),
            batch=predict_batch,
            device=torch_device,
            precision=dtype,
            log=results / "predict.csv",
        )
        score = SCORINGS[scoring].score
        best = _Best(
            model,
            partial(predict_on, sources["val"], title=f"validate {title}"),
            partial(score, annotations["val"]),
            title=title,
            course=partial(finetuning.course, steps=steps),
        )
        done = fit(
            method,
            partial(training_batches, sources["train"], method.transform, **finetuning.frames),
            finetuning,
            steps=steps,
            steps_per_epoch=len(sources["train"]) / finetuning.batch,
            seed=seed,
            device=torch_device,
            precision=dtype,
            log=results / "log.csv",
            title=title,
            factor=lambda step: finetuning.factor(step, steps, drop=best.drop),
            at_step=dict.fromkeys(finetuning.moments(len(sources["train"])), best.validate),
            snapshots=Snapshots(scratch, environment.checkpoint_every()),
            extra_state={"best": best},
        )
        model.load_state_dict(best.weights)
        validated_on_test = annotations["test"] == annotations["val"]  # as the paper has it
        detections = best.detections if validated_on_test else predict_on(sources["test"], title="test")
        if distributed.rank() > 0:
            return
    scores = score(annotations["test"], detections)
    picture(sources["test"], detections, results / "detections.png")
    seen = {**views["predict"], "batch": predict_batch}
    _save(out, best.weights, annotations["train"]["categories"], {**names, "detector": detector, "predict": seen})
    counts = {"labels": len(sources["train"]), "validation_images": len(sources["val"])}
    counts |= {"test_images": len(sources["test"]), "steps": done, "scoring": scoring}
    why = f"no AP above that of step {best.step} in {finetuning.patience} validations" if done < steps else None
    chosen = best.summary(done) | {"validated_on_test": validated_on_test, "stopped_early": why}
    files.write_json(results / "metrics.json", {**names, **scores, **counts, **chosen})
    coco_ap.write_per_class(results / "per_class.csv", scores["per_class"])
    facts = {"schedule": schedule, "detector": detector, "init_from": init_from, "start": started_from}
    facts |= {"annotations": digest, "views": views, "predict_batch": predict_batch, "scoring": scoring}
    facts |= devices.facts(torch_device, dtype)
    files.write_json(results / "run.json", provenance.record(**names, **facts))
    print(f"{title}: AP {scores['AP']:.1f}, AP50 {scores['AP50']:.1f}, AP75 {scores['AP75']:.1f}")


def _build(detector: dict, annotations: dict, start: Path, network: str, frozen_stages: int) -> torch.nn.Module:
    """The detector for the classes of these labels, with pretrained weights and its first stages frozen."""
    model = plugins.call("detectors", detector, num_classes=len(annotations["categories"]), place="detector")
    load_start(model, start, network)
    backbone.freeze(model, frozen_stages)
    return model


def _save(path: Path, weights: dict, categories: list[dict], facts: dict) -> None:
    """Write the detector with the names and the data set's numbers of its classes."""
    classes = {"classes": [c["name"] for c in categories], "category_ids": [c["original_id"] for c in categories]}
    checkpoint.save(path, {"detector": weights}, facts | classes)


def load_start(model: torch.nn.Module, start: Path, network: str) -> None:
    """Load pretrained weights into a detector. What its ``head_prefixes`` name is always new; so is all that a bare
    backbone lacks.

    :raises InputError: the checkpoint is of another detector; it names the keys.
    """
    state = checkpoint.load(start, network)
    if all(key.startswith(BODY) for key in state):
        checkpoint.load_body(model, {key.removeprefix(BODY): state[key] for key in state}, source=str(start))
    else:
        checkpoint.load_into(
            model, state, source=str(start), new=model.head_prefixes, unused=("projector.", *model.head_prefixes)
        )


class _Best:
    """Validates, keeps a copy of the weights with the highest AP so far (of equals, the first; where no validation
    image shows an object, the last), and ends the training when its schedule says so.
    """

    def __init__(
        self, model, predict: Callable[[], np.ndarray], evaluate: Callable[..., dict], *, title: str, course: Callable
    ):
        """
        :param predict: returns the model's detections on the validation images; ``evaluate``: detections -> figures.
        :param title: begins the line that each validation prints.
        :param course: (step, AP) of the validations so far -> (step of the rate's drop, whether the training ends), as
            :meth:`proseco.training.schedules.Finetuning.course`.
        """
        self.model, self.predict, self.evaluate, self.title, self.course = model, predict, evaluate, title, course
        self.score, self.step, self.history = -1.0, 0, []
        self.weights: dict = {}
        self.detections = np.zeros((0, 7))
        self.drop, self.ended = self._course()

    def validate(self, step: int) -> bool:
        """Score the weights after that many steps; returns whether the training ends."""
        detections = self.predict()
        ap = distributed.from_first_process(self.evaluate(detections)["AP"] if distributed.rank() == 0 else None)
        self.history.append({"step": step, "AP": ap})
        if ap is None or ap > self.score:
            self.score, self.step, self.detections = ap or 0.0, step, detections
            self.weights = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        before = self.drop
        self.drop, self.ended = self._course()
        if distributed.rank() == 0:
            note = f"best {self.score:.2f} at step {self.step:,}" if self.step < step else "the best so far"
            note += "; the learning rate drops" if self.drop < before else ""
            note += "; AP has stopped rising" if self.ended else ""
            figure = "without an object to score, the last weights are kept" if ap is None else f"AP {ap:.2f}, {note}"
            tqdm.write(f"{self.title}: step {step:,}: validation {figure}")
        return self.ended

    def summary(self, steps: int) -> dict:
        """For ``metrics.json``, of a training that had that many steps."""
        dropped_at = self.drop if self.drop < steps else None
        return {"best_step": self.step, "validation": self.history, "dropped_at": dropped_at}

    def _course(self) -> tuple[int, bool]:
        return self.course([(validation["step"], validation["AP"] or 0.0) for validation in self.history])

    def state_dict(self) -> dict:
        figures = {"score": self.score, "step": self.step, "history": list(self.history)}
        return figures | {"weights": self.weights, "detections": torch.from_numpy(self.detections)}

    def load_state_dict(self, state: dict) -> None:
        self.score, self.step, self.history = state["score"], state["step"], state["history"]
        self.weights, self.detections = state["weights"], state["detections"].numpy()
        self.drop, self.ended = self._course()


def picture(
    source: AnnotatedImages, detections: np.ndarray, path: Path, *, images: int = 5, least: float = 0.3
) -> None:
    """Detections of score ``least`` or more below ground truth, one column per image."""
    categories = [category["name"] for category in source.annotations["categories"]]
    with_objects = [i for i, record in enumerate(source.records) if len(source.rows[record["id"]])]
    chosen = with_objects[:: max(1, len(with_objects) // images)][:images]
    rows: list[list] = [[], []]
    draw = partial(pictures.draw_boxes, at_most=pictures.cell_side(images))
    for number in chosen:
        sample, record = source[number], source.records[number]
        truth = [categories[label] for label in sample.labels]
        rows[0].append(draw(sample.image, sample.boxes_xyxy, color=pictures.TRUTH, labels=truth))
        shown = detections[(detections[:, 0] == record["id"]) & (detections[:, 5] >= least)]
        words = {"labels": [categories[int(label)] for label in shown[:, 6]], "scores": shown[:, 5].tolist()}
        rows[1].append(draw(sample.image, corners(shown), color=pictures.DETECTION, **words))
    pictures.contact_sheet(rows, path, ("ground truth", f"score ≥ {least:g}"))
