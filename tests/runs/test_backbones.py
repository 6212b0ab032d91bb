"""A trained backbone stays as it is when a row is added, whichever machine has made it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from proseco.base import files
from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.experiment import plan
from proseco.runs import backbones
from stages import backbone
from tests import params_file, tiny

ROOT = Path(__file__).resolve().parents[2]

SCHEDULE = {"batch": 4, "lr": 0.05, "lr_backbone": 0.05, "steps": 2, "log_every": 1, "optimizer": "sgd", "clip": None}
ENTRY = {"name": "classification", "side": 48, "smoothing": 0.1, "root": "images", "schedule": SCHEDULE}
PLAN = {"files": {"one": "own"}, "backbones": {"own": ENTRY}, "body": tiny.BODY, "seed": 0, "precision": "float32"}
PLAN = json.loads(json.dumps(PLAN))  # as the stage reads it


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    draws = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "train" / name).mkdir(parents=True)
        for number in range(3):
            pixels = draws.integers(0, 256, (60, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "train" / name / f"{number}.png")
    return folder


@pytest.fixture
def make(images, tmp_path, monkeypatch, capsys):
    """Run the stage's work once more, over what the last run left; says what was trained."""
    trained, train = [], backbones._train
    monkeypatch.setattr(backbones, "_train", lambda name, *given: trained.append(name) or train(name, *given))
    out, results = tmp_path / "out", tmp_path / "results"

    def run(plan, **changes):
        del trained[:]
        (tmp_path / "scratch").mkdir(exist_ok=True)
        for state in (tmp_path / "scratch").rglob("*.pt"):
            state.unlink()
        depends = dict.fromkeys(plan["backbones"], {"code": {"a.py": "1"}, "images": {}} | changes)
        before = backbones.Before(out, results, depends)
        with files.replacing(out) as new, files.replacing(results) as said:
            said.mkdir()
            where = {"device": "cpu", "scratch": tmp_path / "scratch"}
            backbones.make(plan, dict.fromkeys(plan["backbones"], images), new, said, **where, before=before)
        return list(trained)

    return run


def test_it_is_trained_once(make, tmp_path):
    assert make(PLAN) == ["own"]
    first = (tmp_path / "out/one.safetensors").read_bytes()
    log = (tmp_path / "results/own/log.csv").read_bytes()
    assert make(PLAN | {"files": {"one": "own", "two": "own"}}) == []
    assert [(tmp_path / f"out/{row}.safetensors").read_bytes() == first for row in ("one", "two")] == [True, True]
    assert (tmp_path / "results/own/log.csv").read_bytes() == log
    assert make(PLAN | {"files": {"two": "own"}}) == []  # and from a copy of a copy
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two.safetensors"]


@pytest.mark.parametrize(
    ("changes", "depends"),
    [
        ({"seed": 1}, {}),
        ({"precision": "bfloat16"}, {}),
        ({"backbones": {"own": ENTRY | {"smoothing": 0.2}}}, {}),
        ({}, {"code": {"a.py": "2"}}),
        ({}, {"images": {"backbones.json": "x"}}),
    ],
)
def test_it_is_trained_again_where_anything_that_it_is_made_of_has_changed(make, changes, depends):
    assert make(PLAN) == ["own"]
    assert make(PLAN | changes, **depends) == ["own"]


def test_the_loop_is_given_what_the_plan_says(make, monkeypatch):
    views = {"boxes": 2, "min_size": 8, "side": 32, "first": {}, "second": {}, "projector": [20, 6]}
    entries = {"own": ENTRY, "other": {"name": "scrl", "root": "images", "schedule": SCHEDULE | {"steps": 6}} | views}
    calls = {}

    def fit(method, batches, schedule, **options):
        calls[options["title"]] = (method, options)

    monkeypatch.setattr(backbones, "fit", fit)
    make(PLAN | {"files": {"one": "own", "two": "other"}, "backbones": entries, "seed": 5})
    (_, own), (scrl, other) = calls["backbone own"], calls["backbone other"]
    assert [x["seed"] for x in (own, other)] == [derive_seed(5, "backbone", name) for name in entries]
    assert (own["steps"], other["steps"], scrl.teacher.steps) == (2, 6, 6)


