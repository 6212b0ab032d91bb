"""The list of items against DVC's own reading of dvc.yaml."""

import shutil
import subprocess
import sys
from pathlib import Path

from proseco.base import params
from proseco.experiment import matrix
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]
LISTED = ("propose", "split", "source", "backbone", "pretrain", "finetune")


def test_items_are_those_of_dvc_in_an_order_that_can_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    params_file.write(tmp_path)
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    subprocess.run(["git", "init", "-q"], check=True)
    run = params.load()["selections"]["full"] | {"seeds": [7, 1], "benchmarks": ["mini_coco_5", "voc_0712"]}
    params.replace("run", run)
    found = matrix.items(params.load())
    names = [item.name for item in found]
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(names) == sorted(n for n in listed if n.split("@")[0].removesuffix("_ablation") in LISTED)
    assert len(names) == len(set(names))
    for item in found:
        assert item.name.startswith(f"{item.stage}@demo")
        assert all(names.index(need) < names.index(item.name) for need in item.needs)
    chosen = next(item for item in found if item.name == "finetune_ablation@demo-sce-mini_coco_5-7")
    assert (chosen.row, chosen.benchmark, chosen.seed) == ("sce", "mini_coco_5", 7)
    assert chosen.needs == ("split@demo-mini_coco_5", "pretrain_ablation@demo-sce")
