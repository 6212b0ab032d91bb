"""The benchmarks of the losses and the matching end with their ratios; the plain form is the loss."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import _proposals, locsce

ROOT = Path(__file__).resolve().parents[1]


def run(name, *words):
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_locsce():
    done = run("locsce", "--images", 4, "--queries", 30, "--dim", 16, "--repeats", 1)
    assert done.returncode == 0, done.stderr
    *_, ours, plain, last = done.stdout.splitlines()
    found = re.fullmatch(r"locsce: speedup \d+\.\d memory_ratio \d+ grad_rel_err (\S+)", last)
    assert found and float(found[1]) < 1e-5
    assert ours.startswith("chunked") and plain.startswith("plain")
    assert float(ours.split()[-1]) == pytest.approx(float(plain.split()[-1]), rel=1e-4)


def test_matching():
    done = run("matching", "--images", 3, "--queries", 40, "--width", 16, "--rounds", 2)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 7 and re.fullmatch(r"matching: speedup \d+\.\d cost_diff 0\.0", lines[-1])


def test_proposals_resemble_each_other():
    (z, b), (z_hat, b_hat) = _proposals.draw(3, 20, 8)
    assert z.shape == z_hat.shape == (3, 20, 8) and b.shape == b_hat.shape == (3, 20, 4)
    assert torch.allclose(z.norm(dim=-1), torch.ones(3, 20)) and torch.allclose(z_hat.norm(dim=-1), torch.ones(3, 20))
    assert 0.8 < (z * z_hat).sum(-1).mean() < 1
    assert all(torch.equal(a, c) for a, c in zip(_proposals.draw(3, 20, 8)[0], (z, b), strict=True))
    assert abs(locsce.plain(z, z_hat, b) - locsce.chunked(z, z_hat, b)) < 1e-5
