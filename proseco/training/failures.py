"""What is said and kept of a step whose loss or gradient is not finite."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from proseco.base.errors import PeerLost
from proseco.training import distributed
from proseco.training.log import Log
from proseco.training.snapshots import Snapshots

#: What is kept beside the states: batches, named by step and process, and the log.
_BATCH, _LOG = "not-finite-step-", "log.csv"


class NotFinite(FloatingPointError):
    """A loss, a gradient or a cost of a matching. ``everywhere``: all processes know of it, not this one alone."""

    def __init__(self, message: str, *, everywhere: bool = True):
        super().__init__(message)
        self.everywhere = everywhere


def suspect_keys(terms: dict, batch) -> str:
    """Keys of the images of those processes whose own terms are not finite; of all images if there is none.

    :param terms: of this process's part of the batch, scalars.
    """
    bad = not all(bool(torch.isfinite(value)) for value in terms.values())
    reports = distributed.gather_values((bad, batch.keys))
    chosen = [keys for bad, keys in reports if bad] or [keys for _, keys in reports]
    return ", ".join(key for keys in chosen for key in keys)


def keep_batch(error: NotFinite, step: int, batch, snapshots: Snapshots | None) -> FloatingPointError:
    """Keep the batch for ``torch.load``. Returns the error to raise, which says where batch and log are.

    The first process keeps the log, which it does not if another one fails alone.
    """
    message = f"step {step}: {error}"
    if snapshots:
        content = batch.to(torch.device("cpu")).content()
        path = snapshots.keep(f"{_BATCH}{step}-process-{distributed.rank()}.pt", content)
        logged = error.everywhere or distributed.rank() == 0
        message += f" (the batch is kept in {path}{f', the log in {snapshots.folder / _LOG}' if logged else ''})"
    return FloatingPointError(message)


@contextmanager
def keep_log(log: Log, flush: Callable[[], None], snapshots: Snapshots | None) -> Iterator[None]:
    """If the block fails and a batch was kept, keep the log beside it: the log's own folder goes with the error.

    The first process has the log, and the batch may be another's.

    :param flush: writes the interval that was begun.
    """
    try:
        yield
    except (FloatingPointError, PeerLost):
        if snapshots and distributed.rank() == 0 and any(snapshots.folder.glob(f"{_BATCH}*.pt")):
            if log.count:
                flush()
            shutil.copyfile(log.rows.path, snapshots.folder / _LOG)
        raise
