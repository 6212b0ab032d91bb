import shutil
from pathlib import Path

import pytest

from proseco.base import params
from proseco.base.errors import InputError
from proseco.commands import select

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_selection_becomes_the_run_and_nothing_else_changes(folder, capsys):
    before, text = params.load(), Path("params.yaml").read_text()
    select.main("full")
    after, changed = params.load(), Path("params.yaml").read_text()
    assert after == before | {"run": before["selections"]["full"]} and "selection full" in capsys.readouterr().out
    start, end = text.index("\nrun:"), text.index("\nselections:")
    assert changed.startswith(text[:start]) and changed.endswith(text[end:])
    select.main("full")  # once more changes nothing
    assert Path("params.yaml").read_text() == changed


def test_a_selection_that_there_is_not_leaves_the_file_alone(folder):
    text = Path("params.yaml").read_text()
    with pytest.raises(InputError, match="no selection named 'ful'"):
        select.main("ful")
    assert Path("params.yaml").read_text() == text


def test_values_that_yaml_would_read_as_something_else_are_quoted(folder):
    value = {"methods": ["1e3", "yes", "null", "plain"], "seeds": [7], "ablations": []}
    params.replace("run", value)
    assert params.load()["run"] == value
