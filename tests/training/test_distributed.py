"""Two processes against one: equal losses, weights and detections, whatever each one's share and padding."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import shared

ROOT = Path(__file__).resolve().parents[2]


def start(folder, rank, port):
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    environment = os.environ | {key: str(value) for key, value in world.items()}
    command = [sys.executable, "-m", "tests.training.shared", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one process gives, and two."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    processes = [start(folder, rank, port) for rank in range(2)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the two: another number of threads adds in another order
    one = shared.everything(tmp_path_factory.mktemp("one"))
    torch.set_num_threads(threads)
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return one, torch.load(folder / "two.pt", weights_only=True)


TRAININGS = ("pretraining", "finetuning", "lars", "stopping", "one box in all", "no box")


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_log_what_one_does(found, name):
    one, two = (side[name]["rows"] for side in found)
    assert len(one) == len(two) >= 2
    for ours, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-4, abs=1e-5)


def moved(key, value):
    """Zeros for weights whose gradient is 0 but for rounding, which Adam blows up to steps of its full rate.

    These are the bias of attention's keys, which shifts all logits of a softmax alike, and a bias before a group norm
    that has, in a detector this narrow, one channel a group.
    """
    value = value.clone()
    if key.endswith("self_attn.in_proj_bias"):
        value.view(3, -1)[1] = 0
    return torch.zeros_like(value) if "input_proj" in key and key.endswith(".0.bias") else value


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_end_in_the_weights_of_one(found, name):
    one, two = ({key: moved(key, value) for key, value in side[name]["weights"].items()} for side in found)
    assert list(one) == list(two)
    for key in one:
        assert torch.allclose(one[key], two[key], rtol=0, atol=1e-5), key
    start = shared.pretraining() if "student.projector.layers.0.weight" in one else shared.finetuning()
    before = shared.result(start, Path("none"))["weights"]
    assert max((one[key] - moved(key, before[key])).abs().max() for key in one) > 1e-3  # it was a training


def test_both_processes_hold_the_same_bits(found):
    first, second = found[1]["ranks"]
    for name in first:
        assert all(torch.equal(first[name][key], second[name][key]) for key in first[name])


def test_detections_are_the_same_bits_in_the_same_order(found):
    one, two = (side["detections"].numpy() for side in found)
    assert len(one) == 9 * 30  # the last batch is half full
    assert np.array_equal(one, two)


def test_a_term_that_is_no_number_names_the_images_of_its_process(found):
    one, two = (side["failure"] for side in found)
    assert found[1]["failures"] == [two, two]
    keys = [re.findall(r"image\d", message) for message in (one, two)]
    assert "step 3: coord is not finite" in one and "step 3: coord is not finite" in two
    assert len(keys[0]) == 5 and keys[1] == keys[0][:3]


def test_both_processes_end_where_the_first_sees_ap_fall(found):
    first, second = found[1]["histories"]
    expected = [{"step": step, "AP": ap} for step, ap in ((1, 2.0), (2, 3.0), (3, 1.0), (4, 1.0))]
    assert first == {"history": expected, "left": 0, "drop": 3}
    assert second == {"history": expected, "left": 4, "drop": 3}
    assert len(found[1]["stopping"]["rows"]) == len(found[0]["stopping"]["rows"]) == 4
