"""Files that are whole or absent, and the record of what made them."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import platform
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path

from proseco.base.errors import InputError

#: Folders of code, from the root of the working tree.
_CODE = (":/proseco", ":/stages")
#: Packages that are in wheels of other names.
_WHEELS = {"opencv": [f"opencv-{kind}python{screen}" for kind in ("contrib-", "") for screen in ("-headless", "")]}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block ends well, remove it when not.

    The temporary path does not exist yet: the block makes a file or a folder of it. A kill leaves at most
    ``.<name>.<host>.<process>.part`` and ``.<name>.lock.part``, never half a file under the final name; the next run
    removes them.

    :raises InputError: another process is writing the same path, as after a kill of ``dvc`` alone, whose stage goes on;
        a file would take the place of a folder, with all that is in it, or of a device; or there can be no such path.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{str(path)!r} is neither a file nor a folder; it is not replaced")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}") from None
    mine = f".{path.name}.{socket.gethostname()}."
    part = path.parent / f"{mine}{os.getpid()}.part"
    with _alone(path) as alone:
        left = [*path.parent.glob(f"{glob.escape(mine)}*.part")] if alone else [part]
        for former in left:
            if former.name.removeprefix(mine).removesuffix(".part").isdecimal():  # else it is not ours
                _remove(former)
        try:
            yield part
            if path.is_dir() and not path.is_symlink():
                if part.is_file():
                    raise InputError(f"{str(path)!r} is a folder; expected the name of a file")
                shutil.rmtree(path)
            os.replace(part, path)
        finally:
            _remove(part)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Keep other processes from writing the path, by a lock on a file beside it.

    The system lets go of a lock however its process ends. The number of a process would not do: after a kill it may be
    another's, in a container soon.

    :returns: whether the lock is held: not where the file system has none, or nothing can be written.
    :raises InputError: another process holds it, which is named.
    """
    lock = path.parent / f".{path.name}.lock.part"
    with ExitStack() as stack:
        alone = False
        with suppress(OSError):  # where nothing can be written, writing will say so
            while not alone:
                file = stack.enter_context(lock.open("ab+", buffering=0))
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except (BlockingIOError, PermissionError):  # POSIX leaves open which
                    file.seek(0)
                    who = file.read().decode(errors="replace") or "another process"
                    raise InputError(f"{who} is writing {str(path)!r}; wait for it, or end it") from None
                except OSError:  # the file system has no locks
                    lock.unlink()
                    raise
                alone = os.fstat(file.fileno()).st_nlink > 0  # else its writer has finished, and removed it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield alone
        finally:
            if alone:
                lock.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Move a folder of files to a path, in place of what is there; also to another file system.

    A kill loses nothing: what was made is whole in one of the two places.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(target)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with replacing(target) as part:
            part.mkdir()
            for path in source.iterdir():
                shutil.copyfile(path, part / path.name)
        shutil.rmtree(source)


@contextmanager
def writing(path: str | Path, size: int, advice: str) -> Iterator[None]:
    """What the system says against writing a file, as a line: which one, what it needs, and what to do.

    :param size: bytes that the file needs, about.
    :raises InputError: the disk is full, or the folder cannot be written to.
    """
    try:
        yield
    except OSError as error:
        room = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(Path(path).parent).free
            room = f" (it needs about {size / 2**20:.1f} MiB, {free / 2**20:.1f} MiB are free)"
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}{room}; {advice}") from None


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with ``\\n`` line ends, whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(text.encode())


def write_json(path: str | Path, value, *, indent: int | None = 2) -> None:
    """Write JSON with sorted keys (equal values give equal bytes), whole or not at all."""
    write_text(path, json.dumps(value, indent=indent, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path):
    """Read a JSON file.

    :raises InputError: it is missing or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"no file {str(path)!r}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not readable JSON: {error}") from None


def digest(path: str | Path) -> str:
    """BLAKE2b of a file, 32 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digests(paths: Iterable[str | Path]) -> str:
    """BLAKE2b of several files together, in their order."""
    return hashlib.blake2b("".join(map(digest, paths)).encode(), digest_size=16).hexdigest()


def list_files(root: Path, suffixes: tuple[str, ...]) -> list[tuple[str, int]]:
    """Every file below ``root`` with one of the lower-case suffixes: (relative POSIX path, bytes), sorted by path.

    Links are followed. What is hidden (``.thumbnails/``) is passed over.

    :raises InputError: a link leads nowhere or round in a circle, a folder cannot be read, or what has such a suffix is
        a pipe or a device, which might never end.
    """

    def fail(error: OSError):
        raise error

    found, start = [], len(os.path.join(root, ""))
    try:
        for folder, folders, names in os.walk(root, followlinks=True, onerror=fail if root.exists() else None):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for link in (os.path.join(folder, name) for name in folders):
                if os.path.islink(link) and Path(folder).resolve().is_relative_to(Path(link).resolve()):
                    raise InputError(f"{link!r} is a link to a folder that it lies in; remove it")
            for name in names:
                if name.lower().endswith(suffixes) and not name.startswith("."):
                    path = os.path.join(folder, name)
                    known = os.stat(path)
                    if not stat.S_ISREG(known.st_mode):
                        raise InputError(f"{path!r} is no file of bytes, but a pipe or a device; remove it")
                    found.append((path[start:].replace(os.sep, "/"), known.st_size))
    except OSError as error:
        raise InputError(f"cannot list {error.filename!r}: {error.strerror}") from None
    return sorted(found)


def listing_digest(listing: list[tuple[str, int]]) -> str:
    """Digest of sorted paths and sizes, as ``inventory`` records it."""
    lines = "".join(f"{name}\t{size}\n" for name, size in listing)
    return hashlib.blake2b(lines.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def provenance(**facts) -> dict:
    """What an artifact says of itself in ``run.json``: code, versions, machine kind, and the facts given.

    ``commit`` is None where Git is not there or knows none, ``dirty`` whether code differs from it. Of code alone: DVC
    writes its own files in Git, tables among them, while stages run.
    """
    commit = _git("rev-parse", "HEAD") or None
    changes = _git("--no-optional-locks", "status", "--porcelain", "--untracked-files=normal", "--", *_CODE)
    return {
        "commit": commit,
        "dirty": None if commit is None or changes is None else bool(changes),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": versions("torch", "torchvision", "numpy", "opencv"),
        **facts,
    }


def versions(*names: str) -> dict[str, str | None]:
    """Of packages that are installed, None of others. OpenCV is in four wheels, of which one is there."""
    return {name: next(filter(None, map(_version, _WHEELS.get(name, (name,)))), None) for name in names}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(*words: str) -> str | None:
    """What Git says; None where there is no Git, or it has nothing to say here."""
    try:
        git = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return git.stdout.strip() if git.returncode == 0 else None
