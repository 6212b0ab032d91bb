import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*words):
    command = [sys.executable, "-m", "benchmarks.deformable_attention", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_ends_with_its_ratio():
    done = run("--height", 96, "--width", 128, "--rounds", 3)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["compiled", "plain"]
    name, _, speedup, _, error = lines[-1].split()
    assert name == "deformable_attention:" and float(speedup) > 0 and float(error) < 1e-4
