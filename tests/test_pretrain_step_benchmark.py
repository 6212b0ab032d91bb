import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from benchmarks import _steps, pretrain_step
from proseco.base.errors import InputError
from proseco.experiment import rows
from proseco.nn import matcher
from tests import params_file

ROOT = Path(__file__).resolve().parents[1]


def run(*words):
    command = [sys.executable, "-m", "benchmarks.pretrain_step", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_ends_with_its_ratio():
    done = run("--scale", "demo", "--batch", 3, "--height", 64, "--width", 96, "--steps", 2)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "batches of 3, 96 x 64, padding 0.0%"
    assert [line.split()[0] for line in lines[4:6]] == ["ours", "public"]
    shares = {line.split()[0]: float(line.split()[1].rstrip("%")) for line in lines[7:-1]}
    assert {"backbone", "encoders", "decoders", "matching", "losses", "backward", "optimiser", "teacher"} <= set(shares)
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert lines[-1].startswith("pretrain_step: speedup ") and float(lines[-1].split()[2]) > 0


def test_the_peer_may_have_smaller_batches_or_run_out_of_memory(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(_steps, "WARM", 1)
    sizes, public = [], pretrain_step.public
    options = {"scale": "demo", "batch": 3, "height": 64, "width": 64, "steps": 1}
    monkeypatch.setattr(pretrain_step, "public", lambda step, batch: sizes.append(len(batch)) or public(step, batch))
    pretrain_step.main(**options, peer_batch=2)
    assert set(sizes) == {2} and "speedup" in capsys.readouterr().out

    def too_large(step, batch, **options):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(pretrain_step, "public", too_large)
    with pytest.raises(InputError, match="a step of 3 images does not fit the device"):
        monkeypatch.setattr(_steps.Trainer, "step", too_large)
        pretrain_step.main(**options)
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pretrain_step, "public", too_large)
    pretrain_step.main(**options)
    said = capsys.readouterr().out
    assert said.startswith("public: out of memory with batches of 3\n") and "speedup" not in said and "backbone" in said


def gradients(row, batch, *, public):
    """Of a step from the first weights."""
    trainer = pretrain_step.build(row, len(batch), torch.device("cpu"))
    step = partial(trainer.step, precision=torch.float32)
    with mock.patch.object(trainer.optimizer, "step"):
        pretrain_step.public(step, batch) if public else step(batch)
    return torch.cat([parameter.grad.flatten() for parameter in trainer.trained])


def test_the_peer_is_the_same_step():
    """From equal weights both forms come to equal ones, up to rounding; the peer has the paper's loss as written."""
    row = rows.row(params_file.parameters(), "demo", "proseco")
    row.loss["normalize_target"] = False
    batch = _steps.draw(np.array([[64, 96], [80, 64], [64, 64]]), 4, torch.device("cpu"))
    assert batch.mask.float().mean() == pytest.approx(1 - (64 * 96 + 80 * 64 + 64 * 64) / (3 * 80 * 96))
    ours, theirs = (gradients(row, batch, public=public) for public in (False, True))
    assert (ours - theirs).norm() < 1e-3 * ours.norm()
    row.loss["tau"] = 0.2
    assert (gradients(row, batch, public=False) - ours).norm() > 1e-2 * ours.norm()


def test_scipy_finds_assignments_of_equal_cost():
    costs = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    for counts in (None, [9, 4, 1]):
        ours, theirs = (solve(costs, counts) for solve in (matcher.assign, _steps.scipy))
        for layer, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            for image, (one, two) in enumerate(zip(a, b, strict=True)):
                assert costs[layer, image][one].sum() == pytest.approx(float(costs[layer, image][two].sum()), abs=1e-5)
