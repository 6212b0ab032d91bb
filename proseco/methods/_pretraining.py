"""A pretraining from shards to checkpoint: what stage ``pretrain`` runs."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from proseco import boxes as box_ops
from proseco import pictures
from proseco.base import environment, files, plugins
from proseco.base.randomness import generator
from proseco.base.randomness import seed as derive_seed
from proseco.data.loader import collate, training_batches
from proseco.data.reader import ShardReader
from proseco.training import devices, distributed
from proseco.training.loop import fit
from proseco.training.schedules import Schedule
from proseco.training.snapshots import Snapshots
from proseco.weights import checkpoint, start


def run(
    plan: dict, shards: Path, backbone: Path, out: Path, results: Path, *, device: str, scratch: Path, title: str
) -> None:
    """Train and write ``out`` (student and teacher) and ``results``: log.csv, speed.csv, boxes.png, metrics.json and
    run.json. Of several processes the first writes.

    :param plan: of :func:`proseco.plan.pretraining`.
    :param backbone: file of stage ``backbone``.
    :param scratch: folder for states to go on from.
    """
    where = devices.pick_device(device)
    precision = devices.pick_precision(plan["precision"], where)
    devices.prepare(where)
    with distributed.joined(where):
        reader = ShardReader(shards)
        schedule = Schedule(**plan["schedule"])
        seed = derive_seed(plan["seed"], "pretrain")
        torch.manual_seed(seed)
        method = _build(plan, schedule, backbone, where)
        steps = schedule.count(len(reader))
        album = Album(method, reader, seed=seed, device=where)
        moments = {round(steps * i / max(plan["pictures"] - 1, 1)) for i in range(plan["pictures"])}
        fit(
            method,
            lambda step: training_batches(
                reader,
                method.transform,
                batch=schedule.batch,
                steps=steps,
                seed=seed,
                device=where,
                first_step=step,
                rank=distributed.rank(),
                world=distributed.world(),
            ),
            schedule,
            steps=steps,
            steps_per_epoch=len(reader) / schedule.batch,
            seed=seed,
            device=where,
            precision=precision,
            log=results / "log.csv",
            title=f"pretrain {title}",
            at_step=dict.fromkeys(moments, album.take) if distributed.rank() == 0 else None,
            snapshots=Snapshots(scratch, environment.checkpoint_every()),
            watching={"album": album},
        )
        if distributed.rank() > 0:
            return
    album.write(results / "boxes.png")
    checkpoint.save(out, method.weights_of(), {"method": plan["method"], "loss": plan["loss"], "steps": steps})
    files.write_json(results / "metrics.json", {"steps": steps})
    facts = {"device": str(where), "precision": str(precision), "processes": environment.world()}
    inputs = {"shards": files.digest(shards / "summary.json"), "backbone": files.digest(backbone)}
    files.write_json(results / "run.json", files.provenance(plan=plan, **facts, inputs=inputs))


def _build(plan: dict, schedule: Schedule, backbone: Path, device: torch.device):
    """The method over a detector with the backbone's weights."""
    detector = plugins.call("detectors", plan["detector"], num_classes=None, place="detector")
    weights = {f"{start.BODY}{key}": value for key, value in checkpoint.load(backbone, "backbone").items()}
    others = tuple(name for name, _ in detector.named_children() if name != "backbone")
    checkpoint.load_into(detector, weights, source=str(backbone), new=others, unused=(f"{start.BODY}fc.",))
    known = plugins.keywords("methods", plan["method"]["name"])
    given = {key: value for key, value in plan["views"].items() if key in known}
    if "micro_batch" in known:
        given["micro_batch"] = schedule.micro_batch
    if plan["loss"] is not None:
        options = {key: value for key, value in plan["loss"].items() if key != "name"}
        given["loss"] = partial(plugins.load("losses", plan["loss"]["name"]), **options)
    return plugins.call("methods", plan["method"], detector.to(device), place="method", **given)


class Album:
    """The boxes drawn of a few images and, at several moments of the training, the predictions matched with them."""

    def __init__(self, method, reader: ShardReader, *, seed: int, device: torch.device, images: int = 5):
        samples = [reader[i * len(reader) // images] for i in range(min(images, len(reader)))]
        self.method = method
        self.batch = collate([method.transform(s, generator(seed, "album", s.key)) for s in samples])
        self.on_device = self.batch.to(device)
        self.taken: list[tuple[str, list[Tensor]]] = []

    def _column(self, boxes: list[Tensor], color: str) -> list:
        """Boxes (n, 4) cxcywh of each image, drawn on its first view without the padding."""
        drawn = []
        for view, mask, one in zip(self.batch.views[0], self.batch.mask, boxes, strict=True):
            height, width = int((~mask[:, 0]).sum()), int((~mask[0]).sum())
            corners = box_ops.scale(box_ops.cxcywh_to_xyxy(one), torch.tensor([width, height]))
            picture = view[:, :height, :width].permute(1, 2, 0).contiguous().numpy()
            drawn.append(pictures.draw_boxes(picture, corners.numpy(), color=color))
        return drawn

    def take(self, step: int) -> None:
        """Remember the boxes of this moment, a column."""
        self.taken.append((f"step {step}", self.method.matched_predictions(self.on_device)))

    def state_dict(self) -> dict:
        return {"taken": [list(column) for column in self.taken]}

    def load_state_dict(self, state: dict) -> None:
        self.taken = [(title, boxes) for title, boxes in state["taken"]]

    def write(self, path: Path) -> None:
        """A row an image: the drawn boxes, then the student's at each moment."""
        columns = [self._column(self.batch.boxes, "#0072B2")]
        columns += [self._column(boxes, "#D55E00") for _, boxes in self.taken]
        titles = ["drawn boxes", *(title for title, _ in self.taken)]
        pictures.contact_sheet([list(row) for row in zip(*columns, strict=True)], path, titles)
