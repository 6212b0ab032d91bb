"""The teacher's average in closed form, and what is not averaged: buffers and shared tensors."""

import copy

import pytest
import torch
from torch import nn

from proseco.nn import ema


def network(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    net[1].running_mean.normal_()
    return net


@pytest.mark.parametrize("keep", [0.9, 0.999])
def test_several_steps_are_the_closed_form(keep):
    teacher, student = network(0), network(1)
    first = [p.clone() for p in teacher.parameters()]
    visited = []
    for step in range(5):
        with torch.no_grad():
            for p in student.parameters():
                p += step + torch.randn(p.shape)
        visited.append([p.clone() for p in student.parameters()])
        ema.update(teacher, student, keep)
    for number, ours in enumerate(teacher.parameters()):
        truth = keep**5 * first[number]
        for step, state in enumerate(visited):
            truth = truth + (1 - keep) * keep ** (4 - step) * state[number]
        assert torch.allclose(ours, truth, atol=1e-5)
    assert not torch.equal(next(teacher.parameters()), first[0])


def test_buffers_are_copied():
    teacher, student = network(0), network(1)
    student[1].num_batches_tracked.fill_(7)
    assert not torch.equal(teacher[1].running_mean, student[1].running_mean)
    ema.update(teacher, student, 0.999)
    assert torch.equal(teacher[1].running_mean, student[1].running_mean)
    assert torch.equal(teacher[1].running_var, student[1].running_var)
    assert teacher[1].num_batches_tracked == 7
    assert teacher[1].running_mean is not student[1].running_mean


def test_buffers_may_be_the_teachers_own():
    teacher, student = network(0), network(1)
    before = teacher[1].running_mean.clone()
    ema.update(teacher, student, 0.0, buffers=False)
    assert torch.equal(teacher[1].running_mean, before) and torch.equal(teacher[0].weight, student[0].weight)


def test_keep_zero_copies_and_keep_one_stays():
    teacher, student = network(0), network(1)
    before = [p.clone() for p in teacher.parameters()]
    ema.update(teacher, student, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    ema.update(teacher, student, 0.0)
    assert all(torch.allclose(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))


def test_what_both_share_is_left_alone():
    student = network(1)
    fixed = student[0]
    shared = [*fixed.parameters(), *student[1].buffers()]
    teacher = copy.deepcopy(student, {id(t): t for t in shared})
    assert teacher[0].weight is student[0].weight
    with torch.no_grad():
        teacher[2].weight += 1
        student[2].weight -= 1
    kept = {name: value.clone() for name, value in student.state_dict().items()}
    versions = [t._version for t in shared]
    middle = (teacher[2].weight + student[2].weight) / 2
    ema.update(teacher, student, 0.5)
    assert all(torch.equal(value, kept[name]) for name, value in student.state_dict().items())
    assert torch.allclose(teacher[2].weight, middle)
    assert [t._version for t in shared] == versions  # not even written


def test_the_student_is_not_touched_and_nothing_needs_a_gradient():
    teacher, student = network(0).requires_grad_(False), network(1)
    kept = {name: value.clone() for name, value in student.state_dict().items()}
    ema.update(teacher, student, 0.9)
    assert all(torch.equal(value, kept[name]) for name, value in student.state_dict().items())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_the_distance_is_that_of_all_weights_not_shared():
    student = network(1)
    teacher = copy.deepcopy(student, {id(p): p for p in student[0].parameters()})
    assert ema.distance(teacher, student) == 0
    with torch.no_grad():
        student[0].weight.fill_(99.0)  # shared
        teacher[2].weight += 0.5
        teacher[1].bias -= 2
    pairs = [(a, b) for k in (1, 2) for a, b in zip(teacher[k].parameters(), student[k].parameters(), strict=True)]
    apart = sum(((a - b) ** 2).sum().item() for a, b in pairs) ** 0.5
    assert apart == pytest.approx((8 * 0.25 + 4 * 4) ** 0.5)
    assert ema.distance(teacher, student).item() == pytest.approx(
        apart / sum((b**2).sum().item() for _, b in pairs) ** 0.5
    )


def test_networks_of_other_shape_are_refused():
    with pytest.raises(ValueError, match="zip"):
        ema.update(network(0), nn.Linear(3, 4), 0.9)
