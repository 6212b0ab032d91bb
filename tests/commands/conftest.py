import shutil
from pathlib import Path

import pytest

from proseco.data import demo

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    counts = {"scenes": 1, "objects": 12, "coco_train": 13, "coco_val": 6, "voc_trainval": 9, "voc_test": 6}
    demo.write(out, seed=3, side=48, object_side=32, fsod_train=6, fsod_test=7, workers=1, **counts)
    return out


@pytest.fixture
def folder(drawn, tmp_path, monkeypatch):
    """A working directory with the demo's data and parameters."""
    shutil.copytree(drawn, tmp_path / "data/demo")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
