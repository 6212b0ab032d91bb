import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*words):
    command = [sys.executable, "-m", "benchmarks.scoring", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_ends_with_its_ratio_and_equal_figures():
    done = run("--images", 12, "--rounds", 2)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and re.match(r"12 images, \d+ objects, 1200 detections", lines[0])
    last = re.fullmatch(r"scoring: speedup \d+\.\d difference (\S+) voc \d+\.\d\d", lines[-1])
    assert last and float(last[1]) < 1e-9, lines
