"""``cost`` on the real parameters, before anything has run; and the tiny run that it measures with."""

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from proseco.base import files, params
from proseco.base.errors import InputError
from proseco.commands import _measure, cost
from proseco.experiment import estimate, matrix, plan, rows, schema
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the parameters and the code that stage plan digests, and no repository of DVC's."""
    monkeypatch.chdir(tmp_path)
    params_file.write(tmp_path)
    (tmp_path / "proseco").symlink_to(ROOT / "proseco")
    return tmp_path


@pytest.fixture
def status(monkeypatch):
    """What ``dvc status --json`` answers: a dictionary to fill, or None for an error."""
    answer = {"changed": {}}

    def run(command, **options):
        assert command[1:] == ("-m", "dvc", "status", "--json")
        if answer["changed"] is None:
            return subprocess.CompletedProcess(command, 255, "", "ERROR: not here\nmore")
        return subprocess.CompletedProcess(command, 0, json.dumps(answer["changed"]), "")

    monkeypatch.setattr(cost.subprocess, "run", run)
    return answer


def rows_of(capsys):
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_the_default_run_at_paper_scale(here, capsys):
    cost.main(scale="paper", images_per_second="pretrain=350,finetune=120")
    out = capsys.readouterr().out
    assert "| pretrain@paper-proseco " in out and " 200,182 " in out and " 12,811,648 " in out
    assert "- 5,914 from splits/paper" not in out  # no id files in this folder
    assert "- 5,914 from known size of coco train2017, fraction 0.05" in out
    assert "What is done is not known: of scale paper, which is not selected." in out
    assert "No rate of predict: --measure takes one here, or give it: --images-per-second predict=N" in out
    totals = [line for line in out.splitlines() if line.startswith("| pretrain ")]
    assert totals == ["| pretrain | 1     | 12,811,648  | 10.2  | 10.2 | GPU  |"]


def test_what_is_done_is_what_dvc_and_the_plan_say(here, status, capsys):
    settings = params.load()
    for name, content in plan.resolve(settings).items():
        files.write_json(Path("work/demo/plan", name), content)
    items = {item.name for item in matrix.items(settings)}
    status["changed"] = {"plan@demo": [], "tabulate@demo": []}  # of a comment in params.yaml, say
    cost.main(csv=True)
    assert {row["done"] for row in rows_of(capsys)} == {"yes"}

    def done(**changes):
        status["changed"] = changes | {"plan@demo": []}
        cost.main(csv=True)
        found = {row["item"] for row in rows_of(capsys) if row["done"] == "yes"}
        assert found <= items
        return found

    every = done()
    assert done(**{"finetune@demo-proseco-mini_coco_5-42": []}) == every - {"finetune@demo-proseco-mini_coco_5-42"}
    later = {name for name in every if "@demo-proseco" in name}
    assert len(later) == 5 and done(**{"pretrain@demo-proseco": []}) == every - later
    assert done(**{"inventory@demo": []}) == set()
    path = Path("work/demo/plan/pretrain/proseco.json")
    files.write_json(path, files.read_json(path) | {"seed": 99})
    assert done() == every - later
    status["changed"] = None
    cost.main()
    assert "What is done is not known: ERROR: not here." in capsys.readouterr().out


def test_a_rate_of_its_own_comes_before_that_of_its_kind(here, status, capsys):
    name = "finetune@demo-proseco-mini_voc_10-43"
    cost.main(csv=True, images_per_second=f"finetune=10,{name}=4,predict=5")
    rates = {(row["item"], row["work"]): row["images/s"] for row in rows_of(capsys)}
    assert rates[name, "finetune"] == "4" and rates[name, "predict"] == "5"
    assert rates["finetune@demo-proseco-mini_voc_10-42", "finetune"] == "10"
    assert rates["pretrain@demo-proseco", "pretrain"] == "?"


def test_mistakes(here):
    for options, words in (
        ({"scale": "papre"}, "'papre'"),
        ({"batch": 4}, "goes with --measure"),
        ({"batch": 0, "measure": True}, "--batch is 0"),
        ({"images_per_second": "x=3"}, "'x'"),
    ):
        with pytest.raises(InputError, match=words):
            cost.main(**options)


@pytest.mark.parametrize("scale", ["demo", "paper"])
@pytest.mark.parametrize("batch", [None, 2])
def test_the_tiny_run_has_one_row_of_each_network_and_is_a_run(here, scale, batch):
    settings = params.load() | {"scale": scale}
    section = settings["scales"][scale]
    settings["run"] |= {"methods": ["supervised", "detreg_public", "proseco", "proseco_swav"], "ablations": ["sce"]}
    settings["run"]["ablation_benchmarks"] = ["mini_coco_5"]
    section["pretrain"]["detreg_public"] = {"checkpoint": "../nowhere.pth"}
    schema.check(settings)
    small, used, finetuned = _measure.reduced(settings, batch)
    schema.check(small)
    plan.resolve(small)
    assert used == ["proseco", "supervised"] and finetuned == ["supervised"]
    row, whole = (rows.row(each, scale, "proseco") for each in (small, settings))
    assert row.detector == whole.detector and row.views == whole.views and row.loss == whole.loss
    assert row.pretrain["method"] == whole.pretrain["method"]
    schedule = row.pretrain["schedule"]
    assert schedule["batch"] == (batch or whole.pretrain["schedule"]["batch"]) and schedule["steps"] == 14
    assert not any("checkpoint" in entry for entry in small["scales"][scale]["backbones"].values())
    counted = estimate.workloads(small)
    assert {work.kind for work in counted} >= {"propose", "pretrain", "finetune", "predict"}
    assert sum(work.seen for work in counted) < 6000


@pytest.mark.slow
def test_the_measurement(here, capsys):
    def edit(settings):
        for part in (settings["scales"]["demo"]["pretrain"]["proseco"], settings["scales"]["demo"]["schedules"]):
            for schedule in part.values():
                if isinstance(schedule, dict) and "batch" in schedule:
                    schedule["batch"] = 2
        settings["run"].update(methods=["proseco"], benchmarks=["mini_coco_5"], seeds=[1])

    yaml = YAML()
    settings = yaml.load(Path("params.yaml"))
    edit(settings)
    yaml.dump(settings, Path("params.yaml"))
    cost.main(measure=True, csv=True)
    found = {row["work"]: row for row in rows_of(capsys)}
    assert set(found) == {"propose", "backbone", "pretrain", "finetune", "predict"}
    for row in found.values():
        assert row["rate from"].startswith("measured") and float(row["images/s"]) > 0
    assert not list(Path("results").glob("*")) and not Path(".scratch").exists()
