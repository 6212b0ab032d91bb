"""What is said and kept of a step that fails: its loss or gradient is not finite, or a GPU's memory is full."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from proseco.base.errors import InputError, PeerLost
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
        try:
            path = snapshots.keep(f"{_BATCH}{step}-process-{distributed.rank()}.pt", content)
        except OSError as full:
            return FloatingPointError(f"{message} (the batch cannot be kept: {full.strerror})")
        logged = error.everywhere or distributed.rank() == 0
        message += f" (the batch is kept in {path}{f', the log in {snapshots.folder / _LOG}' if logged else ''})"
    return FloatingPointError(message)


def out_of_memory(error: torch.OutOfMemoryError, step: int, batch, method) -> InputError:
    """The error to raise in a step: which batch it was, and what makes it fit."""
    height, width = batch.mask.shape[1:]
    held = batch.at_a_time(method.micro_batch) if hasattr(method, "micro_batch") else 1
    if held > 1:
        divide = f"PROSECO_MICRO_PIXELS={held * height * width // 2} divides it"
        advice = f"{divide}, or more processes share it (PROSECO_NPROC); either goes on from the last state"
    elif len(batch) > 1:
        advice = "more processes share it (PROSECO_NPROC; a backbone has one), or its schedule has a smaller one"
    else:
        advice = "its views have to be smaller"
    return too_large(error, f"step {step}", batch, advice)


def too_large(error: torch.OutOfMemoryError, what: str, batch, advice: str) -> InputError:
    """The error to raise where a batch does not fit a GPU's memory.

    :param what: was done with the batch; begins the line. ``advice`` ends it.
    """
    height, width = batch.mask.shape[1:]
    size = f" of {width} x {height}" if height else ""  # else there are crops alone, of sizes of their own
    return InputError(
        f"{what}: a batch of {len(batch)} images{size} is too large for the GPU's memory "
        f"({str(error).partition('. ')[0]}); {advice}"
    )


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
