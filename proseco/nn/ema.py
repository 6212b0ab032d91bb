"""Exponential moving average of a module's weights."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def update(teacher: nn.Module, student: nn.Module, ema_rate: float, *, buffers: bool = True) -> None:
    """teacher <- ema_rate * teacher + (1 - ema_rate) * student, for every parameter; buffers are copied.

    Tensors that both share (a fixed backbone) are left alone.

    :param ema_rate: .999 in the paper. 0 makes the teacher equal to the student.
    :param buffers: False where the teacher's batch norm gathers statistics of its own, in train mode.
    """
    torch._foreach_lerp_(*_parameters(teacher, student), 1 - ema_rate)
    for ours, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        if buffers and ours is not theirs:
            ours.copy_(theirs)


@torch.no_grad()
def distance(teacher: nn.Module, student: nn.Module) -> Tensor:
    """|teacher - student| / |student|, Euclidean, over all parameters that the two do not share: ()."""
    ours, theirs = _parameters(teacher, student)
    apart = torch.stack(torch._foreach_norm(torch._foreach_sub(ours, theirs))).norm()
    return apart / torch.stack(torch._foreach_norm(theirs)).norm()


def _parameters(teacher: nn.Module, student: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters of each, in the same order, without the shared ones."""
    pairs = [(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True) if a is not b]
    return [a for a, _ in pairs], [b.detach() for _, b in pairs]
