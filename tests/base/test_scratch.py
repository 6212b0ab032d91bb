import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from proseco.base import launch, provenance, scratch, sources
from proseco.base.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from pathlib import Path
from proseco.base import scratch
with scratch.claimed(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""
WORK = {"code": [], "inputs": [], "delta": 0.5}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PROSECO_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def hold():
    """Start processes that hold a folder; -> each and the words that name it."""
    with ExitStack() as stack:

        def start(folder, part=""):
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = subprocess.Popen([sys.executable, "-c", HOLD, folder, part], cwd=ROOT, **pipes)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout.readline() == b"held\n"
            return process, f"process {process.pid} on {socket.gethostname()}" + (f" ({part})" if part else "")

        yield start


def refused(folder, part=""):
    words = r"is at work in '.*'; wait for it, or end it"
    with pytest.raises(InputError, match=words) as caught, scratch.claimed(folder, part):
        pass
    return str(caught.value).split(" is at work")[0]


def test_a_folder_is_kept_after_a_failure_and_removed_after_success(root):
    with pytest.raises(RuntimeError), scratch.folder("stage", **WORK) as folder:
        (folder / "state").write_text("half done")
        raise RuntimeError
    assert folder.parent == root / "stage" and folder.is_absolute()
    with scratch.folder("stage", **WORK) as again:
        assert again == folder and (again / "state").read_text() == "half done"
    assert not folder.exists()


STARTED = """
import sys
import time
from pathlib import Path

from proseco.base import environment, launch, scratch

def main() -> None:
    with scratch.folder("stage", code=[], x=1) as folder:
        Path(f"ready-{environment.rank()}").write_text(str(folder))
        while not Path("go").exists():
            time.sleep(0.01)
        if Path("late").exists():
            time.sleep(0.5)  # for the launcher to look once more

if __name__ == "__main__":
    launch.run(main)
"""


@pytest.mark.parametrize(("processes", "through"), [(1, ""), (2, ""), (1, "; true"), (2, "; true")])
@pytest.mark.parametrize("starter_ends", [True, False])
def test_work_of_a_dead_starter_is_kept(tmp_path, processes, through, starter_ends):
    """DVC alone was killed: the next run deletes the outputs, and goes on from the states.

    :param through: what makes every shell stay, as Debian's does, between DVC and the stage.
    """
    if through and not Path("/proc/self/stat").exists():
        pytest.skip("who started a shell is read from Linux's /proc")
    (tmp_path / "program.py").write_text(STARTED)
    variables = {"PYTHONPATH": str(ROOT), "PROSECO_NPROC": str(processes), "PROSECO_SCRATCH": str(tmp_path / "scratch")}
    variables["DVC_STAGE"] = "finetune"
    command = f"import subprocess, sys; subprocess.run('{sys.executable} -m program{through}', shell=True)"
    with subprocess.Popen([sys.executable, "-c", command], cwd=tmp_path, env=os.environ | variables) as starter:
        until(lambda: len(list(tmp_path.glob("ready-*"))) == processes)
        if starter_ends:
            starter.kill()
            starter.wait()
            (tmp_path / "late").touch()
        (tmp_path / "go").touch()
        folder = Path((tmp_path / "ready-0").read_text())
        if starter_ends:
            until(lambda: free(folder / "all.lock"))
        else:
            assert starter.wait() == 0
    assert folder.exists() == starter_ends


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def free(lock):
    with open(lock, "rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
    return True


def test_what_changes_while_the_work_runs_is_named(tmp_path):
    (tmp_path / "input").write_text("one")
    check = scratch.watch(code=[Path("proseco/boxes.py")], inputs=[tmp_path / "input", tmp_path / "absent"])
    check()
    (tmp_path / "input").write_text("two")
    words = r"input changed while this ran, and DVC .*; undo the change, and the same command goes on"
    with pytest.raises(InputError, match=words):
        check()
    (tmp_path / "input").unlink()
    (tmp_path / "absent").write_text("there")
    with pytest.raises(InputError, match=r"absent, .*input changed while"):
        check()
    (tmp_path / "absent").unlink()
    (tmp_path / "input").write_text("one")
    check()


def test_code_that_stage_plan_read_must_be_what_runs(tmp_path):
    """Under DVC its digests stand for the files of plug-ins."""
    code = Path("proseco/losses/locsce.py")
    planned = sources.digests([code])
    scratch.watch(code=[code], planned=planned)()
    with pytest.raises(
        InputError, match=r"^proseco/losses/_ranges\.py changed since stage plan read it; run `dvc repro`"
    ):
        scratch.watch(code=[code], planned=planned | {"proseco/losses/_ranges.py": "0" * 32})


def test_a_training_s_outputs_take_their_place_if_nothing_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("input").write_text("one")
    given = {"code": [], "inputs": [Path("input")], "planned": {}, "x": 1}
    with (
        pytest.raises(InputError, match=r"^input changed while this ran"),
        launch.working("train", Path("out"), Path("results"), **given) as (work, out, results),
    ):
        for path in (out, results, work / "state"):
            path.write_text("made")
        Path("input").write_text("two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["input", "scratch"]
    Path("input").write_text("one")
    with launch.working("train", Path("out"), Path("results"), **given) as (again, out, results):
        assert again == work and (again / "state").read_text() == "made"
        for path in (out, results):
            path.write_text("made")
    assert Path("out").read_text() == Path("results").read_text() == "made" and not work.exists()


def test_code_is_watched_with_what_it_imports(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "proseco/nn", tmp_path / "proseco/nn")
    monkeypatch.setattr(sources, "_PACKAGE", tmp_path / "proseco")
    check = scratch.watch(code=[Path("proseco/nn/matcher.py")])
    (tmp_path / "proseco/nn/tensors.py").write_text("# changed\n")
    with pytest.raises(InputError, match=r"^proseco/nn/tensors\.py changed while this ran"):
        check()


def test_other_processes_of_a_training_use_the_folder_without_holding_it(monkeypatch):
    with scratch.folder("stage", **WORK) as folder:
        monkeypatch.setenv("RANK", "1")
        with scratch.folder("stage", **WORK) as other:
            assert other == folder
        assert folder.exists()


def test_a_second_writer_is_refused_and_a_dead_one_forgotten(tmp_path, hold):
    first, who = hold(tmp_path / "work")
    assert refused(tmp_path / "work") == who and refused(tmp_path / "work", "part-1-of-2") == who
    first.kill()
    first.wait()
    for part in ("", "part-1-of-2"):
        with scratch.claimed(tmp_path / "work", part):
            assert (tmp_path / "work").is_dir()


def test_parts_work_beside_each_other(tmp_path, hold):
    folder = tmp_path / "work"
    (_, one), (_, three) = hold(folder, "part-1-of-3"), hold(folder, "part-3-of-3")
    with scratch.claimed(folder, "part-2-of-3"):
        pass
    assert refused(folder, "part-1-of-3") == one
    assert refused(folder) == f"{one} and {three}"


def test_a_finished_run_may_take_the_folder_with_it(tmp_path):
    with scratch.claimed(tmp_path / "work"):
        for path in (tmp_path / "work").iterdir():
            path.unlink()
        (tmp_path / "work").rmdir()
        with scratch.claimed(tmp_path / "work"):  # another one begins anew
            assert len(list((tmp_path / "work").iterdir())) == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    words = r"cannot make '.*file/work': Not a directory \(PROSECO_SCRATCH\)"
    with pytest.raises(InputError, match=words), scratch.claimed(tmp_path / "file/work"):
        pass


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A working tree, with a scratch folder elsewhere."""
    (tmp_path / "tree").mkdir()
    monkeypatch.chdir(tmp_path / "tree")
    monkeypatch.setenv("PROSECO_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "tree"


def test_outputs_are_aside_until_a_run_ends_well(tree):
    out, log = Path("out"), Path("log")
    out.mkdir()
    (out / "weights").write_text("first")
    for _ in range(2):
        with pytest.raises(RuntimeError), scratch.set_aside("before", out, log) as (former, other):
            assert not out.exists() and (former / "weights").read_text() == "first" and not other.exists()
            assert former.is_relative_to(tree.parent / "scratch/before")
            raise RuntimeError
    log.write_text("second")
    with scratch.set_aside("before", out, log) as (former, other):
        assert former.exists() and other.read_text() == "second"
    assert not former.exists() and not log.exists()


def test_a_later_run_s_outputs_take_the_place_of_what_an_earlier_one_put_aside(tree):
    out = Path("out")
    for text in ("first", "second"):
        out.write_text(text)
        with pytest.raises(RuntimeError), scratch.set_aside("before", out) as (former,):
            assert former.read_text() == text
            raise RuntimeError


def test_outputs_are_put_aside_by_one_run_of_a_tree_at_a_time(tree, hold, monkeypatch):
    Path("out").write_text("of this run")
    with scratch.set_aside("before") as _:
        (folder,) = (tree.parent / "scratch/before").iterdir()
    _, who = hold(folder)
    with pytest.raises(InputError, match=who), scratch.set_aside("before", Path("out")):
        pass
    assert Path("out").read_text() == "of this run"
    (tree.parent / "copy").mkdir()
    monkeypatch.chdir(tree.parent / "copy")
    Path("out").write_text("of another tree")
    with scratch.set_aside("before", Path("out")) as (former,):
        assert former.read_text() == "of another tree" and not former.is_relative_to(folder)


def test_other_work_has_another_name(tmp_path, monkeypatch):
    (tmp_path / "input").write_text("a")
    (tmp_path / "other").write_text("b")
    work = {"code": ["proseco/base/cli.py"], "inputs": [tmp_path / "input"], "libraries": ("numpy",), "delta": 0.5}
    changes = [{"delta": None}, {"code": ["proseco/base/params.py"]}, {"inputs": [tmp_path / "other"]}, {"seed": 1}]
    names = [scratch.fingerprint(**work), *(scratch.fingerprint(**(work | change)) for change in changes)]
    assert re.fullmatch("[0-9a-f]{32}", names[0])
    assert scratch.fingerprint(**dict(reversed(work.items()))) == names[0]
    (tmp_path / "input").write_text("c")
    names.append(scratch.fingerprint(**work))
    monkeypatch.setattr(sources, "digests", lambda starts: {"proseco/base/cli.py": "another"})
    names.append(scratch.fingerprint(**work))
    monkeypatch.setattr(provenance, "versions", lambda *names: dict.fromkeys(names, "9.9"))
    names.append(scratch.fingerprint(**work))
    assert len(set(names)) == len(names)


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file '.*absent'"):
        scratch.fingerprint(code=[], libraries=(), inputs=[tmp_path / "absent"])