def test_nor_is_a_file_believed_that_is_another(make, tmp_path):
    make(PLAN)
    path = tmp_path / "out/one.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert make(PLAN) == ["own"]
    (tmp_path / "results/run.json").unlink()
    assert make(PLAN) == ["own"]
    shutil.rmtree(tmp_path / "results/own")
    assert make(PLAN) == ["own"]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The stage over params.yaml of the demo with these methods; what it hands on to be made, or an error.

    ``meanwhile`` is done, once, in the course of it; ``had`` is what each run could read of the one before.
    """
    monkeypatch.chdir(tmp_path)
    settings = params_file.parameters()
    Path("data/demo/imagenet").mkdir(parents=True)
    files.write_json("work/demo/inventory/backbones.json", {"supervised": 1, "swav": 2, "scrl": 3})
    given = []

    def make(plan, roots, out, results, *, before, error=None, **where):
        given.append(before)
        if meanwhile:
            meanwhile.pop()()
        former = before.out / "one"
        had.append(former.read_text() if former.exists() else None)
        if failing:
            raise InputError("no")
        out.mkdir()
        (out / "one").write_text("made")

    failing, meanwhile, had = [], [], []
    monkeypatch.setattr(backbones, "make", make)

    def run(*methods, fails=False):
        failing[:] = [1] * fails
        settings["run"]["methods"] = list(methods)
        YAML().dump(settings, Path("params.yaml"))
        files.write_json("work/demo/plan/backbone.json", plan.backbones(settings, "demo"))
        backbone.main(scale="demo")
        return given[-1]

    run.given, run.meanwhile, run.had = given, meanwhile, had
    return run


def test_what_it_depends_on_is_its_own(stage):
    alone, beside = stage("supervised").depends, stage("supervised", "proseco", "swav", "scrl").depends
    assert alone.keys() == {"supervised"} and beside.keys() == {"supervised", "swav", "scrl"}
    assert beside["supervised"] == alone["supervised"] and alone["supervised"]["images"] == 1
    methods = {name: {path for path in of["code"] if "/methods/" in path} for name, of in beside.items()}
    assert "proseco/methods/swav.py" in methods["swav"] - methods["supervised"]
    assert "proseco/training/loop.py" in alone["supervised"]["code"]


def test_after_a_failure_nothing_stands_in_the_place_of_the_outputs_and_nothing_is_lost(stage):
    stage("supervised")
    out = Path("checkpoints/demo/backbone/one")
    assert out.read_text() == "made"
    for _ in range(2):
        with pytest.raises(InputError):
            stage("supervised", "swav", fails=True)
        assert not out.exists() and not Path("results/demo/backbone").exists()
        assert (stage.given[-1].out / "one").read_text() == "made"
    before = stage("supervised", "swav")
    assert out.read_text() == "made" and not before.out.exists()


@pytest.mark.parametrize("where", ["other", ".dvc/tmp/exps/queued"])
def test_two_working_trees_leave_each_other_what_they_had(stage, tmp_path, monkeypatch, where):
    """With one scratch folder: that of PROSECO_SCRATCH, or of the repository that an experiment was copied from."""
    other = tmp_path / where
    if where == "other":
        monkeypatch.setenv("PROSECO_SCRATCH", str(tmp_path / "fast"))
    stage("supervised")
    shutil.copytree(tmp_path, other, ignore=shutil.ignore_patterns(".dvc", "other", "fast"))
    for tree in (tmp_path, other):
        (tree / "checkpoints/demo/backbone/one").write_text(f"of {tree}")

    def beside():
        monkeypatch.chdir(other)
        stage("supervised", "scrl")
        monkeypatch.chdir(tmp_path)

    stage.meanwhile.append(beside)
    stage("supervised", "swav")
    assert stage.had == [None, f"of {other}", f"of {tmp_path}"]
