import subprocess
import sys
from pathlib import Path

import pytest

from proseco.base import scratch
from proseco.base.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys
from proseco.base import scratch
with scratch.folder("stage", code=[], inputs=[], delta=0.5):
    print("here", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PROSECO_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def place(**changes):
    options = {"code": [], "inputs": [], "delta": 0.5} | changes
    with scratch.folder("stage", **options) as folder:
        return folder


def test_it_is_kept_after_a_failure_and_removed_after_success(root):
    with pytest.raises(RuntimeError), scratch.folder("stage", code=[], inputs=[], delta=0.5) as folder:
        (folder / "state").write_text("half done")
        raise RuntimeError
    assert folder.parent == root / "stage" and folder.is_absolute()
    with scratch.folder("stage", code=[], inputs=[], delta=0.5) as again:
        assert again == folder and (again / "state").read_text() == "half done"
    assert not folder.exists()


def test_another_work_has_another_place(root, tmp_path):
    (tmp_path / "input").write_text("a")
    (tmp_path / "other").write_text("b")
    work = {"code": ["proseco/base/cli.py"], "inputs": [tmp_path / "input"], "delta": 0.5}
    changed = [{"delta": 0.7}, {"code": ["proseco/base/files.py"]}, {"inputs": [tmp_path / "other"]}, {"seed": 1}]
    places = [place(**work), *(place(**(work | change)) for change in changed)]
    assert len(set(places)) == 5
    assert place(**work) == places[0]
    (tmp_path / "input").write_text("c")
    assert place(**work) != places[0]


def test_a_missing_input_is_named(root, tmp_path):
    with pytest.raises(InputError, match=r"no file '.*absent'"):
        place(inputs=[tmp_path / "absent"])


def test_a_second_living_writer_is_refused_and_a_dead_one_is_not(root):
    command = [sys.executable, "-c", HOLDER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    assert holder.stdout.readline() == "here\n"
    with pytest.raises(InputError, match=rf"process {holder.pid} on .* is at the same work .*wait for it, or end it"):
        place()
    place(delta=0.7)  # is other work
    holder.kill()
    holder.wait()
    place()


def test_other_processes_of_the_training_use_it_without_the_lock(root, monkeypatch):
    with scratch.folder("stage", code=[], inputs=[], delta=0.5) as folder:
        monkeypatch.setenv("RANK", "1")
        assert place() == folder and folder.exists()


def test_it_lies_in_the_repository_that_dvc_was_started_in(tmp_path, monkeypatch):
    monkeypatch.delenv("PROSECO_SCRATCH", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "outer"))
    monkeypatch.chdir(tmp_path)
    assert place().is_relative_to(tmp_path / "outer/.scratch/stage")
    monkeypatch.delenv("DVC_ROOT")
    assert place().is_relative_to(tmp_path / ".scratch/stage")
