"""A tiny run of the real stages, real networks and sizes on drawn images, to see how fast this machine is."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proseco.base import files, plugins
from proseco.base.errors import InputError
from proseco.data import images
from proseco.demo import data_sets
from proseco.experiment import rows
from proseco.experiment.estimate import Rate

#: Steps of each training, and from one reading of the clock to the next: a rate is the median of what was read.
_STEPS, _EVERY = 14, 2
#: Longer side of the drawn images, where the scale draws none itself: about that of COCO's.
_SIDE = 640
_NAME = "measured"
_HARDLY_TRAINED = {"name": "classification", "root": "imagenet", "side": 64, "smoothing": 0.0}
_HARDLY_TRAINED |= {"schedule": {"batch": 4, "lr": 0.0, "steps": 1}}


@contextmanager
def results(settings: dict, *, batch: int | None) -> Iterator[Path]:
    """Train every kind of network of the run for some steps; yields the folder of results, for as long as it is used.

    :param settings: params.yaml, checked.
    :param batch: images of a step; the schedules' own where it is None.
    :raises InputError: a stage failed; it has said why.
    """
    scale, here = settings["scale"], Path(__file__).resolve().parents[2]
    small, pretrained, finetuned = reduced(settings, batch)
    with tempfile.TemporaryDirectory(prefix="proseco-cost-") as name:
        folder = Path(name)
        for code in ("proseco", "stages"):  # stages run in the root of a repository
            shutil.copytree(here / code, folder / code, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "splits/own").mkdir(parents=True)
        files.write_json(folder / "params.yaml", small)  # JSON is YAML
        for stage in ("plan", "data", "inventory"):
            _stage(folder, stage, scale)
        _stage(folder, "propose", scale, "--data", rows.MAIN)
        _stage(folder, "split", scale, "--benchmark", _NAME)
        _stage(folder, "backbone", scale)
        for row in pretrained:
            _stage(folder, "pretrain", scale, "--method", row)
        for row in finetuned:
            _stage(folder, "finetune", scale, "--method", row, "--benchmark", _NAME, "--seed", "0")
        yield folder / "results" / scale


def reduced(settings: dict, batch: int | None) -> tuple[dict, list[str], list[str]]:
    """params.yaml with little data and few steps; its rows, one of each plug-in and detector; those to finetune, one of
    each detector.
    """
    scale, run = settings["scale"], settings["run"]
    section = settings["scales"][scale]
    chosen = {name: rows.row(settings, scale, name) for name in reversed(_methods(settings))}
    trained = {(row.plugin, row.detector["name"]): name for name, row in chosen.items() if row.pretrained_here}
    finetuned = {row.detector["name"]: name for name, row in chosen.items()}
    used = sorted({*trained.values(), *finetuned.values()})
    first = run["benchmarks"][0]
    schedule = section["schedules"].get(first, section["schedules"].get("default"))
    schedule = _short(schedule, batch) | {"validations": 3}
    pretrain = {
        name: entry | {"schedule": _short(entry["schedule"], batch), "pictures": 1}
        for name, entry in section["pretrain"].items()
        if name in {chosen[row].plugin for row in used} and "schedule" in entry
    }
    bodies = {name: _body(section, chosen[name].backbone) for name in used}
    backbones = {name: section["backbones"][name] for name in bodies.values() if name != _NAME}
    roots = {name: f"data/{scale}/{name}" for name in ("scenes", "imagenet", "coco")}
    backbones = {
        name: entry
        | {
            "schedule": _short(entry["schedule"], batch),
            "root": entry["root"] if entry["root"] in roots else "imagenet",
        }
        for name, entry in backbones.items()
    }
    backbones[_NAME] = _HARDLY_TRAINED
    detectors = {
        name: entry | {"schedule": _lasting(entry.get("schedule", {}))} for name, entry in section["detectors"].items()
    }
    trainings = [schedule, *(entry["schedule"] for part in (pretrain, backbones) for entry in part.values())]
    most = 2 * max(entry["batch"] for entry in trainings)
    predicted = 3 * section["finetune"]["predict_batch"]
    side = section["generate"]["side"] if section["generate"] else _SIDE
    counts = {"scenes": most, "objects": max(most, 16), "coco_train": most, "coco_val": predicted}
    counts |= {"voc_trainval": 2, "voc_test": 1, "fsod_train": 1, "fsod_test": 1}
    propose = {"unlabelled": {rows.MAIN: {"root": "scenes", "subset": "train"}}, "proposals": {"name": "random"}}
    changed = {
        "generate": {"seed": 0, "side": side, "object_side": max(32, side // 2), **counts},
        "roots": roots,
        "propose": section["propose"] | propose,
        "split": {"validation": "test", "seeds": [0]},
        "backbones": backbones,
        "detectors": detectors,
        "pretrain": pretrain,
        "ablations": {},
        "schedules": {_NAME: schedule},
    }
    benchmark = {"name": "coco", "title": _NAME, "root": "coco", "train": "train2017", "test": "val2017", "rule": "all"}
    selected = {"methods": used, "benchmarks": [_NAME], "seeds": [0], "unlabelled": [rows.MAIN]}
    small = settings | {
        "run": selected | {"ablations": [], "ablation_benchmarks": []},
        "selections": {},
        "methods": {
            name: {key: value for key, value in settings["methods"][name].items() if key != "data"}
            | {"backbone": bodies[name]}
            for name in used
        },
        "ablations": {},
        "benchmarks": {_NAME: benchmark},
        "scales": {scale: section | changed},
    }
    return small, used, list(finetuned.values())


def _methods(settings: dict) -> list[str]:
    """Methods of the run, and those that its ablations are of."""
    run = settings["run"]
    return list(dict.fromkeys([*run["methods"], *(settings["ablations"][name]["of"] for name in run["ablations"])]))


def _short(schedule: dict, batch: int | None) -> dict:
    short = _lasting(schedule) | {"steps": _STEPS, "log_every": _EVERY}
    return short if batch is None else short | {"batch": batch}


def _lasting(schedule: dict) -> dict:
    """What does not say how long a training is."""
    length = ("epochs", "steps", "warmup", "validate_every", "validations", "patience")
    return {key: value for key, value in schedule.items() if key not in length}


def _body(section: dict, name: str | None) -> str:
    """The backbone that a row's own is the same as, or, if that comes from a file, one that takes no time."""
    entry = section["backbones"].get(name, {})
    name = entry.get("same_as", name)
    return name if "name" in section["backbones"].get(name, {}) else _NAME


