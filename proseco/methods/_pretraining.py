"""A pretraining from shards to checkpoint: what stage ``pretrain`` runs."""

from functools import partial
from pathlib import Path

import torch

from proseco.base import files, plugins
from proseco.base.randomness import seed as derive_seed
from proseco.data.loader import training_batches
from proseco.data.reader import ShardReader
from proseco.methods._album import Album
from proseco.training.loop import fit, pick_device
from proseco.training.schedules import Schedule
from proseco.weights import checkpoint, start


def run(plan: dict, shards: Path, backbone: Path, out: Path, results: Path, *, device: str, title: str) -> None:
    """Train and write ``out`` (student and teacher) and ``results`` (log.csv, boxes.png, metrics.json, run.json).

    :param plan: of :func:`proseco.plan.pretraining`.
    :param backbone: file of stage ``backbone``.
    """
    where = pick_device(device)
    reader = ShardReader(shards)
    schedule = Schedule(**plan["schedule"])
    steps = schedule.count(len(reader))
    seed = derive_seed(plan["seed"], "pretrain")
    torch.manual_seed(seed)
    detector = plugins.call("detectors", plan["detector"], num_classes=None, place="detector")
    weights = {f"{start.BODY}{key}": value for key, value in checkpoint.load(backbone, "backbone").items()}
    others = tuple(name for name, _ in detector.named_children() if name != "backbone")
    checkpoint.load_into(detector, weights, source=str(backbone), new=others, unused=(f"{start.BODY}fc.",))
    known = plugins.keywords("methods", plan["method"]["name"])
    given = {key: value for key, value in plan["views"].items() if key in known}
    if plan["loss"] is not None:
        options = {key: value for key, value in plan["loss"].items() if key != "name"}
        given["loss"] = partial(plugins.load("losses", plan["loss"]["name"]), **options)
    method = plugins.call("methods", plan["method"], detector.to(where), place="method", **given)
    batches = training_batches(reader, method.transform, batch=schedule.batch, steps=steps, seed=seed, device=where)
    print(f"pretrain {title}: to watch it, see log.csv and boxes.png in {results}", flush=True)
    album = Album(method, reader, results / "boxes.png", seed=seed, device=where)
    moments = {round(steps * i / max(plan["pictures"] - 1, 1)) for i in range(plan["pictures"])}
    summary = fit(
        method,
        batches,
        schedule,
        steps=steps,
        steps_per_epoch=len(reader) / schedule.batch,
        seed=seed,
        device=where,
        log=results / "log.csv",
        title=f"pretrain {title}",
        at_step=dict.fromkeys(moments, album.take),
    )
    checkpoint.save(out, method.weights_of(), {"method": plan["method"], "loss": plan["loss"], "steps": steps})
    files.write_json(results / "metrics.json", summary)
    inputs = {"shards": files.digest(shards / "summary.json"), "backbone": files.digest(backbone)}
    files.write_json(results / "run.json", files.provenance(plan=plan, device=str(where), inputs=inputs))
