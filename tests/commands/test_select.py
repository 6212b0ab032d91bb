from pathlib import Path

import pytest

from proseco.base import params
from proseco.base.errors import InputError
from proseco.commands import select
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    params_file.write(tmp_path)
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


def test_a_number_sign_within_a_value_is_no_comment(folder):
    (folder / "params.yaml").write_text('run:\n  methods: ["x #y", "x#y"]  # rows\n  seeds: [1]\n')
    params.replace("run", {"methods": ["a"], "seeds": [2]})
    assert (folder / "params.yaml").read_text() == "run:\n  methods:  # rows\n  - a\n  seeds:\n  - 2\n"


TEXT = """seed: 0
run:   # what runs
  methods:  # rows
  - a
#  - b
  seeds: [1]
  # of its last key

# Of the next section,
# in two lines.
other: {x: 1}
"""
CHANGED = """seed: 0
run:   # what runs
  methods:  # rows
  - c
  seeds:
  - 2

# Of the next section,
# in two lines.
other: {x: 1}
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_comments_in_the_first_column_and_ends_of_lines(folder, end):
    path = folder / "params.yaml"
    path.write_bytes(TEXT.replace("\n", end).encode())
    params.replace("run", {"methods": ["c"], "seeds": [2]})
    assert path.read_bytes() == CHANGED.replace("\n", end).encode()


def test_a_section_at_the_end(folder):
    path = folder / "params.yaml"
    path.write_text("seed: 0\nrun:\n  seeds:\n  - 1")
    params.replace("run", {"seeds": [2]})
    assert path.read_text() == "seed: 0\nrun:\n  seeds:\n  - 2\n"


@pytest.mark.parametrize(
    "text", ["run: {seeds: [1]}\n", '"run":\n  seeds: [1]\n', "run: &it\n  seeds: [1]\nother: *it\n", "{run: {}}"]
)
def test_a_section_in_another_form_is_left_alone(folder, text):
    path = folder / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"^params\.yaml: cannot replace 'run'; expected 'run:' alone in a line"):
        params.replace("run", {"seeds": [2]})
    assert path.read_text() == text
