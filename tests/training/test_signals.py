"""Signals to a training whose loader has processes of its own: as Slurm, ``timeout`` and Ctrl-C send them, to all."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from proseco.training.snapshots import Snapshots
from tests.training import shared
from tests.training.test_resume import equal

ROOT = Path(__file__).resolve().parents[2]
#: A training that says when it is at its fifth step, and waits there until it is told to go on.
PROGRAM = """
import signal
import time
from pathlib import Path

from proseco.base import cli
from proseco.training.snapshots import Snapshots
from tests.training import shared


def main(folder: str, *, fails: bool = False, macos: bool = False) -> None:
    if macos:
        del signal.sigwaitinfo
    made, folder, calls = shared.pretraining(), Path(folder), []
    losses = made.losses

    def wait(batch):
        calls.append(batch)
        if len(calls) == 5:
            (folder / "ready").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)
        return losses(batch)

    def bug(sample, rng):
        if (folder / "go").exists():
            raise RuntimeError("ours")
        return shared.example(sample, rng)

    made.losses = wait
    options = {"steps": 100, "transform": bug} if fails else {}
    shared.train(made, folder / "log.csv", snapshots=Snapshots(folder, 100), **options)


cli.run(main)
"""

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc to see by whether a process lives")


@pytest.fixture
def start(tmp_path):
    """A training at its fifth step, with two loader processes, all in a group of its own."""
    begun = []

    def start(*options):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), *options]
        environment = os.environ | {"PROSECO_WORKERS": "2"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        pipes["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background ignores it
        begun.append(subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes))
        until(lambda: (tmp_path / "ready").exists() or begun[0].poll() is not None, 60)
        assert len(living(begun[0].pid)) == 3
        return begun[0]

    yield start
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def living(group):
    """Processes of a group, but for those that have ended and that nobody has asked for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its = path.read_text().rpartition(")")[2].split()[:3]
            found += [int(path.parent.name)] if int(its) == group and state not in "ZX" else []
    return found


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_sigterm_to_the_whole_group_saves_the_state(start, tmp_path):
    """The loader's processes die of nobody's SIGTERM but the training's, which would otherwise end in torch's error."""
    process = start()
    os.killpg(process.pid, signal.SIGTERM)
    time.sleep(0.5)  # in which a death of a loader's process would be noticed
    assert len(living(process.pid)) == 3
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=30)
    line = "error: ended by SIGTERM after step 5 of 10; the same command goes on from there\n"
    assert errors.lower().count("error") == 1 and line in errors
    assert process.returncode == 1 and living(process.pid) == []
    assert [path.name[:14] for path in tmp_path.glob("*.pt")] == ["step-000000005"]
    (tmp_path / "undisturbed").mkdir()
    truth = shared.train(shared.pretraining(), tmp_path / "undisturbed" / "log.csv")
    assert equal(truth, shared.train(shared.pretraining(), tmp_path / "log.csv", snapshots=Snapshots(tmp_path, 100)))


def test_an_interrupt_of_the_whole_group_ends_all_in_silence(start):
    process = start()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors
    until(lambda: not living(process.pid))


def test_the_loader_ends_with_a_training_that_is_killed(start):
    process = start()
    process.kill()
    until(lambda: not living(process.pid))


@pytest.mark.parametrize("system", [(), ("--macos",)], ids=["linux", "macos"])
def test_a_bug_of_ours_ends_the_loader_too(start, tmp_path, system):
    """One in the loader: the traceback holds it, and at Python's end nothing but SIGTERM tells its processes to go."""
    process = start("--fails", *system)
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "RuntimeError: ours" in errors
    until(lambda: not living(process.pid))
