"""The whole DAG under DVC in a fresh repository, with a minute's worth of data and steps."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from proseco.base.files import digest, read_json
from tests import params_file

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.timeout(600)


def dvc(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def ran(result: subprocess.CompletedProcess) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", result.stdout))


def change(folder: Path, edit) -> None:
    yaml = YAML()
    path = folder / "params.yaml"
    params = yaml.load(path)
    edit(params)
    yaml.dump(params, path)


def make_small(params) -> None:
    demo = params["scales"]["demo"]
    demo["generate"].update(
        scenes=12, objects=24, coco_train=60, coco_val=4, voc_trainval=2, voc_test=1, fsod_train=1, fsod_test=1
    )
    demo["propose"]["samples_per_shard"] = 5
    demo["split"]["validation"] = 3
    demo["recall"]["images"] = 2
    demo["backbones"]["supervised"]["schedule"].update(steps=2, batch=8, log_every=1)
    demo["pretrain"]["proseco"]["schedule"].update(steps=3, batch=4, log_every=1)
    demo["pretrain"]["proseco"]["pictures"] = 2
    demo["finetune"]["predict_batch"] = 4
    demo["schedules"]["default"].update(steps=3, batch=2, log_every=1, validations=1)
    ablation = {"ablations": ["supervised_100"], "ablation_benchmarks": ["mini_coco_5"]}
    params["run"].update(benchmarks=["mini_coco_5"], seeds=[42], **ablation)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A clone of the working tree, run once."""
    folder = tmp_path_factory.mktemp("clone")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("splits/demo", "splits/paper", "tables/", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    params_file.write(folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    change(folder, make_small)
    result = dvc(folder, "repro")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_every_stage_leaves_what_it_promises(repository):
    table = (repository / "tables/demo/results.md").read_text()
    assert "Supervised" in table and "ProSeCo" in table and "Mini-COCO 5 %" in table
    assert "| Supervised | 0 |" in table  # an ablation, its method and the steps of its pretraining
    assert "supervised_100," in (repository / "tables/demo/results.csv").read_text()
    for row, queries in (("supervised", 40), ("supervised_100", 14)):
        cell = repository / f"results/demo/finetune/{row}/mini_coco_5/42"
        assert read_json(cell / "run.json")["detector"]["queries"] == queries
    metrics = read_json(repository / "tables/demo/metrics.json")
    assert set(metrics["mini_coco_5"]) == {"supervised", "proseco", "supervised_100"}
    for name in (
        "ap.png",
        "loss.png",
        "detections.png",
        "boxes.png",
        "proposals.png",
        "recall.png",
        "recall.csv",
        "results.csv",
        "table-1a.md",
        "table-9.tex",
        "index.html",
    ):
        assert (repository / "tables/demo" / name).stat().st_size > 0
    assert sorted(p.name for p in (repository / "splits/demo/mini_coco_5/42").iterdir()) == [
        "train.txt",
        "val.txt",
    ]
    assert (repository / "checkpoints/demo/pretrain/proseco.safetensors").is_file()
    assert not [p for p in repository.rglob("*.part") if ".dvc" not in p.parts]


def test_a_second_run_does_nothing(repository):
    result = dvc(repository, "repro")
    assert result.returncode == 0 and ran(result) == set()
    assert dvc(repository, "status", "-q").returncode == 0


def test_training_gives_equal_bytes_twice(repository):
    made = [
        "checkpoints/demo/pretrain/proseco.safetensors",
        "checkpoints/demo/finetune/proseco/mini_coco_5/42.safetensors",
    ]
    before = {name: digest(repository / name) for name in made}
    for stage in ("pretrain@demo-proseco", "finetune@demo-proseco-mini_coco_5-42"):
        assert dvc(repository, "repro", "-f", "-s", stage).returncode == 0
    assert {name: digest(repository / name) for name in made} == before


def trained(repository: Path) -> dict[str, str]:
    """Digests of all that a pretraining leaves, but how fast it was and what it cost."""
    there = (repository / "results/demo/pretrain/proseco").iterdir()
    results = [path for path in there if path.name not in ("speed.csv", "cost.json")]
    paths = [*results, repository / "checkpoints/demo/pretrain/proseco.safetensors"]
    assert {"log.csv", "metrics.json", "boxes.png"} < {path.name for path in paths}
    return {path.name: digest(path) for path in paths}


def test_a_killed_pretraining_ends_in_equal_bytes(repository):
    before = trained(repository)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PROSECO_CHECKPOINT_EVERY": "1"}
    command = [sys.executable, "-m", "stages.pretrain", "--scale", "demo", "--method", "proseco"]
    stage = subprocess.Popen(command, cwd=repository, env=environment, stderr=subprocess.DEVNULL)
    while not list(repository.glob(".scratch/pretrain/*/step-*.pt")):
        assert stage.poll() is None
        time.sleep(0.01)
    stage.kill()
    assert stage.wait() < 0
    assert dvc(repository, "repro", "-f", "-s", "pretrain@demo-proseco").returncode == 0
    assert trained(repository) == before
    assert list((repository / ".scratch/pretrain").iterdir()) == []


@pytest.mark.slow
def test_two_processes_do_what_one_does(repository):
    """Through the stages, whose commands do not change: DVC sees nothing to run anew."""
    stages = ("pretrain@demo-proseco", "finetune@demo-proseco-mini_coco_5-42")
    one = [read_json(repository / "results/demo" / name / "metrics.json") for name in CELLS]
    logs = [losses(repository / "results/demo" / name / "log.csv") for name in CELLS]
    for stage in stages:
        result = dvc(repository, "repro", "-f", "-s", stage, PROSECO_NPROC="2")
        assert result.returncode == 0, result.stderr
    assert [read_json(repository / "results/demo" / name / "run.json")["processes"] for name in CELLS] == [2, 2]
    for name, before in zip(CELLS, logs, strict=True):
        assert losses(repository / "results/demo" / name / "log.csv") == pytest.approx(before, rel=1e-3)
    two = [read_json(repository / "results/demo" / name / "metrics.json") for name in CELLS]
    assert one[0] == two[0] and set(one[1]) == set(two[1]) and two[1]["AP"] == pytest.approx(one[1]["AP"], abs=1)
    for stage in stages:
        assert dvc(repository, "repro", "-f", "-s", stage).returncode == 0


CELLS = ("pretrain/proseco", "finetune/proseco/mini_coco_5/42")


def losses(path: Path) -> list[float]:
    with open(path, newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_delta_reruns_proseco_and_nothing_else(repository):
    before = (repository / "params.yaml").read_text()
    change(repository, lambda params: params["loss"].update(delta=0.7))
    result = dvc(repository, "repro")
    assert result.returncode == 0, result.stdout + result.stderr
    assert ran(result) == {
        "plan@demo",
        "pretrain@demo-proseco",
        "finetune@demo-proseco-mini_coco_5-42",
        "tabulate@demo",
    }
    (repository / "params.yaml").write_text(before)


def wrong(key, value):
    def edit(params):
        target = params
        for part in key[:-1]:
            target = target[part]
        target[key[-1]] = value

    return edit


@pytest.mark.parametrize(
    "edit, words",
    [
        (wrong(("loss", "dleta"), 0.7), ["dleta", "delta"]),
        (wrong(("loss", "name"), "sec"), ["'sec'", "locsce"]),
        (wrong(("scale",), "dmeo"), ["'dmeo'", "demo, paper"]),
        (wrong(("run", "methods"), ["prosecco"]), ["'prosecco'", "proseco"]),
        (wrong(("run", "benchmarks"), ["mini_coco_7"]), ["'mini_coco_7'", "mini_coco_5"]),
        (wrong(("scale",), "paper"), ["scales.paper.roots.imagenet", "../datasets/imagenet"]),
        (
            wrong(("scales", "demo", "schedules", "default", "batch"), 99),
            ["99", "larger than the data"],
        ),
    ],
)
def test_a_mistake_is_one_line(repository, edit, words):
    before = (repository / "params.yaml").read_text()
    lock = (repository / "dvc.lock").read_bytes()
    try:
        change(repository, edit)
        result = dvc(repository, "repro")
    finally:
        (repository / "params.yaml").write_text(before)
        (repository / "dvc.lock").write_bytes(lock)
        dvc(repository, "checkout", "-q")
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_cells_run_side_by_side_under_dvc(repository):
    """Both end in dvc.lock, and a failure ends neither the other nor what was made before."""
    before = (repository / "params.yaml").read_text()
    change(repository, lambda params: params["run"].update(seeds=[42, 43, 44]))
    command = [sys.executable, "-m", "proseco", "cells", "--jobs", "2"]
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    changed = json.loads(dvc(repository, "status", "--json").stdout)
    assert set(changed) <= {"recall@demo", "tabulate@demo"}
    assert dvc(repository, "repro").returncode == 0 and dvc(repository, "status", "-q").returncode == 0
    (repository / "params.yaml").write_text(before)
    assert dvc(repository, "repro").returncode == 0
