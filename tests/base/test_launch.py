"""Several processes of one program: who speaks, who ends when, what is left. Without torch: they do nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proseco.base import launch

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import atexit
import os
import signal
import sys
import time
from pathlib import Path

from proseco.base import environment, launch
from proseco.base.errors import InputError, PeerLost


def main(*, what: str) -> None:
    rank = environment.rank()
    with launch.replacing("out") as out:
        out.write_text(f"{rank} of {environment.world()}")
        Path(f"pid-{rank}").write_text(str(os.getpid()))
        if what == "all":
            raise InputError("no scale named 'dmeo'")
        if what == "hangs" and rank == 1:
            atexit.register(time.sleep, 50)
            raise InputError("image b is damaged")
        if what == "one" and rank == 1:
            raise InputError("image b is damaged")
        if what == "lost":
            if rank == 1:
                raise FloatingPointError("step 3: giou is not finite")
            time.sleep(0.3)
            raise PeerLost("connection closed")
        if what == "dies" and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "bug" and rank == 1:
            raise RuntimeError("ours")
        if what == "stop":
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(7 if rank else 1))
        if what in ("one", "wait", "stop", "hangs"):
            Path(f"ready-{rank}").touch()
            time.sleep(60)


if __name__ == "__main__":
    launch.run(main, alone=lambda *, what: what == "alone")
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)

    def start(what, processes="2", **variables):
        environment = {"PATH": "", "PYTHONPATH": str(ROOT), "PROSECO_NPROC": processes} | variables
        command = [sys.executable, "-m", "program", *(["--what", what] if what else [])]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes)

    return start


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("processes", "said"), [("1", "0 of 1"), ("", "0 of 1"), ("3", "0 of 3")])
def test_the_first_process_writes(start, tmp_path, processes, said):
    done = start("nothing", processes)
    assert done.communicate() == ("", "") and done.returncode == 0
    assert (tmp_path / "out").read_text() == said
    assert not list(tmp_path.glob(".out*"))
    assert len(list(tmp_path.glob("pid-*"))) == int(processes or 1)


def test_where_there_is_nothing_to_share_one_process_does(start, tmp_path):
    done = start("alone", "3")
    assert done.communicate() == ("", "") and done.returncode == 0
    assert (tmp_path / "out").read_text() == "0 of 1" and len(list(tmp_path.glob("pid-*"))) == 1
    assert "must be a whole number" in start("alone", "many").communicate()[1]


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("all", "error: no scale named 'dmeo'"),
        ("one", "error: image b is damaged"),
        ("lost", "error: step 3: giou is not finite"),
        ("dies", "error: process 1 of 2 was ended by SIGKILL"),
        ("hangs", "error: image b is damaged"),  # in the interpreter's end, as NCCL may
    ],
)
def test_an_error_of_one_ends_all_with_one_line(start, tmp_path, what, line):
    begun = time.monotonic()
    done = start(what)
    assert done.communicate()[1] == line + "\n" and done.returncode == 1
    assert time.monotonic() - begun < 30
    assert not any(alive(path.read_text()) for path in tmp_path.glob("pid-*"))
    assert (tmp_path / "out").exists() == (what == "dies")  # there the first had done its part


def test_a_bug_of_ours_has_one_traceback(start):
    done = start("bug")
    errors = done.communicate()[1]
    assert done.returncode == 1 and errors.count("Traceback") == 1 and "RuntimeError: ours" in errors


def test_a_wrong_option_is_said_once(start):
    done = start(None)
    errors = done.communicate()[1]
    assert done.returncode == 2 and errors.count("required: --what") == 1


@pytest.mark.parametrize("given", ["0", "two", "-1"])
def test_a_wrong_number_is_one_line(start, given):
    done = start("nothing", given)
    line = f"error: PROSECO_NPROC is {given!r}; it must be a whole number from 1, or auto (environment)\n"
    assert done.communicate()[1] == line and done.returncode == 1


def test_sigterm_reaches_all_and_they_end_by_themselves(start, tmp_path):
    done = start("stop")
    until(lambda: len(list(tmp_path.glob("ready-*"))) == 2)
    done.terminate()
    assert done.wait(20) == 1
    assert not list(tmp_path.glob(".out*"))  # the block of replacing was left in order


@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc to see by whether a process lives")
def test_the_death_of_the_first_is_that_of_all(start, tmp_path):
    done = start("wait")
    until(lambda: len(list(tmp_path.glob("ready-*"))) == 2)
    children = [path.read_text() for path in tmp_path.glob("pid-*")]
    assert all(alive(child) for child in children)
    os.kill(done.pid, signal.SIGKILL)
    done.wait()
    until(lambda: not any(alive(child) for child in children))


def test_under_torchrun_nothing_is_started(start, tmp_path):
    done = start("nothing", "4", RANK="1", WORLD_SIZE="2")
    assert done.communicate() == ("", "") and done.returncode == 0
    assert [path.name for path in tmp_path.glob("pid-*")] == ["pid-1"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, "backend:native"),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, None),
    ],
)
def test_memory_grows_unless_the_environment_says_how(monkeypatch, given, expected):
    monkeypatch.setattr(os, "environ", dict(given))
    launch.grow_memory()
    assert os.environ.get("PYTORCH_CUDA_ALLOC_CONF") == expected
