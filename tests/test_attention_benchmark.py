import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*words, benchmark="deformable_attention"):
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_ends_with_its_ratio():
    done = run("--height", 96, "--width", 128, "--rounds", 3)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["compiled", "plain"]
    name, _, speedup, _, error = lines[-1].split()
    assert name == "deformable_attention:" and float(speedup) > 0 and float(error) < 1e-4


def test_wrong_sizes():
    done = run("--rounds", 0)
    assert (done.returncode, done.stderr) == (1, "error: --rounds is 0; it must be at least 1\n")
    done = run("--backward", "4x1")
    assert done.stderr == "error: --backward is '4x1'; it is of the Triton kernels and needs --device cuda\n"


def test_wrong_programs_and_gpus():
    pytest.importorskip("triton")
    for words, line in (
        (("--forward", "8x3"), "--forward is '8x3'; it must be queries x warps, both powers of two, such as 32x4"),
        (("--backward", "8"), "--backward is '8'; it must be queries x warps, both powers of two, such as 32x4"),
        (("--capability", 12), "no compute capability named 12; there is 80, 90 (--capability)"),
    ):
        done = run(*words, benchmark="sampling_code")
        assert (done.returncode, done.stderr) == (1, f"error: {line}\n")
