"""Exponential moving average of a module's weights."""

import torch
from torch import nn


@torch.no_grad()
def update(teacher: nn.Module, student: nn.Module, keep: float) -> None:
    """teacher <- keep * teacher + (1 - keep) * student, for every parameter; buffers are copied.

    :param keep: the keep rate, .999 in the paper. 0 makes the teacher equal to the student.
    """
    ours, theirs = list(teacher.parameters()), [p.detach() for p in student.parameters()]
    torch._foreach_lerp_(ours, theirs, 1 - keep)
    for ours, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        ours.copy_(theirs)
