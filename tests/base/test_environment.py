import pytest

from proseco.base import environment
from proseco.base.errors import InputError


@pytest.mark.parametrize(("value", "expected"), [(None, None), ("", None), ("0", 0), ("16", 16)])
def test_number_of_workers(monkeypatch, value, expected):
    monkeypatch.delenv("PROSECO_WORKERS", raising=False)
    if value is not None:
        monkeypatch.setenv("PROSECO_WORKERS", value)
    assert environment.workers() == expected


@pytest.mark.parametrize("value", ["x", "-1", "2.5", " ", "²", "1e2"])
def test_what_is_no_number_of_workers(monkeypatch, value):
    monkeypatch.setenv("PROSECO_WORKERS", value)
    with pytest.raises(InputError, match=r"^PROSECO_WORKERS is .*; it must be a whole number from 0 \(environment\)$"):
        environment.workers()
