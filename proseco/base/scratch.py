"""Unfinished work that outlives a kill, and that only the same work takes up again.

DVC deletes a stage's outputs before it runs the stage, so states of a training lie elsewhere: in
``.scratch/<stage>/<fingerprint>``. The fingerprint is of all that the result depends on, so that a run with another
``delta`` never goes on from this one's state.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from proseco.base import environment, files, sources
from proseco.base.errors import InputError


@contextmanager
def folder(stage: str, *, code: Iterable[str | Path], inputs: Iterable[str | Path], **facts) -> Iterator[Path]:
    """The folder of unfinished work, absolute; removed when the block ends well, kept when it does not.

    Of several processes of one training the first locks and removes it, the others use it.

    :param code: source files that the work begins with (:func:`proseco.base.sources.digests`).
    :param inputs: files that it reads; ``facts`` JSON values on which the result depends.
    :raises InputError: an input is missing; another living process is at the same work, as after a kill of ``dvc``
        alone, whose stage goes on.
    """
    path = environment.scratch() / stage / _fingerprint(sources.digests(code), inputs, facts)
    path.mkdir(parents=True, exist_ok=True)
    if environment.rank() > 0:
        yield path
        return
    with _locked(path / "lock"):
        yield path
        shutil.rmtree(path)


def _fingerprint(code: dict[str, str], inputs: Iterable[str | Path], facts: dict) -> str:
    missing = [str(path) for path in inputs if not Path(path).is_file()]
    if missing:
        raise InputError(f"no file {missing[0]!r}")
    read = {str(path): files.digest(path) for path in inputs}
    depends = {"facts": facts, "code": code, "inputs": read, "torch": metadata.version("torch")}
    text = json.dumps(depends, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # A lock of the process (lockf), not of the open file (flock): a loader's worker that was forked from a killed
    # training and lives on for a moment does not hold it.
    with open(path, "a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(f"{holder} is at the same work (lock {str(path)!r}); wait for it, or end it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
