import numpy as np
import pytest

from proseco.data import filters

OFF = dict.fromkeys(("min_side", "aspect", "size", "limit"))
SOCO = {"min_side": 32, "aspect": [0.3333, 3.0], "size": [0.3, 0.8], "limit": None}


def boxes(*sides):
    """Boxes of these widths and heights, none at the origin."""
    return np.array([(7 + i, 3, 7 + i + w, 3 + h) for i, (w, h) in enumerate(sides)], np.float32).reshape(-1, 4)


def kept(given, width, height, **changes):
    """Numbers of the boxes that are left, which must keep their order."""
    found = filters.keep(given, width, height, **(OFF | changes))
    assert found.dtype == np.float32 and found.shape[1:] == (4,)
    numbers = [next(i for i, box in enumerate(given) if (box == one).all()) for one in found]
    assert numbers == sorted(numbers)
    return numbers


GIVEN = boxes((40, 40), (31, 100), (100, 32), (200, 10), (96, 32), (97, 32), (300, 200), (33, 99), (0, 0))


def test_all_is_kept_by_default():
    assert kept(GIVEN, 400, 300) == list(range(9))


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"min_side": 32}, [0, 2, 4, 5, 6, 7]),
        ({"min_side": 32.5}, [0, 6, 7]),
        ({"aspect": [0.5, 2]}, [0, 6, 8]),
        ({"aspect": [1 / 3, 3]}, [0, 4, 6, 7, 8]),
        ({"aspect": [2, 30]}, [2, 3, 4, 5, 8]),
        ({"size": [0.2, 1]}, [6]),
        ({"size": [0, 0.12]}, [0, 8]),
        ({"limit": 3}, [0, 1, 2]),
        ({"limit": 3, "min_side": 32}, [0, 2, 4]),  # of those that pass
        ({"limit": 99}, list(range(9))),
    ],
)
def test_each_filter(changes, left):
    assert kept(GIVEN, 400, 300, **changes) == left


def test_no_boxes():
    assert kept(boxes(), 40, 30, **(SOCO | {"limit": 2})) == []


def test_soco():
    """Held against its rule in a plain loop, in images of several sizes."""
    rng = np.random.default_rng(0)
    for width, height in ((500, 375), (120, 640), (90, 70)):
        low = rng.uniform(0, 0.5, (400, 2)) * [width, height]
        high = low + rng.uniform(0.01, 1, (400, 2)) * ([width, height] - low)
        given = np.concatenate([low, high], 1).astype(np.float32)
        left = []
        for number, (x0, y0, x1, y1) in enumerate(given.astype(np.float64)):
            w, h = x1 - x0, y1 - y0
            share = (w * h) ** 0.5 / (width * height) ** 0.5
            if min(w, h) >= 32 and 1 / 3 <= w / h <= 3 and 0.3 <= share <= 0.8:
                left.append(number)
        assert 0 < len(left) < 300
        assert kept(given, width, height, **SOCO) == left
