"""A pretraining, from shards to a checkpoint: what stage ``pretrain`` runs for a method that trains."""

from functools import partial
from pathlib import Path

import torch

from proseco.base import environment, files, plugins, provenance
from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.data.loader import training_batches
from proseco.data.reader import ShardReader
from proseco.data.workers import explained_ends
from proseco.runs.album import Album, draw_views
from proseco.training import devices, distributed
from proseco.training.loop import DetectorMethod, fit, is_backbone
from proseco.training.schedules import Schedule
from proseco.training.snapshots import Snapshots
from proseco.weights import checkpoint


@explained_ends()
def run(
    plan: dict, shards: Path, backbone: Path, out: Path, results: Path, *, device: str, scratch: Path, title: str
) -> None:
    """Train and write ``out`` (student and teacher) and ``results``: log.csv, speed.csv, boxes.png, metrics.json and
    run.json. Of several processes the first writes. boxes.png shows the drawn boxes and, if the method predicts boxes,
    those predicted for them.

    :param plan: of :func:`proseco.experiment.plan.pretraining`.
    :param backbone: file of stage ``backbone``.
    :param scratch: folder for states to resume from.
    """
    torch_device = devices.pick_device(device)
    precision = devices.pick_precision(plan["precision"], torch_device)
    devices.prepare(torch_device)
    with distributed.joined(torch_device):
        inputs = {"shards": files.digest(shards / "summary.json"), "backbone": files.digest(backbone)}
        reader = ShardReader(shards)
        schedule = Schedule(**plan["schedule"])
        seed = derive_seed(plan["seed"], "pretrain")
        torch.manual_seed(seed)
        steps = schedule.count(len(reader))
        method = _build(plan, schedule, steps, backbone, torch_device)
        path = results / "boxes.png" if distributed.rank() == 0 else None
        album, at_step = None, {}
        if plan["pictures"] is not None:
            album = Album(method, reader, path, seed=seed, device=torch_device)
            moments = (round(steps * i / max(plan["pictures"] - 1, 1)) for i in range(min(plan["pictures"], steps + 1)))
            at_step = dict.fromkeys(moments, album.take if path is not None else lambda step: None)
        elif path is not None:
            draw_views(method, reader, path, seed=seed)
        if path is not None:
            print(f"pretrain {title}: to watch it, see log.csv and boxes.png in {results}", flush=True)
        fit(
            method,
            partial(training_batches, reader, method.transform, **schedule.frames),
            schedule,
            steps=steps,
            steps_per_epoch=len(reader) / schedule.batch,
            seed=seed,
            device=torch_device,
            precision=precision,
            log=results / "log.csv",
            title=f"pretrain {title}",
            at_step=at_step,
            snapshots=Snapshots(scratch, environment.checkpoint_every()),
            extra_state={"album": album} if album else None,
        )
        if distributed.rank() > 0:
            return
    made = {"method": plan["method"], "loss": plan["loss"], "steps": steps, "detector": plan["detector"]}
    checkpoint.save(out, method.state_dicts(), made)
    files.write_json(results / "metrics.json", {"steps": steps})
    facts = devices.facts(torch_device, precision)
    files.write_json(results / "run.json", provenance.record(plan=plan, **facts, inputs=inputs))


def _build(plan: dict, schedule: Schedule, steps: int, backbone: Path, device: torch.device) -> DetectorMethod:
    """The method over a detector with the backbone's weights, all of it on the device."""
    detector = plugins.call("detectors", plan["detector"], num_classes=None, place="detector")
    checkpoint.load_body(detector, checkpoint.load(backbone, "backbone"), source=str(backbone))
    known = plugins.keywords("methods", plan["method"]["name"])
    given = {key: value for key, value in plan["views"].items() if key in known}
    if "micro_batch" in known:
        given["micro_batch"] = devices.at_a_time(schedule)
    if "steps" in known:
        given["steps"] = steps
    if plan["loss"] is not None:
        given["loss"] = plugins.bind("losses", plan["loss"])
    method = plugins.call("methods", plan["method"], detector.to(device), place="method", **given)
    for module in method.modules().values():  # what the method adds to the detector
        module.to(device)
    trained = any(p.requires_grad for name, p in method.student.named_parameters() if is_backbone(name))
    if schedule.lr_backbone > 0 and not trained:  # else run.json would tell of a rate that nothing was trained with
        name = plan["method"]["name"]
        raise InputError(f"schedule.lr_backbone is {schedule.lr_backbone}, but {name} keeps the backbone as it is")
    return method
