"""RoIAlign by its kernel, on a GPU too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def by_kernel() -> Iterator[None]:
    """Calls of torchvision's ``roi_align`` in this block take its kernel, whether or not torch is asked for equal bits
    (:func:`proseco.training.devices.prepare`).

    Else torchvision takes, on a GPU, a program in Python that it compiles at the first call. Where the samples of a
    cell depend on the size of the box, that goes through every pixel of the map for every cell: through 4e11 for the
    crops of 30 boxes of 480 x 600 pixels, and 1e11 for the masks of 128 of 800 x 1333. The kernel looks at the samples
    alone and adds them in a fixed order; its gradient does not, as that of ``grid_sample``, and torch warns of it.
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
