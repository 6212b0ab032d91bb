"""The images to make shards of: found once by stage ``inventory``, kept as a file, read by stage ``propose``.

Walking the million files of ImageNet takes minutes on a disk and longer on a network; reading this file takes seconds.
An image is a file of its own, or a range of bytes in a tar (:mod:`proseco.data.archive`).
"""

import os
import posixpath
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from proseco.base import files
from proseco.base.errors import InputError

#: What a name must not hold: control characters, and bytes that are not UTF-8.
UNUSABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_AGAIN = "`dvc repro -f inventory@<scale>` lists the images anew"


class File(NamedTuple):
    """An image: relative POSIX path, bytes, and where it begins in the tar, or None for a file of its own."""

    path: str
    size: int
    offset: int | None = None


def base(root: Path, subset: str) -> Path:
    """What the paths of a listing are relative to: the folder of a subset, or the tar."""
    return root / subset if root.is_dir() else root


def in_folder(listing: list[File], subset: str) -> list[File]:
    """The files in a folder, with paths relative to it; ``.`` is all files."""
    start = "" if subset == "." else subset.rstrip("/") + "/"
    return [file._replace(path=file.path[len(start) :]) for file in listing if file.path.startswith(start)]


def save(path: Path, listing: list[File]) -> None:
    """Write a listing: one line per file, with tabs between path, size and offset.

    :raises InputError: a name with control characters, or one that is not UTF-8.
    """
    for file in listing:
        if UNUSABLE.search(file.path):
            raise InputError(f"{file.path!r} has control characters in its name, or is not UTF-8; rename it")
    lines = (f"{path}\t{size}\t{'' if offset is None else offset}\n" for path, size, offset in listing)
    files.write_text(path, "".join(lines))


def load(path: Path) -> list[File]:
    """Read what :func:`save` wrote.

    :raises InputError: it is missing or damaged.
    """
    try:
        rows = (line.split("\t") for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
        return [File(name, int(size), int(offset) if offset else None) for name, size, offset in rows]
    except FileNotFoundError:
        raise InputError(f"no listing {str(path)!r}; {_AGAIN}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} is no listing of images: {error}; {_AGAIN}") from None


def digest(listing: list[File]) -> str:
    """Digest of paths and sizes: a folder and the tar that it came from have the same."""
    return files.listing_digest([(file.path, file.size) for file in listing])


@contextmanager
def reading(base: Path) -> Iterator[Callable[[File], bytes]]:
    """Yield a function that reads listed files of a folder or a tar.

    It raises InputError if a file is missing or is not the one that was listed.
    """
    if base.is_dir():
        yield partial(_read_file, base)
        return
    try:
        descriptor = os.open(base, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot read {str(base)!r}: {error.strerror}") from None
    try:
        yield partial(_read_member, base, descriptor)
    finally:
        os.close(descriptor)


def _read_file(folder: Path, file: File) -> bytes:
    path = posixpath.join(folder, file.path)
    try:
        with open(path, "rb") as opened:
            data = opened.read()
    except OSError as error:
        raise InputError(f"cannot read {path!r}, which stage inventory listed: {error.strerror}; {_AGAIN}") from None
    if len(data) != file.size:
        raise InputError(f"{path!r} has {len(data)} bytes, {file.size} when stage inventory listed it; {_AGAIN}")
    return data


def _read_member(tar: Path, descriptor: int, file: File) -> bytes:
    """Checks the header before the data again, because another tar may be there by now."""
    block = tarfile.BLOCKSIZE
    try:
        data = os.pread(descriptor, block + file.size, (file.offset or 0) - block)
        header = tarfile.TarInfo.frombuf(data[:block], "utf-8", "surrogateescape")
    except (OSError, tarfile.HeaderError):
        data, header = b"", None
    if header is None or header.size != file.size or len(data) != block + file.size:
        raise InputError(f"{str(tar)!r} no longer holds {file.path!r} where stage inventory found it; {_AGAIN}")
    return data[block:]
