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


def test_processes_and_steps(monkeypatch):
    for name in ("PROSECO_NPROC", "PROSECO_CHECKPOINT_EVERY"):
        monkeypatch.delenv(name, raising=False)
    assert (environment.processes(), environment.checkpoint_every()) == (1, 500)
    monkeypatch.setenv("PROSECO_NPROC", "auto")
    assert environment.processes() is None
    monkeypatch.setenv("PROSECO_NPROC", "8")
    monkeypatch.setenv("PROSECO_CHECKPOINT_EVERY", "20")
    assert (environment.processes(), environment.checkpoint_every()) == (8, 20)
    monkeypatch.setenv("PROSECO_CHECKPOINT_EVERY", "0")
    with pytest.raises(InputError, match=r"PROSECO_CHECKPOINT_EVERY is '0'; it must be a whole number from 1 \("):
        environment.checkpoint_every()


def test_one_process_is_the_first_of_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    found = environment.rank(), environment.world(), environment.local_rank(), environment.local_world()
    assert found == (0, 1, 0, 1)
