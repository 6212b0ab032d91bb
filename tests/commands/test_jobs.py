"""Programs side by side: order, shares, failures, signals. The programs are lines of Python."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from proseco.commands._jobs import Job, run

ROOT = Path(__file__).resolve().parents[2]


def job(name, program, needs=()):
    return Job(name, (sys.executable, "-S", "-c", program), needs)


def note(folder, name, seconds=0.0):
    """A program that leaves a file when it begins, and one when it ends."""
    return (
        f"import pathlib, time, os; here = pathlib.Path({str(folder)!r}); (here / '{name}.begin').touch()\n"
        f"time.sleep({seconds}); (here / '{name}.end').write_text(os.environ.get('SLOT', ''))"
    )


def test_a_job_begins_when_what_it_needs_has_ended(tmp_path):
    check = f"import pathlib, sys; sys.exit(not pathlib.Path({str(tmp_path)!r}, 'first.end').exists())"
    said = []
    jobs = [job("first", note(tmp_path, "first", 0.3)), job("second", check, ("first", "made before"))]
    assert run(jobs, [{}, {}, {}], tmp_path / "logs", said.append) == {}
    assert [line.split(" after")[0] for line in said] == [
        f"first: begun ({tmp_path}/logs/first.log)",
        "[1/2] first: done",
        f"second: begun ({tmp_path}/logs/second.log)",
        "[2/2] second: done",
    ]


def test_jobs_run_at_once_each_in_a_slot_of_its_own(tmp_path):
    meet = (  # each waits until the other has begun: one after the other, they would wait for ever
        "import pathlib, time, os, sys; here = pathlib.Path({0!r}); (here / '{1}').write_text(os.environ['SLOT'])\n"
        "end = time.time() + 20\n"
        "while not (here / '{2}').exists():\n    time.sleep(0.01); time.time() < end or sys.exit(1)"
    )
    jobs = [job("a", meet.format(str(tmp_path), "a", "b")), job("b", meet.format(str(tmp_path), "b", "a"))]
    jobs.append(job("c", note(tmp_path, "c")))
    assert run(jobs, [{"SLOT": "0"}, {"SLOT": "1"}], tmp_path / "logs", lambda line: None) == {}
    assert {(tmp_path / "a").read_text(), (tmp_path / "b").read_text()} == {"0", "1"}
    assert (tmp_path / "c.end").read_text() in ("0", "1")


def test_a_failure_stops_only_what_needs_it(tmp_path):
    fails = "import sys; print('much')\nsys.stderr.write('\\r1/2|##|error: no such thing\\n')\n"
    fails += "print('ERROR: x'); sys.exit(3)"
    jobs = [
        job("fails", fails),
        job("killed", "import os; os.kill(os.getpid(), 9)"),
        job("silent", "raise SystemExit(4)"),
        job("needs", note(tmp_path, "needs"), ("fails",)),
        job("needs that", note(tmp_path, "that"), ("needs",)),
        job("other", note(tmp_path, "other")),
    ]
    failed = run(jobs, [{}], tmp_path / "logs", lambda line: None)
    assert failed == {
        "fails": f"no such thing ({tmp_path}/logs/fails.log)",
        "killed": f"ended by SIGKILL ({tmp_path}/logs/killed.log)",
        "silent": f"exit code 4 ({tmp_path}/logs/silent.log)",
        "needs": "not run, for fails failed",
        "needs that": "not run, for needs failed",
    }
    assert (tmp_path / "other.end").exists()
    assert not (tmp_path / "needs.begin").exists() and not (tmp_path / "that.begin").exists()
    assert (tmp_path / "logs/fails.log").read_text().splitlines()[0] == "much"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_programs_and_those_that_they_have_started(tmp_path, number):
    child = f"import signal, time, pathlib; pathlib.Path({str(tmp_path)!r}, 'child').touch(); time.sleep(60)"
    parent = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-S', '-c', {child!r}]); "
    parent += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); p.wait()"
    other = note(tmp_path, "never")

    def send():
        while not (tmp_path / "child").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    before, begin = signal.getsignal(number), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run([job("long", parent), job("next", other)], [{}], tmp_path / "logs", lambda line: None)
    assert time.monotonic() - begin < 50 and signal.getsignal(number) == before
    assert not (tmp_path / "never.begin").exists()
    pid = int((tmp_path / "pid").read_text())
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    assert state.strip()[:1] in ("", "Z")
