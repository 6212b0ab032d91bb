import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import _steps, finetune_step
from proseco.experiment import rows
from tests import params_file

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--scale", "demo", "--height", 64, "--width", 96, "--steps", 2, "--classes", 3)


def run(*words):
    command = [sys.executable, "-m", "benchmarks.finetune_step", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_ends_with_its_ratios():
    done = run(*SMALL, "--batch", 3, "--predict-batch", 2)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    heads = [line for line in lines if line.startswith(("train", "predict"))]
    assert heads == ["train, batches of 3", "predict, batches of 2"]
    assert [line.split()[0] for line in lines if line.startswith(("ours", "public"))] == ["ours", "public"] * 2
    shares = [float(line.split()[-1].rstrip("%")) for line in lines if line.endswith("%")]
    assert len(shares) == 8 and sum(shares) == pytest.approx(100, abs=1)
    words = lines[-1].split()
    assert words[:3] + words[4:5] == ["finetune_step:", "speedup", "train", "predict"]
    assert float(words[3]) > 0 and float(words[5]) > 0


def test_the_peers_give_the_same():
    settings = params_file.parameters()
    section, cpu = settings["scales"]["demo"], torch.device("cpu")
    row, schedule = rows.row(settings, "demo", "proseco"), section["schedules"]["default"] | {"batch": 3, "lr": 0.0}
    batch = _steps.draw(np.array([[64, 96], [80, 64], [64, 64]]), 4, cpu, views=1, classes=3)
    found = []
    for form in (lambda step, batch: step(batch), finetune_step.public):
        trainer = finetune_step.build(row, schedule | {"lr_backbone": 1e-9}, section["views"]["weak"], 3, cpu)
        form(partial(trainer.step, precision=torch.float32), batch)
        gradients = torch.cat([p.grad.flatten() for p in trainer.trained])
        trainer.method.student.eval()
        form(lambda batch, t=trainer: found.append(finetune_step.infer(t, batch, precision=torch.float32)), batch)
        found.append(gradients)
    mine, gradient, theirs, other = found
    assert mine.shape == theirs.shape and mine.shape[1] == 7 and set(mine[:, 0]) == {0, 1, 2}
    assert np.abs(np.sort(mine[:, 5]) - np.sort(theirs[:, 5])).max() < 1e-5
    assert len(gradient) and (gradient - other).norm() < 1e-3 * gradient.norm()