def _stage(folder: Path, stage: str, scale: str, *words: str) -> None:
    command = (sys.executable, "-m", f"stages.{stage}", "--scale", scale, *words)
    print(f"measuring: {stage} {' '.join(words[1::2])}".rstrip(), file=sys.stderr, flush=True)
    variables = os.environ | {"PROSECO_SCRATCH": str(folder / ".scratch")}
    if subprocess.run(command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, check=False).returncode:
        raise InputError(f"--measure: stage {stage} failed")


def search_rate(settings: dict, proposals: dict) -> Rate:
    """Images per second of one core at making proposals, of drawn scenes: decoded before, boxes not written.

    :param proposals: entry of the plug-in.
    """
    section = settings["scales"][settings["scale"]]
    propose = plugins.bind("proposals", proposals)
    side = section["generate"]["side"] if section["generate"] else _SIDE
    seconds = []
    with tempfile.TemporaryDirectory(prefix="proseco-cost-") as name:
        small = {"voc_trainval": 2, "voc_test": 1, "fsod_train": 1, "fsod_test": 1, "coco_train": 1, "coco_val": 1}
        small |= {"scenes": 12, "objects": 16}
        data_sets.write(Path(name, "data"), seed=0, side=side, object_side=32, workers=1, **small)
        scenes = Path(name, "data/scenes")
        for path, _ in files.list_files(scenes, images.SUFFIXES):
            image, _ = images.inspect((scenes / path).read_bytes())
            begin = time.perf_counter()
            propose(image, seed=0)
            seconds.append(time.perf_counter() - begin)
    seconds = sorted(seconds[2:])  # the first loads what numba has compiled
    return Rate(1 / seconds[len(seconds) // 2], "core", f"measured on {len(seconds)} drawn scenes")
