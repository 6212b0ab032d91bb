import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import _frames, padding

ROOT = Path(__file__).resolve().parents[1]


def run(*words):
    command = [sys.executable, "-m", "benchmarks.padding", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_ends_with_its_shares(tmp_path):
    for i, (width, height) in enumerate([(40, 30), (30, 40), (64, 30), (50, 50), (90, 60)]):
        Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(tmp_path / f"{i}.jpg")
    done = run("--images", tmp_path, "--batch", 4, "--steps", 64)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "padding:" and last[1::2] == ["by_chance", "grouped", "pixel_ratio"]
    chance, grouped, ratio = map(float, last[2::2])
    assert 0.2 < chance < 1 and grouped < 0.5 * chance and ratio > 1.2


def test_what_is_counted():
    """Views that keep their size: two of one size and two of another are half padding where they are mixed."""
    weak = {"short_edges": [10], "long_edge": None, "first_short_edges": [10], "crop_min": 10, "crop_max": 10}
    same = weak | {"crop_probability": 0.0}
    draw = partial(_frames.draw, weak=same)
    two = [(10, 10), (30, 10)]
    assert padding.measure(draw([(10, 10)], batch=2, steps=4, group=1), pad_to=1) == (0, 100, 1)
    assert padding.measure(draw(two, batch=40, steps=1, group=1), pad_to=1) == pytest.approx((1 / 3, 300, 1))
    assert padding.measure(draw(two, batch=40, steps=2, group=2), pad_to=1) == (0, 200, 2)
    assert padding.measure(draw(two, batch=40, steps=2, group=2), pad_to=16) == pytest.approx((1 - 200 / 384, 384, 2))
    assert padding.measure(draw(two, batch=40, steps=2, group=2), pad_to=32) == pytest.approx((1 - 200 / 1024, 1024, 1))
