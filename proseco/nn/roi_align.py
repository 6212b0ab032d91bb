"""RoIAlign with torchvision's kernel, on a GPU too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def native_roi_align() -> Iterator[None]:
    """Inside this block torchvision's ``roi_align`` uses its CUDA kernel even if deterministic algorithms are requested
    (:func:`proseco.training.devices.prepare`).

    Otherwise, on a GPU, torchvision takes a Python implementation that it compiles at the first call. Where the number
    of samples per cell depends on the size of the box, that visits every pixel of the map for every cell: 4e11 visits
    for the crops of 30 boxes of 480 x 600 pixels, and 1e11 for the masks of 128 of 800 x 1333. The kernel reads the
    samples alone and adds them in a fixed order; its gradient does not, like that of ``grid_sample``, and torch warns
    of it.
    """
    if not torch.are_deterministic_algorithms_enabled():  # setting it imports torch's compiler: seconds
        yield
        return
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
