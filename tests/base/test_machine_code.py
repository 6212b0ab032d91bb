"""Machine code of a former state of any file is never run, and a process finds what another has compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from proseco.base import machine_code

ROOT = Path(__file__).resolve().parents[2]
USER = """
from proseco.base.machine_code import compiler
from proseco.proposals._between import NUMBER

_compiled = compiler(__file__)


@_compiled
def number():
    return NUMBER
"""
RUN = """
from proseco.proposals._user import number
print(number(), "compiled" if sum(number.stats.cache_misses.values()) or not number.stats.cache_path else "found")
print(number.stats.cache_path)
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of the program, with a function that is compiled with a constant of another file's other file."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "proseco", folder / "proseco", ignore=shutil.ignore_patterns("__pycache__"))
    proposals = folder / "proseco/proposals"
    (proposals / "_user.py").write_text(USER)
    (proposals / "_between.py").write_text("from proseco.proposals._constant import NUMBER as NUMBER\n")
    (proposals / "_constant.py").write_text("NUMBER = 1\n")
    return folder


def run(checkout, program=RUN, **variables):
    """The lines that a process in the checkout prints."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", program]
    return subprocess.check_output(command, cwd=checkout, env=kept | variables, text=True).splitlines()


def test_a_change_of_what_a_file_imports_compiles_it_anew(checkout):
    first, where = run(checkout)
    assert first == "1 compiled" and Path(where).is_relative_to(checkout / "proseco/proposals/__pycache__/numba")
    assert run(checkout)[0] == "1 found"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(where).iterdir()}
    (checkout / "proseco/proposals/_constant.py").write_text("NUMBER = 2\n")
    assert run(checkout)[0] == "2 compiled"
    # Else a process that is killed between numba's index and the code would leave the one with the other.
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(where).iterdir()}
    (checkout / "proseco/proposals/_constant.py").write_text("NUMBER = 1\n")
    assert run(checkout)[0] == "1 found"


def test_the_user_s_folder_is_taken_where_one_is_given(checkout, tmp_path):
    given = {"NUMBA_CACHE_DIR": str(tmp_path / "given")}
    first, where = run(checkout, **given)
    assert first == "1 compiled" and Path(where).is_relative_to(tmp_path / "given/proseco")
    assert run(checkout, **given)[0] == "1 found"
    (checkout / "proseco/proposals/_constant.py").write_text("NUMBER = 2\n")
    assert run(checkout, **given)[0] == "2 compiled"


def test_a_checkout_that_cannot_be_written(checkout, tmp_path):
    (checkout / "proseco/proposals/__pycache__").touch()  # no folder can be made there, by root neither
    home = {"XDG_CACHE_HOME": str(tmp_path / "home")}
    first, where = run(checkout, **home)
    assert first == "1 compiled" and Path(where).is_relative_to(tmp_path / "home/proseco/numba")
    assert run(checkout, **home)[0] == "1 found"
    for _ in range(2):
        assert run(checkout, XDG_CACHE_HOME=str(checkout / "proseco/proposals/_user.py")) == ["1 compiled", "None"]


def test_former_states_do_not_pile_up(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", "")
    source, other = tmp_path / "kernels.py", tmp_path / "kernels-2.py"
    other.write_text("")
    machine_code._folder(other)
    found = []
    for state in range(machine_code._KEPT + 3):
        source.write_text(f"N = {state}")
        found.append(machine_code._folder(source))
        for age, folder in enumerate(reversed(found)):
            if folder.exists():
                os.utime(folder, (1e9 - age, 1e9 - age))
        source.write_text("N = 0")
        assert machine_code._folder(source) == found[0]  # a branch that one comes back to
    assert [folder.exists() for folder in found] == [True, *[False] * 3, *[True] * (machine_code._KEPT - 1)]
    assert machine_code._folder(other).exists()


def test_other_users_of_numba_keep_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "theirs"))
    made = machine_code.compiler(__file__)(lambda: 1)
    assert made() == 1 and Path(config.CACHE_DIR) == tmp_path / "theirs"
    assert Path(made.stats.cache_path).is_relative_to(tmp_path / "theirs/proseco")
