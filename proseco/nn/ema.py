"""Exponential moving average of a module's weights."""

import torch
from torch import nn


@torch.no_grad()
def update(teacher: nn.Module, student: nn.Module, keep: float) -> None:
    """teacher <- keep * teacher + (1 - keep) * student, for every parameter; buffers are copied.

    Tensors that both share (a fixed backbone) are left alone.

    :param keep: the keep rate, .999 in the paper. 0 makes the teacher equal to the student.
    """
    pairs = [(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True) if a is not b]
    torch._foreach_lerp_([a for a, _ in pairs], [b.detach() for _, b in pairs], 1 - keep)
    for ours, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        if ours is not theirs:
            ours.copy_(theirs)
