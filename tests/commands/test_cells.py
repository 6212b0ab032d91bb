"""``cells``: what it runs in which order, and the slots of trainings."""

import subprocess
from pathlib import Path

import pytest

from proseco.base import environment
from proseco.base.errors import InputError
from proseco.commands import cells
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params_file.write(tmp_path)
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PROSECO_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "cores", lambda: 8)
    return tmp_path


def test_the_commands_in_an_order_that_can_run(here, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-ab")
    cells.main(dry=True)
    quick, long, *trainings = capsys.readouterr().out.splitlines()
    quick, long = (line.split(" -m dvc --wait-for-lock repro ")[1].split() for line in (quick, long))
    assert quick == ["split@demo-mini_coco_5", "split@demo-mini_voc_10", "backbone@demo"]  # they may refuse something
    assert long == ["propose@demo-main", "source@demo-supervised", "source@demo-proseco"]  # no -s: all that is needed
    names = [line.split(" -s ")[1] for line in trainings]
    assert len(names) == 2 + 2 * 2 * 2 and names.index("pretrain@demo-proseco") < names.index(
        "finetune@demo-proseco-mini_coco_5-42"
    )
    assert trainings[0].startswith("CUDA_VISIBLE_DEVICES=3 OMP_NUM_THREADS=4 PROSECO_WORKERS=3 ")
    assert trainings[1].startswith("CUDA_VISIBLE_DEVICES=GPU-ab ") and trainings[2].startswith(
        "CUDA_VISIBLE_DEVICES=3 "
    )


def test_slots(here, monkeypatch):
    monkeypatch.setattr(cells.subprocess, "run", lambda *words, **options: (_ for _ in ()).throw(OSError))
    assert cells._slots("auto", None) == [{"OMP_NUM_THREADS": "8"}]
    assert cells._slots("auto", 3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert cells._slots("auto", 20) == [{"OMP_NUM_THREADS": "1"}] * 20
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert cells._slots("auto", 2) == [{}, {}]
    listed = "GPU 0: NVIDIA A100 (UUID: GPU-1)\nGPU 1: NVIDIA A100 (UUID: GPU-2)\n"
    answer = subprocess.CompletedProcess((), 0, listed, "")
    monkeypatch.setattr(cells.subprocess, "run", lambda *words, **options: answer)
    found = cells._slots("auto", 3)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in found] == ["0", "1", "0"]
    assert all(slot["PROSECO_WORKERS"] == "1" for slot in found)
    assert cells._slots("cpu", 2) == [{}, {}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cells._slots("auto", None) == [{}]


def test_a_training_that_fails_is_a_line_at_the_end(here, monkeypatch, capsys):
    monkeypatch.setattr(cells.subprocess, "run", lambda words, **options: subprocess.CompletedProcess(words, 0, ""))
    monkeypatch.setattr(cells._jobs, "run", lambda jobs, slots, logs, say: {"a": "no such thing", "b": "not run"})
    with pytest.raises(SystemExit) as caught:
        cells.main(jobs=2)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: a: no such thing\nerror: b: not run\n"
    monkeypatch.setattr(cells._jobs, "run", lambda jobs, slots, logs, say: {})
    cells.main(jobs=2)
    assert capsys.readouterr().out == "all 10 trainings are done; dvc repro makes the tables\n"


def test_no_training_begins_without_what_it_needs(here, monkeypatch):
    monkeypatch.setattr(cells.subprocess, "run", lambda words, **options: subprocess.CompletedProcess(words, 1, ""))
    monkeypatch.setattr(cells._jobs, "run", lambda *words: pytest.fail("a training was begun"))
    with pytest.raises(InputError, match="no training was begun"):
        cells.main(jobs=1)
    with pytest.raises(InputError, match="--jobs is 0"):
        cells.main(jobs=0)
