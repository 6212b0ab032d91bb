"""Folders of unfinished work, found again by what the work depends on, and held by one writer at a time.

DVC deletes a stage's outputs before it runs the stage, so what must survive a kill lies elsewhere: in
``.scratch/<stage>/<fingerprint>``. The fingerprint covers all that the result depends on, so that a run with another
``delta`` never resumes this one's state. A writer holds ``lockf`` locks, which the system releases however the process
ends, and which other machines see on shared file systems that pass them on (NFS, CephFS, GPFS, Lustre with
``-o flock``). They belong to the process, not to the open file: a worker that was forked from a killed training and
lives on for a moment does not hold them.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from proseco.base import environment, files, provenance, sources
from proseco.base.errors import InputError

_SHARED = "any.lock"
#: Packages whose versions may change the bits of a training: its state is not resumed with another version.
_LIBRARIES = ("torch", "torchvision", "triton", "numpy", "numba", "lapx", "opencv", "pillow")


def fingerprint(**depends) -> str:
    """Digest of all that a result depends on, 32 hexadecimal digits; arguments and errors as of :func:`_all`."""
    return files.text_digest(json.dumps(_all(**depends), sort_keys=True, allow_nan=False))


def watch(
    *, code: Iterable[str | Path], inputs: Iterable[Path] = (), planned: dict[str, str] | None = None
) -> Callable[[], None]:
    """A function for the end of the work, which raises an InputError if a file is no longer what it was.

    DVC reads code and inputs again when a stage has ended. What somebody changed in the meantime it would record as
    that which the result was made of, and give the result to whoever has the changed files.

    :param planned: path -> digest of files of code as stage ``plan`` read them, which stand for them under DVC.
    :raises InputError: one of these is no longer what it was then.
    """
    code, inputs = list(code), list(inputs)
    before = _files(code, inputs)
    if other := sorted(name for name, digest in (planned or {}).items() if before.get(name) != digest):
        raise InputError(f"{', '.join(other)} changed since stage plan read it; run `dvc repro` again")

    def check() -> None:
        after = _files(code, inputs)
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if changed:
            raise InputError(
                f"{', '.join(changed)} changed while this ran, and DVC would take the result for one of the changed "
                "files; undo the change, and the same command goes on from what is finished"
            )

    return check


def _files(code: Iterable[str | Path], inputs: Iterable[Path]) -> dict[str, str | None]:
    return sources.digests(code) | {str(path): files.digest(path) if path.is_file() else None for path in inputs}


def _all(*, code: Iterable[str | Path], inputs: Iterable[Path] = (), libraries: Iterable[str], **facts) -> dict:
    """All that a result depends on.

    :param code: source files that the work begins with; the files that they import count too.
    :param inputs: files that the work reads.
    :param libraries: packages of which another version may give another result.
    :param facts: JSON values that the result depends on.
    :raises InputError: an input is missing.
    """
    inputs = list(inputs)
    missing = [str(path) for path in inputs if not path.is_file()]
    if missing:
        raise InputError(f"no file {missing[0]!r}")
    versions = provenance.versions(*libraries)
    versions |= {"python": platform.python_version_tuple()[:2], "machine": platform.machine()}
    whole = {"code": sources.digests(code), "facts": facts, "versions": versions}
    return whole | {"inputs": {str(path): files.digest(path) for path in inputs}}


@contextmanager
def folder(stage: str, **depends) -> Iterator[Path]:
    """The folder of a training's unfinished work, absolute; removed if the block ends well, else kept.

    It is kept too if the program that started this process has ended before it: ``dvc`` then records nothing, and the
    same command deletes what was made and goes on from here. Of several processes of one training, the first holds and
    removes it; the others use it.

    :param depends: arguments of :func:`fingerprint` except ``libraries``.
    :raises InputError: as :func:`fingerprint` and :func:`claimed`.
    """
    path = environment.scratch() / stage / fingerprint(libraries=_LIBRARIES, **depends)
    if environment.rank() > 0:
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with claimed(path):
        yield path
        if not environment.orphaned():
            shutil.rmtree(path)


@contextmanager
def set_aside(name: str, *outputs: Path) -> Iterator[list[Path]]:
    """Move the outputs of the previous run out of the way until the block ends well; yield where each one is now.

    For outputs that are persistent in dvc.yaml and so are still there. After a failure they must be gone, or
    ``dvc exp save`` would record them as results of the new settings. The next run finds what a failed one set aside.

    Each working tree has a folder of its own, as the copies of ``dvc exp run --queue`` share one scratch folder.

    :returns: one path per output, which exists if the output did.
    :raises InputError: as :func:`claimed`.
    """
    tree = hashlib.blake2b(os.fsencode(Path.cwd()), digest_size=8).hexdigest()
    folder = environment.scratch() / name / tree
    places = [folder / str(number) for number in range(len(outputs))]
    with claimed(folder):
        for output, place in zip(outputs, places, strict=True):
            if output.exists():
                shutil.rmtree(place, ignore_errors=True)
                shutil.move(output, place)
        yield places
        shutil.rmtree(folder)


@contextmanager
def claimed(folder: Path, part: str = "") -> Iterator[None]:
    """Make the folder and hold it: all of it, or one part beside writers of other parts.

    :raises InputError: a living process, which the message names, holds it; the folder cannot be made; or the file
        system has no locks.
    """
    with ExitStack() as stack:
        while True:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make {str(folder)!r}: {error.strerror} (PROSECO_SCRATCH)") from None
            # Writers of parts share the first lock. The second says who writes, and keeps out others of the same part.
            descriptors = [
                stack.enter_context(_lock(folder / _SHARED, fcntl.LOCK_SH if part else fcntl.LOCK_EX)),
                stack.enter_context(_lock(folder / f"{part or 'all'}.lock", fcntl.LOCK_EX)),
            ]
            if all(os.fstat(descriptor).st_nlink for descriptor in descriptors):
                break  # else another run has finished in between and removed the folder
            stack.close()
        os.ftruncate(descriptors[1], 0)
        os.pwrite(descriptors[1], f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield


@contextmanager
def _lock(path: Path, kind: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX leaves open which
            raise InputError(f"{_holder(path)} is at work in {str(path.parent)!r}; wait for it, or end it") from None
        except OSError as error:
            advice = "set PROSECO_SCRATCH to a folder on a file system that has locks"
            raise InputError(f"cannot lock {str(path)!r}: {error.strerror}; {advice}") from None
        yield descriptor
    finally:
        os.close(descriptor)


def _holder(lock: Path) -> str:
    """The processes that hold or share a lock, as they say in their own locks."""
    own = [lock] if lock.name != _SHARED else sorted(set(lock.parent.glob("*.lock")) - {lock})
    holders = []
    for path in own:
        with suppress(OSError), open(path, "rb") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                part = "" if path.stem == "all" else f" ({path.stem})"
                holders.append((file.read().decode(errors="replace") or "another process") + part)
    return " and ".join(holders) or "another process"
