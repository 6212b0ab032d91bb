import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.making import write

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven images as files and in three shards."""
    root = tmp_path_factory.mktemp("benchmark")
    (root / "images").mkdir()
    for i in range(7):
        pixels = np.random.default_rng(i).integers(0, 256, (20 + i, 31, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"images/{i}.{'png' if i == 3 else 'jpg'}")
    write(root / "shards", root / "images", samples_per_shard=3, max_skipped=0.0)
    return root


def run(*words):
    command = [sys.executable, "-m", "benchmarks.shards", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("given", [True, False])
def test_it_ends_with_its_ratios(folder, given):
    before = sorted(folder.iterdir())
    images = ["--images", folder / "images"] if given else []
    done = run("--shards", folder / "shards", "--rounds", 2, *images)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("median of 2 rounds; 7 samples, 7 files")
    for line, name in zip(lines[2:5], ("ours", "webdataset", "plain files"), strict=True):
        rates = [float(word.replace(",", "")) for word in line.removeprefix(name).split()]
        assert line.startswith(name) and len(rates) == 4 and min(rates) > 0
    assert re.fullmatch(r"shards: warm \d+\.\d cold \d+\.\d", lines[-1]) and len(lines) == 6
    assert sorted(folder.iterdir()) == before  # what was unpacked is gone
