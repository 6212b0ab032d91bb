"""What a training says that it took, against a clock and a memory of ours."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from proseco.training import log, usage
from proseco.training.snapshots import Snapshots
from tests.training.test_loop import CPU, Slope, schedule, train

LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")


def read(folder):
    return json.loads((folder / "logs" / "cost.json").read_text())


def test_a_killed_training_costs_what_one_that_was_not_does(tmp_path, monkeypatch):
    """Two seconds a step, the fourth to the sixth three; validations take no time of it. The first part held more."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(log, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(usage, "hardware", lambda device: "Abacus")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    def wait(seconds):
        clock.now += seconds

    def run(bytes_held, kill=None):
        monkeypatch.setattr(usage.Memory, "_now", lambda self: bytes_held)
        method, moments = Slope(), {step: lambda step: wait(1000) for step in (0, 4, 10)}
        losses = method.losses
        method.losses = lambda batch: (wait(3 if batch.keys[0][1] in "345" else 2), losses(batch))[1]
        moments |= {} if kill is None else {kill: lambda step: 1 / 0}
        train(method, tmp_path, plan=schedule(log_every=2), at_step=moments, snapshots=Snapshots(tmp_path, 2))

    with pytest.raises(ZeroDivisionError):
        run(7000, kill=7)  # a step is done again: what it took the first time is in no state
    run(5000)
    assert read(tmp_path) == {
        "images": 40,
        "batch": 4,
        "steps": 10,
        "epochs": 2.5,
        "seconds": 23,
        "images_per_second": 2.0,  # of 2, 1.6, 1.33, 2 and 2
        "peak_memory": 7000,
        "processes": 1,
        "hardware": "1 x Abacus",
    }


def test_machines_that_changed_on_the_way_are_told(tmp_path, monkeypatch):
    def run(machine, kill=None):
        monkeypatch.setattr(usage, "hardware", lambda device: machine)
        moments = {} if kill is None else {kill: lambda step: 1 / 0}
        train(Slope(), tmp_path, at_step=moments, snapshots=Snapshots(tmp_path, 2))

    for machine, kill in (("Abacus", 3), ("Abacus", 5), ("Slide rule", 7)):
        with pytest.raises(ZeroDivisionError):
            run(machine, kill)
    run("Abacus")
    found = read(tmp_path)
    assert found["processes"] is None and found["hardware"] == "1 x Abacus, then 1 x Slide rule, then 1 x Abacus"


def test_one_that_ends_early_costs_less(tmp_path):
    train(Slope(), tmp_path, at_step={3: lambda step: True})
    found = read(tmp_path)
    assert (found["images"], found["steps"], found["epochs"]) == (12, 3, 0.75)


def test_the_hardware_in_words(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = usage.hardware(CPU)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 12)
    assert one.endswith(" (1 thread)") and usage.hardware(CPU) == one.replace("(1 thread)", "(12 threads)")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert usage.hardware(torch.device("cuda", 3)) == "GPU 3"


@LINUX
def test_the_peak_is_that_of_the_training_alone():
    """In a process of its own: 200 MiB before it do not count, 60 MiB in it do, although they are free again."""
    program = """
import numpy as np, torch
from proseco.training.usage import Memory
big = np.ones(25 * 2**20); del big
memory = Memory(torch.device("cpu"))
low = memory.peak()
some = np.ones(15 * 2**19); del some
print(low, memory.peak())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    low, high = map(int, done.stdout.split())
    assert 50 * 2**20 < high - low < 70 * 2**20


def test_a_peak_before_a_kill_counts(monkeypatch):
    memory = usage.Memory(CPU)
    monkeypatch.setattr(memory, "_now", lambda: None)
    assert memory.peak() is None  # where the system does not tell
    memory.load_state_dict({"peak": 9})
    assert memory.peak() == 9 and memory.state_dict() == {"peak": 9}
    monkeypatch.setattr(memory, "_now", lambda: 11)
    assert memory.peak() == 11
