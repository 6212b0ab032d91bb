import shutil
import sys
from pathlib import Path

import pytest

from proseco.__main__ import COMMANDS
from proseco.base import cli
from proseco.demo import data_sets
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    counts = {"scenes": 1, "objects": 12, "coco_train": 13, "coco_val": 6, "voc_trainval": 9, "voc_test": 6}
    data_sets.write(out, seed=3, side=48, object_side=32, fsod_train=6, fsod_test=7, workers=1, **counts)
    return out


@pytest.fixture
def called(monkeypatch, capsys):
    """Run a command by its words, in this process: exit code, lines on standard output, text on standard error."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["proseco", *map(str, words)])
        code = 0
        try:
            cli.run(COMMANDS)
        except SystemExit as end:
            code = end.code
        done = capsys.readouterr()
        return code, done.out.splitlines(), done.err

    return call


@pytest.fixture
def folder(drawn, tmp_path, monkeypatch):
    """A working directory with the demo's data and parameters."""
    shutil.copytree(drawn, tmp_path / "data/demo")
    params_file.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
