"""``cells``: the trainings of a run side by side, one per GPU."""

import os
import shlex
import subprocess
import sys

from proseco.base import environment, params
from proseco.base.errors import InputError
from proseco.commands import _jobs
from proseco.experiment import matrix, schema

#: Stages whose items run side by side; the others are made before, one after the other.
TRAININGS = ("pretrain", "pretrain_ablation", "finetune", "finetune_ablation")
#: Of those others, what may refuse labels or checkpoints: in a command of its own, as DVC goes through several targets
#: in no order that is of use.
FIRST = ("split", "backbone")


def main(*, jobs: int | None = None, dry: bool = False) -> None:
    """Make what the trainings of run: need, then pretrain and finetune side by side, each training on one GPU.

    A training that fails stops none but those that start from it; exit code 1 then. `dvc repro` makes the tables of
    what is there.

    :param jobs: how many at a time; without it one per GPU, or one. On a CPU they share the cores.
    :param dry: print the commands, run none.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs is {jobs}; it must be a whole number above 0")
    settings = params.load()
    schema.check(settings)
    slots = _slots(settings["device"], jobs)
    items = matrix.items(settings)
    before = [item for item in items if item.stage not in TRAININGS]
    parts = [[item.name for item in before if (item.stage in FIRST) is first] for first in (True, False)]
    preparations = [_dvc(*names) for names in parts]
    programs = [_jobs.Job(item.name, _dvc("-s", item.name), item.needs) for item in items if item.stage in TRAININGS]
    if dry:
        print(*map(shlex.join, preparations), sep="\n")
        for number, job in enumerate(programs):
            variables = slots[number % len(slots)]
            print(*(f"{name}={value}" for name, value in variables.items()), shlex.join(job.command))
        return
    if any(subprocess.run(command, check=False).returncode for command in preparations):
        raise InputError("what the trainings need could not be made; no training was begun")
    failed = _jobs.run(programs, slots, environment.scratch() / "cells", lambda line: print(line, flush=True))
    if failed:
        print(*(f"error: {name}: {why}" for name, why in failed.items()), sep="\n", file=sys.stderr)
        raise SystemExit(1)
    print(f"all {len(programs)} trainings are done; dvc repro makes the tables")


def _dvc(*words: str) -> tuple[str, ...]:
    """``dvc repro``. It holds the repository's lock but for the time of a stage's command, and takes it again then:
    unless told to wait, it gives up after three seconds, and what was trained is lost to it.
    """
    return (sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *words)


def _slots(device: str, jobs: int | None) -> list[dict[str, str]]:
    """Environment variables of each training that runs at the same time: its GPU, and its share of the cores.

    What the user has set stays as it is, but for the GPUs, which are shared out.
    """
    devices = [] if device == "cpu" else _devices()
    count = jobs or len(devices) or 1
    cores = max(1, environment.cores() // count)
    share = {"OMP_NUM_THREADS": str(cores)}
    if devices:
        share["PROSECO_WORKERS"] = str(min(16, max(1, cores - 1)))
    share = {name: value for name, value in share.items() if name not in os.environ}
    own = [{"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {} for number in range(count)]
    return [variables | share for variables in own]


def _devices() -> list[str]:
    """Numbers or names of the GPUs that a program started here would see. torch would know, but takes seconds."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    try:
        listed = subprocess.run(("nvidia-smi", "-L"), capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]
