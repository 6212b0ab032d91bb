"""Numbers that a network needs on its device."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=4096)
def constant(values: tuple, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """``torch.tensor``, cached: one tensor for the same numbers, not to be written to.

    Copied to a GPU once: a copy makes the host wait for queued GPU work, and a step needs some of these numbers in each
    of its layers. A training has some hundred sizes of images, with half a dozen constants each.
    """
    return torch.tensor(values, dtype=dtype, device=device)
