import subprocess
import sys

import pytest

from proseco.base.errors import InputError
from proseco.training.schedules import Finetuning, Schedule, override


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


@pytest.mark.parametrize(
    ("options", "images", "moments"),
    [
        ({"steps": 10, "validations": 3}, 100, [3, 7, 10]),
        ({"steps": 2, "validations": 5}, 100, [1, 2]),  # not before the first step, not twice after one
        ({"steps": 10, "validations": 1}, 100, [10]),
        ({"epochs": 3, "validate_every": 1}, 83, [10, 21, 31]),  # 10.375 steps an epoch
        ({"epochs": 3, "validate_every": 2}, 83, [21, 31]),
        ({"epochs": 1, "validate_every": 0.25}, 80, [2, 5, 8, 10]),
        ({"epochs": 1, "validate_every": 0.001}, 24, [1, 2, 3]),
        ({"epochs": 1, "validate_every": 5}, 80, [10]),
    ],
)
def test_validations_come_when_they_should(options, images, moments):
    assert Finetuning(batch=8, lr=1e-3, **options).moments(images) == moments


def test_validations_are_every_so_many_epochs_or_so_many():
    for options in ({}, {"validations": 3, "validate_every": 2}):
        with pytest.raises(InputError, match="either validate_every or validations; it has validate_every="):
            Finetuning(batch=8, lr=1e-3, steps=5, **options).moments(100)


def run(aps, *, every=10, steps=100, **options):
    """A training whose validations give these APs: steps that were run, and the one at which the rate dropped."""
    plan = Finetuning(batch=1, lr=1.0, steps=steps, validations=steps // every, **options)
    validated = []
    for step, ap in zip(plan.moments(10**6), aps, strict=False):
        validated.append((step, ap))
        drop, ended = plan.course(validated, steps)
        if ended:
            break
    assert plan.course(validated, steps) == (drop, ended)  # it follows from the APs alone
    return step, drop


RISING = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("aps", "options", "steps", "drop"),
    [
        ([5] + [4] * 9, {}, 100, 80),  # no patience
        (RISING, {"patience": 1}, 100, 80),
        ([1, 2, 3, 3, 3, 4, 4, 4], {"patience": 2}, 80, 50),  # flat, the rate drops, higher, flat again
        ([1, 2, 3, 3, 3, 3, 3], {"patience": 2}, 70, 50),  # the drop did not help
        ([1, 2, 3, 2, 4, 3, 3, 3, 5, 6], {"patience": 2}, 100, 70),  # rises again before the last chance
        ([1, 2, 3, 4, 5, 6, 7, 6, 6, 6], {"patience": 3}, 100, 80),  # patience begins anew at a drop that was due
        ([1, 2, 3, 4, 5, 6, 7, 7, 7, 7], {"patience": 2}, 100, 80),
        ([1, 2, 3, 4, 5, 6, 5, 5, 5, 5], {"patience": 2}, 100, 80),  # it ends where it is due
        ([1, 2, 3, 4, 5, 6, 5, 5, 5], {"patience": 1}, 80, 70),
        ([3, 2, 2, 2], {"patience": 1, "drop_at": 1.0}, 20, 100),  # no drop to come
        ([9, 1, 1, 1, 1, 8, 8], {"patience": 2, "drop_at": 0.2}, 40, 20),
        ([0, 0, 0, 0, 1, 2, 3, 4, 5, 6], {"patience": 2}, 100, 80),  # a slow start is no plateau
        ([0, 0, 0, 1, 1, 1, 1], {"patience": 1}, 60, 50),
        ([0] * 10, {"patience": 1}, 100, 80),  # nothing found at all
    ],
)
def test_a_training_ends_where_ap_has_stopped_rising(aps, options, steps, drop):
    assert run(aps, **options) == (steps, drop)


def test_another_optimiser_or_decay_comes_with_keys_of_its_own():
    schedule = {"batch": 4, "lr": 0.1, "optimizer": "lars", "trust": 0.01, "momentum": 0.8, "drop_at": 0.5}
    assert override(schedule, {"lr": 1.0}) == schedule | {"lr": 1.0}
    sgd = {"optimizer": "sgd", "momentum": 0.9}
    assert override(schedule, sgd) == {"batch": 4, "lr": 0.1, "drop_at": 0.5} | sgd
    cosine = override(schedule, {"decay": "cosine", "final": 0.1})
    assert "drop_at" not in cosine and cosine["trust"] == 0.01
