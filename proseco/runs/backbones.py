"""Backbones: imported from a checkpoint, or trained on folders of images by a method over a ``network``."""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from proseco.base import environment, files, plugins, provenance
from proseco.base.randomness import seed as derive_seed
from proseco.data.loader import training_batches
from proseco.data.sources import ClassFolders
from proseco.data.workers import explained_ends
from proseco.nn.backbone import Body, ResNet, state_without_counts
from proseco.runs.album import draw_views
from proseco.training import devices
from proseco.training.loop import fit
from proseco.training.schedules import Schedule
from proseco.training.snapshots import Snapshots
from proseco.weights import backbone, checkpoint


@dataclass(frozen=True)
class Before:
    """What an earlier run left in the place of this one's outputs."""

    out: Path
    results: Path
    #: Trained backbone -> what it depends on besides its settings: digests of its code, and a survey of its images.
    depends: dict[str, dict]

    def weights(self, name: str, inputs: dict) -> dict | None:
        """Weights of the backbone if it was trained from exactly these inputs, read from its file; else None."""
        path = self.results / "run.json"
        run = files.read_json(path) if path.is_file() else {}
        if run.get("trained", {}).get(name) != inputs or not (self.results / name).is_dir():
            return None
        for method in (method for method, used in run["plan"]["files"].items() if used == name):
            path = self.out / f"{method}.safetensors"
            if path.is_file() and files.digest(path) == run["digests"][method]:
                return checkpoint.load(path, "backbone")
        return None


@explained_ends()
def make(
    plan: dict, roots: dict[str, Path], out: Path, results: Path, *, device: str, scratch: Path, before: Before
) -> None:
    """Write ``out/<method>.safetensors`` for every method; a backbone that several use is made once.

    In one process, because batch norm sees the whole batch. After a kill, finished backbones are restored from their
    last states, and the one in progress resumes from its own. A backbone that an earlier run trained from the same
    inputs is kept, so that a new row of the tables changes no other row's start, whichever machine made it.

    :param plan: ``files`` (method -> backbone), ``backbones`` (name -> entry), ``body`` (keywords of the network),
        ``seed`` and ``precision``, as :func:`proseco.experiment.plan.backbones` resolves them.
    :param roots: backbone -> root of its images.
    :param results: folder for ``run.json``, and for each trained backbone ``<name>/`` with log.csv, speed.csv, its own
        run.json and views.png, what it is trained on.
    :param scratch: folder for states to resume from.
    :raises InputError: a checkpoint is missing or is not of this network.
    """
    inputs = {
        name: {key: plan[key] for key in ("body", "seed", "precision")} | {"entry": entry} | before.depends[name]
        for name, entry in plan["backbones"].items()
        if "checkpoint" not in entry
    }
    weights = {}
    for name, entry in plan["backbones"].items():
        if "checkpoint" in entry:
            weights[name] = backbone.read(entry["checkpoint"], prefix=entry.get("prefix"))
            _check_fit(name, weights[name], plan["body"])
        elif (earlier := before.weights(name, inputs[name])) is not None:
            print(f"backbone {name}: as before, for nothing that it is made of has changed")
            shutil.copytree(before.results / name, results / name)
            weights[name] = earlier
        else:
            (scratch / name).mkdir(exist_ok=True)
            torch_device = devices.pick_device(device)
            weights[name] = _train(name, entry, plan, roots[name], results / name, scratch / name, torch_device)
            _check_fit(name, weights[name], plan["body"])
    for method, name in plan["files"].items():
        facts = {"backbone": name, "entry": plan["backbones"][name], "body": plan["body"]}
        checkpoint.save(out / f"{method}.safetensors", {"backbone": weights[name]}, facts)
    digests = {method: files.digest(out / f"{method}.safetensors") for method in plan["files"]}
    files.write_json(results / "run.json", provenance.record(plan=plan, trained=inputs, digests=digests))


def _check_fit(name: str, weights: dict, body: dict) -> None:
    """:raises InputError: the weights are not those of this network, the classifier left out."""
    checkpoint.load_into(Body(**body).body, weights, source=f"backbone {name}", new=(), unused=("fc.",))


def _train(name: str, entry: dict, plan: dict, root: Path, results: Path, scratch: Path, device: torch.device) -> dict:
    devices.prepare(device)
    source = ClassFolders(root)
    schedule = Schedule(**entry["schedule"])
    steps = schedule.count(len(source))
    seed = derive_seed(plan["seed"], "backbone", name)
    torch.manual_seed(seed)
    network = ResNet(**plan["body"], num_classes=len(source.classes)).to(device)
    spec = {key: value for key, value in entry.items() if key not in ("root", "schedule")}
    length = {"steps": steps} if "steps" in plugins.keywords("methods", entry["name"]) else {}
    method = plugins.call("methods", spec, network, place=f"backbones.{name}", **length)
    for module in method.modules().values():  # what the method has added to the network
        module.to(device)
    results.mkdir(exist_ok=True)
    draw_views(method, source, results / "views.png", seed=seed, images=6)
    fit(
        method,
        partial(training_batches, source, method.transform),
        schedule,
        steps=steps,
        steps_per_epoch=len(source) / schedule.batch,
        seed=seed,
        device=device,
        precision=devices.pick_precision(plan["precision"], device),
        log=results / "log.csv",
        title=f"backbone {name}",
        snapshots=Snapshots(scratch, environment.checkpoint_every()),
    )
    files.write_json(results / "run.json", provenance.record(device=str(device)))
    return state_without_counts(network)
