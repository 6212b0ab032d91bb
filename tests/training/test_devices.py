import pytest
import torch

from proseco.base.errors import InputError
from proseco.training.devices import autocast, pick_device, pick_precision

CPU = torch.device("cpu")


def test_devices():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match=r"no device named 'gpu'; there is auto, cpu, cuda \(params.yaml: device\)"):
        pick_device("gpu")
    with pytest.raises(InputError, match=r"cpu, cuda \(--device\)"):
        pick_device("gpu", "--device")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_in_vain():
    with pytest.raises(InputError, match="torch sees no CUDA device"):
        pick_device("cuda")


def test_each_process_takes_a_device_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    for rank in range(2):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert pick_device("auto") == torch.device("cuda", rank)
        assert pick_device("cpu") == CPU
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="3 processes need a CUDA device each; torch sees 2"):
        pick_device("cuda")


def test_precisions():
    assert pick_precision("auto", CPU) == pick_precision("float32", torch.device("cuda")) == torch.float32
    assert pick_precision("auto", torch.device("cuda")) == pick_precision("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(InputError, match="no precision named 'half'; there is auto, bfloat16, float32"):
        pick_precision("half", CPU)
    with pytest.raises(InputError, match=r"float32 \(--precision\)"):
        pick_precision("half", CPU, "--precision")
    layer, x = torch.nn.Linear(2, 3), torch.ones(1, 2)
    with autocast(CPU, torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert layer(x).dtype == torch.float32
