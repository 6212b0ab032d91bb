"""Folders of unfinished work, found again by what the work depends on, and held by one writer at a time.

A folder's name is a digest of all that its bytes depend on, so that a run that was killed finds what it had finished,
and a run with another parameter does not. A writer holds ``flock`` locks, which the system lets go of however the
process ends, and which are seen from other machines on shared file systems that pass them on (NFS, CephFS, GPFS, Lustre
with ``-o flock``).
"""

import fcntl
import hashlib
import json
import os
import platform
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path

from proseco.base import files
from proseco.base.errors import InputError

#: Other versions of these may decode, scale or segment an image in another way.
_LIBRARIES = ("numpy", "numba", "opencv-contrib-python-headless", "pillow")

_SHARED = "any.lock"


def fingerprint(code: Iterable[Path], **facts) -> str:
    """Digest of facts (JSON values), source files, and versions that can change a byte."""
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    versions |= {"python": platform.python_version_tuple()[:2], "machine": platform.machine()}
    whole = {"facts": facts, "code": {path.name: files.digest(path) for path in code}, "versions": versions}
    return hashlib.blake2b(json.dumps(whole, sort_keys=True).encode(), digest_size=8).hexdigest()


@contextmanager
def claimed(folder: Path, part: str = "") -> Iterator[None]:
    """Make and hold the folder: alone, or for one part beside writers of other parts.

    :raises InputError: a living process holds it, which is named; or the file system has no locks.
    """
    with ExitStack() as stack:
        while True:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make {str(folder)!r}: {error.strerror} (PROSECO_SCRATCH)") from None
            # The first lock is shared by parts. Each writer's own lock says who it is, and keeps out its like.
            descriptors = [
                stack.enter_context(_lock(folder / _SHARED, fcntl.LOCK_SH if part else fcntl.LOCK_EX)),
                stack.enter_context(_lock(folder / f"{part or 'all'}.lock", fcntl.LOCK_EX)),
            ]
            if all(os.fstat(descriptor).st_nlink for descriptor in descriptors):
                break  # else another run finished and removed the folder in between
            stack.close()
        os.ftruncate(descriptors[1], 0)
        os.pwrite(descriptors[1], f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield


@contextmanager
def _lock(path: Path, kind: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{_holder(path)} is at work in {str(path.parent)!r}; wait for it, or end it") from None
        except OSError as error:
            where = "set PROSECO_SCRATCH to a folder on a file system that has locks"
            raise InputError(f"cannot lock {str(path)!r}: {error.strerror}; {where}") from None
        yield descriptor
    finally:
        os.close(descriptor)


def _holder(lock: Path) -> str:
    """Who holds a lock, or those who share it, as the writers say in their own locks."""
    own = [lock] if lock.name != _SHARED else sorted(set(lock.parent.glob("*.lock")) - {lock})
    found = []
    for path in own:
        with suppress(OSError), open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                part = "" if path.stem == "all" else f" ({path.stem})"
                found.append((file.read().decode(errors="replace") or "another process") + part)
    return " and ".join(found) or "another process"
