"""All that a GPU is to say, in the order of what decides most, within so many minutes.

    python -m benchmarks.on_gpu --out DIR [--minutes 13] [--images DIR] [--only NAME,NAME]

The tests that need a GPU, both kernels of deformable attention, and steps of pretraining and finetuning, with the
Triton kernels and without, compiled and not. Each is a process of its own; what it says is printed, and is in
``DIR/<name>.log``. One that fails or has no time left does not keep the others from running. ``DIR/report.md`` has the
GPU, versions, the date and, of each, the command and the end of what it said. The exit code is 1 where one failed.
"""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import torch

from proseco.base import cli, files, launch
from proseco.base.errors import InputError, one_of
from proseco.training import devices, usage

_LINES = 25  # of each, in the report


@dataclass
class Run:
    """``python -m <words>`` under these environment variables; ``seconds`` are what it may take."""

    words: str
    seconds: int
    variables: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([*(f"{name}={value}" for name, value in self.variables.items()), "python -m", self.words])


def _of_gpu() -> str:
    """Files of tests that need a GPU: the others' imports a machine for measuring need not have."""
    root = Path(__file__).resolve().parents[1]
    files_of_tests = sorted((root / "tests").rglob("test_*.py"))
    marked = [path for path in files_of_tests if "mark.gpu" in path.read_text(encoding="utf-8")]
    return " ".join(shlex.quote(str(path.relative_to(root))) for path in marked)


_KERNEL, _COMPILED = {"PROSECO_ATTENTION": "triton"}, {"PROSECO_COMPILE": "1"}
_ATTENTION = "benchmarks.deformable_attention --device cuda --images 64 --precision bfloat16"
RUNS = {
    "sampling": Run("pytest -q tests/nn/test_sampling.py", 120),
    "attention": Run(_ATTENTION, 90),
    "pretrain": Run("benchmarks.pretrain_step --device cuda --peer-batch 16", 180, _KERNEL),
    "pretrain-compiled": Run("benchmarks.pretrain_step --device cuda --ours-alone", 150, _KERNEL | _COMPILED),
    "finetune": Run("benchmarks.finetune_step --device cuda", 150, _KERNEL),
    "tests": Run(f"pytest -q -m gpu {_of_gpu()}", 180),
    "pretrain-plain-compiled": Run("benchmarks.pretrain_step --device cuda --ours-alone", 150, _COMPILED),
    "finetune-compiled": Run("benchmarks.finetune_step --device cuda --ours-alone", 120, _KERNEL | _COMPILED),
    "pretrain-plain": Run("benchmarks.pretrain_step --device cuda --batch 32 --ours-alone", 90),
    "attention-one-warp": Run(f"{_ATTENTION} --backward 4x1", 60),
    "attention-narrow": Run(f"{_ATTENTION} --forward 8x1", 60),
}


def main(*, out: Path, minutes: float = 13, images: str | None = None, only: str | None = None) -> None:
    """Run what there is time for, and write the report."""
    launch.grow_memory()  # in the processes started here, as in a stage
    where = devices.pick_device("cuda", "this benchmark")
    runs = dict(RUNS)
    if images:
        words = f"benchmarks.pretrain_step --device cuda --ours-alone --images {shlex.quote(images)}"
        runs["pretrain-views"] = Run(words, 150, _KERNEL | _COMPILED)
    for name in only.split(",") if only else ():
        if name not in runs:
            raise one_of("run", name, runs, "--only")
    if only:
        runs = {name: runs[name] for name in only.split(",")}
    out.mkdir(parents=True, exist_ok=True)
    facts = f"{usage.hardware(where)}, torch {torch.__version__}, Python {sys.version.split()[0]}, {date.today()}"
    print(facts)
    end, ended, parts = time.monotonic() + 60 * minutes, [], [f"# {facts}\n"]
    for name, run in runs.items():
        left = min(run.seconds, end - time.monotonic())
        state, said = _run(run, left, out / f"{name}.log") if left >= min(10, run.seconds) else ("no time left", "")
        ended.append(state)
        print(f"== {name}: {state}\n{said}", flush=True)
        parts.append(f"## {name}: {state}\n\n    {run}\n\n```\n{said}```\n")
        files.write_text(out / "report.md", "\n".join(parts))
    bad = [name for name, state in zip(runs, ended, strict=True) if not state.startswith("done")]
    if bad:
        raise InputError(f"{len(bad)} of {len(runs)} did not end well ({', '.join(bad)}); see {out / 'report.md'}")


def _run(run: Run, seconds: float, log: Path) -> tuple[str, str]:
    """How it ended, and the last lines of what it said."""
    begin = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                [sys.executable, "-m", *shlex.split(run.words)],
                env=os.environ | run.variables,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
            state = "done" if done.returncode == 0 else f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            state = "stopped"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return f"{state} after {time.monotonic() - begin:.0f} s", "".join(lines[-_LINES:])


if __name__ == "__main__":
    cli.run(main)
