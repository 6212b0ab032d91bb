import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def run(*words):
    command = [sys.executable, "-m", "benchmarks.selective_search", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_ends_with_its_ratio(tmp_path):
    for i in range(3):
        small = np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((80 + i, 60), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.png")
    done = run("--images", tmp_path, "--limit", 2, "--long-edge", 64)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"selective_search: speedup \d+\.\d identical 1\.000 jaccard 1\.0000", last), last
    assert len(done.stdout.splitlines()) == 4  # heading, two of three images, result
