import os
from pathlib import Path

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


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        (None, None, ("loky", "")),
        ("", "", ("loky", "")),
        ("loky", None, ("loky", "")),
        ("dask", "tcp://a:1", ("dask", "tcp://a:1")),
        ("ray", "auto", ("ray", "auto")),
        ("dusk", None, r"no backend named 'dusk'; there is dask, loky, ray \(PROSECO_BACKEND, environment\)"),
        ("dask", None, "PROSECO_BACKEND is dask; set PROSECO_CLUSTER"),
        ("ray", "", "PROSECO_BACKEND is ray; set PROSECO_CLUSTER"),
        (None, "tcp://a:1", "PROSECO_CLUSTER is 'tcp://a:1', but PROSECO_BACKEND is not dask or ray"),
    ],
)
def test_backend(monkeypatch, name, address, expected):
    for variable, value in (("PROSECO_BACKEND", name), ("PROSECO_CLUSTER", address)):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    if isinstance(expected, tuple):
        assert environment.backend() == expected
    else:
        with pytest.raises(InputError, match=expected):
            environment.backend()


def test_scratch(monkeypatch, tmp_path):
    monkeypatch.delenv("PROSECO_SCRATCH", raising=False)
    copy = tmp_path / "project/.dvc/tmp/exps/tmp1x/inner"
    copy.mkdir(parents=True)
    for here, expected in ((tmp_path / "project", "project"), (copy, "project"), (tmp_path, ".")):
        monkeypatch.chdir(here)
        assert environment.scratch() == tmp_path / expected / ".scratch"
    monkeypatch.setenv("PROSECO_SCRATCH", "fast")
    assert environment.scratch() == Path.cwd() / "fast" and environment.scratch().is_absolute()


def test_pixels_at_a_time(monkeypatch):
    monkeypatch.delenv("PROSECO_MICRO_PIXELS", raising=False)
    assert environment.micro_pixels() is None
    monkeypatch.setenv("PROSECO_MICRO_PIXELS", "16000000")
    assert environment.micro_pixels() == 16_000_000
    monkeypatch.setenv("PROSECO_MICRO_PIXELS", "16e6")
    with pytest.raises(InputError, match=r"PROSECO_MICRO_PIXELS is '16e6'; it must be a whole number from 1 \("):
        environment.micro_pixels()


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


def test_cores_are_those_that_this_program_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 8}, raising=False)
    assert environment.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert environment.cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert environment.cores() == 1
