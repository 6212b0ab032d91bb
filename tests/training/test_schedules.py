import subprocess
import sys

import pytest

from proseco.base.errors import InputError
from proseco.training.schedules import Schedule


@pytest.mark.parametrize(
    ("options", "images", "count"),
    [
        ({"batch": 64, "epochs": 10}, 1281167, 200182),  # ImageNet: 20,018.23 batches an epoch
        ({"batch": 32, "epochs": 2000}, 1183, 73938),  # 73,937.5
        ({"batch": 4, "epochs": 3}, 11, 8),  # 8.25
        ({"batch": 8, "steps": 600}, 1200, 600),
        ({"batch": 8, "epochs": 0.5}, 83, 5),
        ({"batch": 7, "epochs": 1}, 7, 1),
    ],
)
def test_steps_are_counted(options, images, count):
    assert Schedule(lr=1e-3, **options).count(images) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either epochs or steps; it has epochs=None and steps=None"),
        ({"epochs": 1, "steps": 2}, "either epochs or steps; it has epochs=1 and steps=2"),
        ({"epochs": 1, "batch": 101}, "a batch of 101 is larger than the data, 100 images"),
        ({"steps": 5, "batch": 101}, "a batch of 101"),
        ({"epochs": 0.001}, "0 steps trains nothing"),
        ({"steps": 0}, "0 steps trains nothing"),
        ({"steps": 5, "warmup": 5}, "a warm-up of 5 steps leaves nothing of a training of 5"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Schedule(**{"batch": 8, "lr": 1e-3} | options).count(100)


def test_the_step_comes_once():
    plan = Schedule(batch=1, lr=1.0, drop_at=0.6)
    assert [plan.factor(step, 5) for step in range(5)] == [1, 1, 1, 0.1, 0.1]
    assert [Schedule(batch=1, lr=1.0, drop_at=1.0).factor(step, 3) for step in range(3)] == [1, 1, 1]


def test_a_cosine_is_half_a_wave():
    plan = Schedule(batch=1, lr=1.0, decay="cosine")
    assert [plan.factor(step, 4) for step in range(4)] == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4])
    plan = Schedule(batch=1, lr=1.0, decay="cosine", final=0.2)
    assert [plan.factor(step, 3) for step in range(3)] == pytest.approx([1, 0.2 + 0.8 * 0.75, 0.2 + 0.8 * 0.25])


def test_a_warm_up_rises_to_the_full_rate():
    plan = Schedule(batch=1, lr=1.0, warmup=4, drop_at=0.5)
    assert [plan.factor(step, 12) for step in range(8)] == [0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1]
    plan = Schedule(batch=1, lr=1.0, warmup=2, decay="cosine")  # the wave begins where the warm-up ends
    assert [plan.factor(step, 6) for step in range(5)] == pytest.approx([0.5, 1, 1, (2 + 2**0.5) / 4, 0.5])


def test_parameters_are_checked_without_torch():
    code = "import sys, proseco.training.schedules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_misspelt_key_is_refused():
    with pytest.raises(TypeError, match="drop_after"):
        Schedule(batch=1, lr=1.0, drop_after=0.5)
