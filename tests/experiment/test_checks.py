import pytest

from proseco.base.errors import InputError
from proseco.experiment import checks


@pytest.mark.parametrize(
    ("value", "annotation", "right"),
    [
        (1, "int", True),
        (1, "float", True),
        (1.0, "int", False),
        (True, "int", False),
        (True, "float", False),
        (True, "bool", True),
        (0, "bool", False),
        ("1e-4", "float", False),
        (None, "int | None", True),
        (None, "int", False),
        ([1, 2, 3], "list[int]", True),
        ([1, 2.5], "list[int]", False),
        ([], "list[int]", False),
        ((1, 2), "list[int]", False),
        ([1, 0.5], "tuple[float, float]", True),
        ([1], "tuple[float, float]", False),
        ([1, 2, 3], "tuple[float, float]", False),
        ([8, 16, 32], "tuple[int, ...]", True),
        ([8, 1.5], "tuple[int, ...]", False),
        ([[1, 2], [3, 4]], "list[tuple[int, int]]", True),
        ([[1, 2], [3]], "list[tuple[int, int]]", False),
        ([None, 2], "list[int | None]", True),
        ([None, "2"], "list[int | None]", False),
        (["a"], "list[int | list[int]]", False),
        ([1, [2]], "list[int | list[int]]", True),
        ([[1, [2]], 0.5], "tuple[tuple[int, list[int]], float]", True),
        ([[1, [2]], "x"], "tuple[tuple[int, list[int]], float]", False),
        (None, "list[int | None] | None", True),
        ([[1], 0.5], "tuple[list[int], float]", True),
        ({}, "dict", True),
        (object(), "Callable", True),
    ],
)
def test_types_are_those_of_the_annotation(value, annotation, right):
    assert checks.fits(value, annotation) is right


def function(first, *, wanted: int, optional: float | None = None, given: str) -> None: ...


def test_a_section_becomes_the_keywords_of_a_function():
    checks.call({"wanted": 1, "optional": None}, function, "here", given=("given",))
    for section, words in (
        ({"wanted": 1, "first": 2}, r"no key of here named 'first'; there is optional, wanted \(params\.yaml\)"),
        ({"wanted": 1, "given": "x"}, "no key of here named 'given'"),
        ({"optional": 1.0}, r"here lacks wanted \(params\.yaml\)"),
        ({"wanted": 1.0}, r"here\.wanted is 1\.0; it must be int \(params\.yaml\)"),
        ({"wanted": 1, "optional": "1"}, r"here\.optional is '1'; it must be float \| None"),
        ([1], r"here is \[1\]; it must be a mapping with wanted, optional"),
    ):
        with pytest.raises(InputError, match=words):
            checks.call(section, function, "here", given=("given",))


@pytest.mark.parametrize(("value", "place"), [(-1, "a.b"), (float("nan"), "a.b"), (float("inf"), "a.b")])
def test_numbers_are_searched_for_everywhere(value, place):
    checks.numbers({"a": {"b": 0, "c": [1, 2.5, True, "x", None]}})
    with pytest.raises(InputError, match=rf"^{place} is {value!r}; it must be a number from 0"):
        checks.numbers({"a": {"b": value}})
    with pytest.raises(InputError, match=rf"^list\.1 is {value!r}"):
        checks.numbers({"list": [0, value]})


def test_names_become_parts_of_paths():
    assert list(checks.entries({"a-1_B": 3}, "here")) == [("a-1_B", 3)]
    for name in ("a.b", "a/b", "", "a b", "é", 3, None):
        with pytest.raises(InputError, match="here has the name"):
            list(checks.entries({name: 1}, "here"))


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"a": {"ema_rate": 99.6}}, "a.ema_rate is 99.6; it is a share, 0..1 (params.yaml)"),
        ({"jitter_probability": 1.5}, "jitter_probability is 1.5; it is a share, 0..1 (params.yaml)"),
        ({"area": [0.2, 1.4]}, "area.1 is 1.4; it is a share, 0..1 (params.yaml)"),
        ({"a": [{"area": [0.9, 0.2]}]}, "a.0.area is [0.9, 0.2]; it must be [least, most] (params.yaml)"),
        ({"blur_sigma": [5, 0.1]}, "blur_sigma is [5, 0.1]; it must be [least, most] (params.yaml)"),
        ({"queries": 0}, "queries is 0; it must be more (params.yaml)"),
        ({"short_edges": [480, 0]}, "short_edges.1 is 0; it must be more (params.yaml)"),
    ],
)
def test_some_names_have_ranges(section, why):
    with pytest.raises(InputError) as refused:
        checks.numbers(section)
    assert str(refused.value) == why
    checks.numbers({"ema_rate": 1, "area": [0.2, 0.2], "blur_sigma": [0, 3], "long_edge": None, "lr_backbone": 0})
