"""Programs side by side: each after those that it needs, a given number at a time, with a log of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

#: Seconds that programs have to end by themselves once they were told to.
_GRACE = 60.0


@dataclass(frozen=True)
class Job:
    """A program, and the names of the jobs that must have ended well before it begins."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass
class _Running:
    job: Job
    slot: int
    process: subprocess.Popen
    since: float


def run(jobs: list[Job], slots: list[dict[str, str]], logs: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Run all; one that fails stops none but those that need it.

    SIGINT, SIGTERM and SIGHUP are passed on to all that run, with the programs that they have started, and then raise
    KeyboardInterrupt.

    :param jobs: none after one that needs it; what a job needs and is not among them is taken as done.
    :param slots: environment variables of each job that runs at the same time; there are as many jobs at once.
    :param logs: folder for ``<name>.log``, standard output and error together.
    :param say: is given a line when a job begins and when it ends.
    :returns: name -> why, of the jobs that did not end well.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting, free, running = list(jobs), list(range(len(slots))), []
    failed: dict[str, str] = {}
    with _signals() as came:
        try:
            while (waiting or running) and not came:
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    free.append(one.slot)
                    if one.process.returncode:
                        failed[one.job.name] = _reason(logs / f"{one.job.name}.log", one.process.returncode)
                    how = "failed" if one.process.returncode else "done"
                    ended = len(jobs) - len(waiting) - len(running)
                    say(f"[{ended}/{len(jobs)}] {one.job.name}: {how} after {time.monotonic() - one.since:.0f} s")
                for job in list(waiting):
                    lost = [name for name in job.needs if name in failed]
                    if lost:
                        waiting.remove(job)
                        failed[job.name] = f"not run, for {lost[0]} failed"
                    elif free and not _pending(job, waiting, running):
                        waiting.remove(job)
                        running.append(_start(job, free.pop(0), slots, logs))
                        say(f"{job.name}: begun ({logs / job.name}.log)")
                time.sleep(0.1)
        finally:
            _end(running, came)
    if came:
        raise KeyboardInterrupt
    return failed


def _pending(job: Job, waiting: list[Job], running: list[_Running]) -> bool:
    names = {other.name for other in waiting} | {one.job.name for one in running}
    return bool(names & set(job.needs))


def _start(job: Job, slot: int, slots: list[dict[str, str]], logs: Path) -> _Running:
    with open(logs / f"{job.name}.log", "wb") as log:
        process = subprocess.Popen(
            job.command,
            env=os.environ | slots[slot],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which a signal reaches whole, and once
        )
    return _Running(job, slot, process, time.monotonic())


def _reason(log: Path, code: int) -> str:
    """The line of an error in a log, where there is one, else the last line."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name} ({log})"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.partition("error: ")[2] for line in lines if "error: " in line]  # a progress bar may stand before it
    return f"{(errors or lines or [f'exit code {code}'])[-1]} ({log})"


@contextmanager
def _signals():
    """A list of the signals that came. None interrupts what is done at the moment: a start would be forgotten."""
    came: list[int] = []
    chosen = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in chosen}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(running: list[_Running], came: list[int]) -> None:
    """Pass a signal on and wait; at the second one, or when the time is up, kill."""
    for one in running:
        _signal(one, came[0] if came else signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while len(came) < 2 and time.monotonic() < deadline and any(_alive(one) for one in running):
        time.sleep(0.1)
    for one in running:
        _signal(one, signal.SIGKILL)
        one.process.wait()


def _alive(one: _Running) -> bool:
    """Whether the program runs, or any that it has started and left behind."""
    one.process.poll()
    try:
        os.killpg(one.process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _signal(one: _Running, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(one.process.pid, number)
