"""The processes that make batches: how many there are, how they end, what is said if they lack shared memory."""

import os
import re
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from proseco.base import environment
from proseco.base.errors import InputError
from proseco.data.batch import Batch, collate
from proseco.data.views import Example

#: What torch says if shared memory is full: when it is allocated, or, if only written to then, of a killed worker.
_NO_ROOM = re.compile(
    r"unable to allocate shared memory|</torch_\w+>.*No space left on device|(insufficient|out of) shared memory"
)
#: What it says of one that was killed, as for the memory that it took.
_KILLED = re.compile(r"DataLoader worker \(pid \d+\) is killed by signal: Killed")


class Loader(DataLoader):
    """A DataLoader that raises InputErrors of its workers unchanged, reports a lack of shared memory in one line, and
    whose workers survive a SIGTERM that others send."""

    def __init__(self, examples: Dataset, batches: Iterable[list], device: torch.device, *, pad_to: int = 1):
        """
        :param examples: gives an :class:`Example`, or the InputError that stands for one.
        :param batches: keys of ``examples``, one list per batch.
        :param pad_to: see :func:`proseco.data.batch.collate`.
        """
        workers = _count(device)
        super().__init__(
            examples,
            batch_sampler=batches,
            collate_fn=partial(_collate, pad_to=pad_to),
            num_workers=workers,
            pin_memory=device.type == "cuda",
            worker_init_fn=partial(_outlive_sigterm, os.getpid()),
            persistent_workers=False,
            prefetch_factor=2 if workers else None,  # one being made and one ready: each waits in /dev/shm
        )

    def __iter__(self) -> Iterator[Batch]:
        try:
            for batch in self._begin():
                if isinstance(batch, InputError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if _NO_ROOM.search(f"{error} {error.__cause__}"):
                raise InputError(_without_room(self.num_workers)) from None
            raise

    def _begin(self) -> Iterator[Batch | InputError]:
        """Start the workers. SIGTERM is blocked meanwhile, in them until :func:`_outlive_sigterm` takes over."""
        if not _tells_senders():
            return super().__iter__()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _count(device: torch.device) -> int:
    """Number of loader processes: PROSECO_WORKERS, else none on a CPU, which is busy, and up to 16 beside a GPU."""
    workers = environment.workers()
    if workers is not None:
        return workers
    cores = environment.cores() // environment.local_world()
    return 0 if device.type == "cpu" else min(16, max(1, cores - 1))


def _collate(examples: list[Example | InputError], *, pad_to: int) -> Batch | InputError:
    errors = [example for example in examples if isinstance(example, InputError)]
    if errors:
        return errors[0]
    # A worker's batch crosses in shared memory. If it were the queue that copied it there, a lack of room would be an
    # error in the queue's thread, which only prints it, and the training would wait for ever.
    return collate(examples, pad_to=pad_to, shared=get_worker_info() is not None)


def _without_room(workers: int) -> str:
    try:
        there = f"/dev/shm has {shutil.disk_usage('/dev/shm').total / 1e9:.2f} GB"
    except OSError:
        there = "there is no /dev/shm"
    return (
        f"no room in shared memory for the batches of {workers} loader processes: {there}; make it larger (of a "
        f"container, --shm-size), or take fewer (PROSECO_WORKERS, now {workers}; 0 needs none); see docs/training.md"
    )


@contextmanager
def explained_ends() -> Iterator[None]:
    """Report in one line that a worker was killed. Torch notices at any time, not only where a batch is awaited.

    :raises InputError: it was.
    """
    try:
        yield
    except RuntimeError as error:
        killed = _KILLED.search(f"{error} {error.__cause__}")
        if not killed:
            raise
        raise InputError(
            f"{killed[0]}, by hand or because memory ran out; the same command goes on, with fewer workers "
            "(PROSECO_WORKERS) if it was memory"
        ) from None


def _outlive_sigterm(starter: int, worker: int) -> None:
    """Let only the process that started a worker end it by SIGTERM.

    Slurm, ``timeout`` and others send SIGTERM to all processes of a training. The training ends after the current step,
    but if a worker died torch would end it in the middle of one. SIGTERM is not just ignored: Python uses it to end the
    workers when it exits with an error that holds their loader, and would then wait for them for ever.
    """

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != starter:
            pass
        os._exit(0)

    if _tells_senders():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # so that the new thread alone takes it
        threading.Thread(target=wait, daemon=True).start()


def _tells_senders() -> bool:
    """Whether the system says who sent a signal. macOS does not: there anybody's SIGTERM ends a worker."""
    return hasattr(signal, "sigwaitinfo")
