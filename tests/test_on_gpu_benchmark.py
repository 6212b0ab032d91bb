import importlib
import re

import pytest
import torch

from benchmarks import on_gpu
from proseco.base import cli
from proseco.base.errors import InputError


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_is_one_line(tmp_path):
    with pytest.raises(InputError, match="torch sees no CUDA device"):
        on_gpu.main(out=tmp_path)


def test_a_failure_keeps_nothing_else_from_running(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(on_gpu.devices, "pick_device", lambda name, place: torch.device("cpu"))
    script = tmp_path / "script.py"
    script.write_text("import os, time, sys\nprint(os.environ['KIND'])\nsys.stdout.flush()\n")
    runs = {
        "good": on_gpu.Run("script", 60, {"KIND": "triton"}),
        "bad": on_gpu.Run("script", 60),
        "long": on_gpu.Run("sleeper", 2),
    }
    (tmp_path / "sleeper.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(on_gpu, "RUNS", runs)
    monkeypatch.delenv("KIND", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError, match=r"2 of 3 did not end well \(bad, long\); see .*report.md"):
        on_gpu.main(out=tmp_path / "out")
    report = (tmp_path / "out/report.md").read_text()
    assert re.search(r"## good: done after \d+ s\n\n    KIND=triton python -m script\n\n```\ntriton\n```", report)
    assert "## bad: exit code 1" in report and "KeyError" in report
    assert "## long: stopped after 2 s" in report and "begun" in report
    assert (tmp_path / "out/long.log").read_text() == "begun\n"
    on_gpu.main(out=tmp_path / "out", only="good")
    with pytest.raises(InputError, match="no run named 'best'; there is bad, good, long"):
        on_gpu.main(out=tmp_path / "out", only="best")
    with pytest.raises(InputError, match="3 of 3 did not end well"):
        on_gpu.main(out=tmp_path / "out", minutes=0)
    assert "no time left" in capsys.readouterr().out


def test_every_command_is_one(monkeypatch):
    """Each says of a machine without a GPU what it needs, and nothing of its words."""
    for run in on_gpu.RUNS.values():
        module, *words = run.words.split()
        assert module == "pytest" or module.startswith("benchmarks.")
        if module.startswith("benchmarks.") and not torch.cuda.is_available():
            monkeypatch.setattr("sys.argv", [module, *words])
            with pytest.raises(SystemExit) as ended:
                cli.run(importlib.import_module(module).main)
            assert ended.value.code == 1  # 2: a word that it does not know
