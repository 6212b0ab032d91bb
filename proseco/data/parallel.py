"""Tasks on all cores of this machine, or on a running Dask or Ray cluster, as the environment says."""

import os
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from proseco.base import environment
from proseco.base.errors import InputError

_PATIENCE = 20  # seconds in which a scheduler must answer


def results(tasks: Iterable, folder: Path) -> Iterator:
    """Results of joblib's delayed tasks, each as soon as it is ready, in no order.

    :param folder: where finished tasks leave their work, for the message.
    :raises InputError: a task raised it; the cluster cannot be used; a worker was killed.
    """
    backend, address = environment.backend()
    with ExitStack() as stack:
        died: tuple[type[BaseException], ...] = (TerminatedWorkerError,)
        if backend == "dask":
            died += (_dask(address, stack),)
        elif backend == "ray":
            _ray(address)
        workers = environment.workers() if backend == "loky" else None  # a cluster knows its own number
        end = {"initializer": _end_with, "initargs": (os.getpid(),)} if backend == "loky" else {}
        with joblib.parallel_config(backend=backend, n_jobs=-1 if workers is None else max(1, workers), **end):
            # Ray's backend gives all results at the end.
            pool = joblib.Parallel(return_as="list" if backend == "ray" else "generator_unordered", batch_size=1)
        # A warning for when the caller stops at a mistake, which needs no further words.
        warnings.filterwarnings("ignore", message=".*tasks which were still being processed by the workers")
        try:
            yield from pool(tasks)
        except died:
            raise InputError(
                f"a worker process was ended, by hand or because memory ran out; finished shards are kept in "
                f"{str(folder)!r}: run the same command again, with fewer workers (PROSECO_WORKERS) if it was memory"
            ) from None


def _end_with(starter: int) -> None:
    """End this worker soon after the process that started it, which after ``kill -9`` cannot tell it to."""

    def watch() -> None:
        while os.getppid() == starter:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _dask(address: str, stack: ExitStack) -> type[BaseException]:
    """Connect; returns the error that is raised when workers die again and again."""
    try:
        import distributed
    except ImportError:
        raise InputError("PROSECO_BACKEND is dask, which is not installed: pip install distributed") from None
    try:
        client = stack.enter_context(distributed.Client(address, timeout=_PATIENCE))
    except (OSError, ValueError) as error:
        raise InputError(f"PROSECO_CLUSTER is {address!r}: no Dask scheduler answers there: {error}") from None
    threads = client.nthreads()
    if not threads or max(threads.values()) > 1:
        raise InputError(
            f"PROSECO_CLUSTER is {address!r}, with {len(threads)} workers of {sorted(set(threads.values()))} threads; "
            f"start workers of one thread each (dask worker --nthreads 1 --nworkers <cores> {address})"
        )
    return distributed.KilledWorker


def _ray(address: str) -> None:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise InputError("PROSECO_BACKEND is ray, which is not installed: pip install ray") from None
    try:
        ray.init(address=address)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"PROSECO_CLUSTER is {address!r}: no Ray cluster answers there: {error}") from None
    register_ray()
