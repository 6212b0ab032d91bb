"""LARS against its formula in loops over numbers, and where it has no factor."""

import copy
import math

import pytest
import torch
from torch import nn

from proseco.training.lars import LARS
from proseco.training.snapshots import Snapshots

OPTIONS = {"momentum": 0.8, "weight_decay": 0.3, "trust": 0.05}
RATES = (0.7, 0.2)


def layers():
    """A matrix, its bias, a kernel, the weights of a norm, a layer of zeros and one whose gradient is 0; in float64."""
    draws = torch.Generator().manual_seed(5)
    sizes = [(2, 3), (2,), (2, 1, 3, 2), (4,), (3, 1), (1, 5)]
    found = [nn.Parameter(torch.randn(size, generator=draws, dtype=torch.float64)) for size in sizes]
    with torch.no_grad():
        found[4].zero_()
    return found


def gradients(step):
    draws = torch.Generator().manual_seed(100 + step)
    found = [torch.randn(p.shape, generator=draws, dtype=torch.float64) * (1 + step) for p in layers()]
    found[5].zero_()
    return found


def optimizer(parameters, **changes):
    """Two groups of different rates."""
    groups = [{"params": parameters[:3], "lr": RATES[0]}, {"params": parameters[3:], "lr": RATES[1]}]
    return LARS(groups, lr=1.0, **(OPTIONS | changes))


def train(parameters, made, steps):
    for step in steps:
        for parameter, gradient in zip(parameters, gradients(step), strict=True):
            parameter.grad = gradient
        made.step()


def oracle(steps, momentum, weight_decay, trust):
    """Lists of numbers, one a layer, after so many steps."""
    result = []
    for number, layer in enumerate(layers()):
        w = layer.detach().flatten().tolist()
        v = [0.0] * len(w)
        for step in range(steps):
            g = gradients(step)[number].flatten().tolist()
            u = list(g)
            if len(layer.shape) > 1:
                for i in range(len(w)):
                    u[i] = g[i] + weight_decay * w[i]
                of_w = math.sqrt(sum(x * x for x in w))
                of_u = math.sqrt(sum(x * x for x in u))
                if of_w > 0 and of_u > 0:
                    u = [x * trust * of_w / of_u for x in u]
            for i in range(len(w)):
                v[i] = momentum * v[i] + u[i]
                w[i] -= RATES[0 if number < 3 else 1] * v[i]
        result.append(w)
    return result


@pytest.mark.parametrize("changes", [{}, {"momentum": 0.0}, {"weight_decay": 0.0}])
def test_it_is_the_formula(changes):
    parameters = layers()
    train(parameters, optimizer(parameters, **changes), range(4))
    for ours, truth in zip(parameters, oracle(4, **(OPTIONS | changes)), strict=True):
        assert ours.dtype == torch.float64
        assert ours.flatten().tolist() == pytest.approx(truth, rel=1e-12, abs=1e-14)


def test_a_layer_moves_by_a_share_of_its_length_whatever_its_gradient():
    for scale in (1e-6, 1.0, 1e6):
        weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
        weight.grad = torch.tensor([[0.0, 2.0]]) * scale
        LARS([weight], lr=0.5, weight_decay=0.0, trust=0.01).step()
        assert weight.tolist() == [pytest.approx([3.0, 4.0 - 0.5 * 0.01 * 5.0])]


def test_what_has_no_gradient_stays():
    used, unused = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    used.grad = torch.ones(2, 2)
    LARS([used, unused], lr=0.5, weight_decay=0.5).step()
    assert torch.equal(unused, torch.ones(2, 2)) and not torch.equal(used, unused)


def test_it_goes_on_in_equal_bits(tmp_path):
    """From a state on the disk, as the loop's."""
    whole = layers()
    train(whole, optimizer(whole), range(5))
    parts = layers()
    begun = optimizer(parts)
    train(parts, begun, range(2))
    snapshots = Snapshots(tmp_path, 1)
    snapshots.save(2, {"optimizer": begun.state_dict()})
    again = [nn.Parameter(copy.deepcopy(p.data)) for p in parts]
    taken_up = optimizer(again)
    taken_up.load_state_dict(snapshots.load()["optimizer"])
    train(again, taken_up, range(2, 5))
    assert all(torch.equal(one, two) for one, two in zip(whole, again, strict=True))
