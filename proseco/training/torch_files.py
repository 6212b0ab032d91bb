"""Writing tensors and plain values for ``torch.load``."""

import os
from pathlib import Path

import torch


def save(content: dict, path: Path) -> None:
    """Write a file that is on the disk when this returns.

    :raises OSError: it cannot be written, for a full disk perhaps; what there is of it is removed.
    """
    try:
        with open(path, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        # Where a write fails, torch fails again at closing its archive, which hides what the system said.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        path.unlink(missing_ok=True)
        raise OSError(cause.errno, cause.strerror, str(path)) from None
