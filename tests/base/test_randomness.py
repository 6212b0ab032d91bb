import subprocess
import sys
from pathlib import Path

import numpy as np

from proseco.base import randomness

ROOT = Path(__file__).resolve().parents[2]


def test_the_value_of_a_seed_is_fixed():
    """A change of it would change every result. Numbers from `b2sum -l 64` of the parts with \\x1f between, halved."""
    assert randomness.seed(42, "views", 3, "a/b") == 3368591300460968066
    assert randomness.seed() == 8238016292129134938


def test_seeds_are_whole_numbers_of_63_bits():
    seeds = [randomness.seed("x", number) for number in range(2000)]
    assert all(type(value) is int and 0 <= value < 2**63 for value in seeds)
    assert len(set(seeds)) == 2000
    assert 0.45 < np.mean([value >> 62 for value in seeds]) < 0.55


def test_parts_do_not_run_together():
    assert len({randomness.seed(*parts) for parts in ((1, 23), (12, 3), (123,), ("1", "2", "3"), (1, "2", 3, ""))}) == 5
    assert randomness.seed(1, "a") == randomness.seed("1", "a")  # what is printed alike is alike
    assert randomness.seed(1, 2) != randomness.seed(2, 1)


def test_draws_depend_on_the_parts_alone():
    first = randomness.generator(7, "views", "key").random(5)
    randomness.generator(7, "views", "other").random(100)
    np.random.seed(0)  # noqa: NPY002
    assert (randomness.generator(7, "views", "key").random(5) == first).all()
    assert (randomness.generator(8, "views", "key").random(5) != first).any()


def test_another_process_draws_the_same():
    """Python's own hash() of a text differs from process to process."""
    program = "from proseco.base.randomness import seed; print(seed(42, 'views', 3, 'a/b'))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env={"PYTHONHASHSEED": salt}, capture_output=True, check=True
        ).stdout
        for salt in ("1", "2")
    }
    assert seen == {b"%d\n" % randomness.seed(42, "views", 3, "a/b")}
