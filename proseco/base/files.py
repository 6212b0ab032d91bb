"""Files that are written whole or not at all, and digests of files."""

import csv
import errno
import fcntl
import glob
import hashlib
import io
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from proseco.base.errors import InputError

_ROOM = 64 * 2**20  # bytes; a disk that has more is not the one that is full


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it to ``path`` if the block ends well, else remove it.

    The temporary path does not exist yet; the block makes a file or a folder there. A kill leaves at most
    ``.<name>.<host>.<process>.part`` and ``.<name>.lock.part``, never half a file under the final name; the next run
    removes them.

    :raises InputError: another process is writing the same path, such as a stage that goes on after ``dvc`` alone was
        killed; a file would replace a folder and all that is in it; ``path`` is a device or a pipe; or its folder
        cannot be made.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{str(path)!r} is neither a file nor a folder; it is not replaced")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}") from None
    prefix = f".{path.name}.{socket.gethostname()}."
    part = path.parent / f"{prefix}{os.getpid()}.part"
    with _alone(path) as alone:
        leftovers = [*path.parent.glob(f"{glob.escape(prefix)}*.part")] if alone else [part]
        for leftover in leftovers:
            if leftover.name.removeprefix(prefix).removesuffix(".part").isdecimal():  # else it is not ours
                _remove(leftover)
        try:
            yield part
            if path.is_dir() and not path.is_symlink():
                if part.is_file():
                    raise InputError(f"{str(path)!r} is a folder; expected the name of a file")
                shutil.rmtree(path)
            os.replace(part, path)
        except OSError as error:
            # Writing does not say to what. Of several paths one may be on the full disk, the others not.
            if error.filename is None and error.errno == errno.ENOSPC and shutil.disk_usage(path.parent).free < _ROOM:
                error.filename = str(path)
            raise
        finally:
            with suppress(OSError):  # where nothing can be written, writing has said so
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
    """Move a folder of files to ``target``, replacing what is there; also across file systems.

    A kill loses nothing: the folder is complete in one of the two places.
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
def explaining_write_errors(path: str | Path, size: int, advice: str) -> Iterator[None]:
    """Turn an OSError raised while writing ``path`` into one line: the file, the space it needs, the advice.

    :param size: about how many bytes the file needs.
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


def write_csv(path: str | Path, fields: Iterable[str], rows: Iterable[dict]) -> None:
    """Write a header of ``fields`` and one line per row, whole or not at all; what a row lacks is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def append_csv(path: str | Path, row: dict) -> None:
    """Append a row to a CSV file, below a header if the file is new or empty."""
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def read_json(path: str | Path) -> Any:
    """The value in a JSON file.

    :raises InputError: the file is missing or is not JSON.
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
    """One digest of several files; their order counts, their names do not."""
    return text_digest("".join(map(digest, paths)))


def text_digest(text: str) -> str:
    """BLAKE2b of a text in UTF-8, 32 hexadecimal digits. File names that are not UTF-8 count by their bytes."""
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def list_files(root: Path, suffixes: tuple[str, ...]) -> list[tuple[str, int]]:
    """Every file below ``root`` with one of the lower-case suffixes: (relative POSIX path, bytes), sorted by path.

    Links are followed. Hidden files and folders (``.thumbnails/``) are skipped.

    :raises InputError: a link leads nowhere or in a circle, a folder cannot be read, or something with such a suffix
        is a pipe or a device, which might never end.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    listing, start = [], len(os.path.join(root, ""))
    try:
        for folder, folders, names in os.walk(root, followlinks=True, onerror=fail if root.exists() else None):
            folders[:] = [name for name in folders if not name.startswith(".")]
            steps = Path(folder).relative_to(root).parts  # the way that led here, which links may be part of
            above = [root.joinpath(*steps[:count]) for count in range(len(steps) + 1)]
            for link in (os.path.join(folder, name) for name in folders):
                if os.path.islink(link) and (
                    Path(folder).resolve().is_relative_to(Path(link).resolve())
                    or any(os.path.samefile(link, place) for place in above)
                ):
                    raise InputError(f"{link!r} is a link to a folder that it lies in; remove it")
            for name in names:
                if name.lower().endswith(suffixes) and not name.startswith("."):
                    path = os.path.join(folder, name)
                    status = os.stat(path)
                    if not stat.S_ISREG(status.st_mode):
                        raise InputError(f"{path!r} is no file of bytes, but a pipe or a device; remove it")
                    listing.append((path[start:].replace(os.sep, "/"), status.st_size))
    except OSError as error:
        raise InputError(f"cannot list {error.filename!r}: {error.strerror}") from None
    return sorted(listing)


def listing_digest(listing: list[tuple[str, int]]) -> str:
    """Digest of sorted paths and sizes, as ``inventory`` records it."""
    return text_digest("".join(f"{name}\t{size}\n" for name, size in listing))
