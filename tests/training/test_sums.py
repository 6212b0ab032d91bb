"""Sums over processes, the others played by a function: what is read back from the device, and who has a gradient."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from proseco.training import distributed


class Recorded(TorchDispatchMode):
    """Names of all that torch is asked for."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def others(monkeypatch):
    """One other process: the function adds what it has to a flat tensor."""

    def play(add):
        monkeypatch.setattr(distributed, "world", lambda: 2)
        monkeypatch.setattr(distributed.dist, "all_reduce", add)

    return play


def parameters(device="cpu", without=()):
    """Of 6, 4 and 1 weights, their gradients 1, 2, 3 but for those ``without``."""
    found = [torch.nn.Parameter(torch.zeros(shape, device=device)) for shape in ((2, 3), (4,), ())]
    for number, parameter in enumerate(found):
        if number not in without:
            parameter.grad = torch.full_like(parameter, number + 1.0)
    return found


def test_where_all_have_gradients_the_host_neither_sends_nor_reads(others):
    """Either would wait for a GPU: a tensor of the host's numbers is copied from memory that is not page-locked."""
    others(lambda flat: flat.mul_(2))
    given, values = parameters(), torch.tensor([5.0, 7.0])
    with Recorded() as recorded:
        total = distributed.add_up(given, values)
    assert total.tolist() == [10, 14] and [p.grad.unique().tolist() for p in given] == [[2], [4], [6]]
    assert "cat" in recorded.names
    assert not {"lift_fresh", "_to_copy", "_local_scalar_dense", "is_nonzero", "item"} & set(recorded.names)


def test_what_has_no_gradient_anywhere_keeps_none(others):
    """The first is missing here alone, the second in both, the third in the other process alone."""

    def add(flat):
        flat += torch.tensor([0.5] * 6 + [0.0] * 4 + [0.0] + [1.0, 0.0, 0.0] + [9.0])

    others(add)
    first, second, third = given = parameters(without=(0, 1))
    total = distributed.add_up(given, torch.tensor([1.0]))
    assert total.tolist() == [10]
    assert first.grad.equal(torch.full((2, 3), 0.5)) and second.grad is None and third.grad.item() == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_the_host_does_not_wait_for_a_gpu(others):
    others(lambda flat: flat.mul_(2))
    given, values = parameters("cuda"), torch.ones(2, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        total = distributed.add_up(given, values)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert total.tolist() == [2, 2] and [p.grad.unique().tolist() for p in given] == [[2], [4], [6]]
