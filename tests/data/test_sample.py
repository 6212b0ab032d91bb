"""Which of a source's samples are shown or measured."""

import pytest

from proseco.data.sample import evenly_spaced


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        (10, 4, [0, 2, 5, 7]),
        (7, 3, [0, 2, 4]),
        (3, 4, [0, 1, 2]),  # of too few, each once
        (5, 5, [0, 1, 2, 3, 4]),
        (1, 3, [0]),
        (0, 3, []),
    ],
)
def test_evenly_spaced(total, count, expected):
    assert evenly_spaced(total, count) == expected
