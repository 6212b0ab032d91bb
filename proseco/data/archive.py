"""Images in a tar of class tars, the form of ILSVRC2012_img_train.tar, found without unpacking anything.

The class tars (``n01440764.tar``) are uncompressed in the outer one, and so are the images in them: every image is a
range of bytes of one file. One pass over the headers, skipping the data, finds them all.
"""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from proseco.base.errors import InputError
from proseco.data import images
from proseco.data.listing import UNUSABLE, File

_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}


def members(path: Path) -> tuple[list[File], list[dict]]:
    """Every image as ``<class>/<name>``, sorted, as the folder that the tars unpack to would be listed.

    :returns: the images; ``file`` and ``reason`` of members that look like images but are links or lead elsewhere.
    :raises InputError: the file or a class tar is compressed, cut or damaged, or there is no image in a class tar.
    """
    by_path: dict[str, File] = {}
    passed_over = []
    size = path.stat().st_size
    with open(path, "rb") as file, tqdm(total=size, desc=path.name, unit="B", unit_scale=True, leave=False) as bar:
        for outer in _headers(_Window(file.fileno(), 0, size), str(path)):
            bar.update(outer.offset - bar.n)
            name = PurePosixPath(outer.name).name
            if not name.endswith(".tar") or name.startswith("."):
                if name.lower().endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")):
                    raise InputError(f"{str(path)!r} holds {outer.name!r}, which is compressed; class tars must not be")
                continue
            reason = _refusal(outer)
            if reason:
                passed_over.append({"file": outer.name, "reason": reason})
                continue
            window = _Window(file.fileno(), outer.offset_data, outer.size)
            for inner in _headers(window, f"{path}: {outer.name}"):
                name = PurePosixPath(inner.name).name
                if inner.isdir() or not name.lower().endswith(images.SUFFIXES) or name.startswith("."):
                    continue
                reason = _refusal(inner)
                place = f"{PurePosixPath(outer.name).with_suffix('')}/{PurePosixPath(inner.name)}"
                if reason:
                    passed_over.append({"file": place, "reason": reason})
                else:  # of two members of one name the later counts, as when they are unpacked
                    by_path[place] = File(place, inner.size, outer.offset_data + inner.offset_data)
    if not by_path:
        raise InputError(f"{str(path)!r} holds no class tars with images, as ILSVRC2012_img_train.tar does")
    return sorted(by_path.values()), passed_over


def _refusal(member: tarfile.TarInfo) -> str:
    """Why a member cannot be used, or "". Nothing is unpacked, but its path becomes the key of a sample."""
    path = PurePosixPath(member.name)
    if member.issym() or member.islnk():
        return "a link"
    if not member.isreg() or member.issparse():
        return "not a plain file"
    if path.is_absolute() or ".." in path.parts:
        return "its path leads out of the archive"
    return "its name is not printable text" if UNUSABLE.search(member.name) else ""


def _headers(window: "_Window", place: str) -> Iterator[tarfile.TarInfo]:
    """The members of a tar.

    :raises InputError: it is compressed, no tar, damaged, or cut: tarfile would take that for its end.
    """
    start = window.read(8)
    window.seek(0)
    for magic, kind in _PACKED.items():
        if start.startswith(magic):
            raise InputError(f"{place!r} is compressed ({kind}); images are read in place, so unpack it to a plain tar")
    position = 0
    try:
        tar = tarfile.TarFile(fileobj=window, encoding="utf-8", errors="surrogateescape")
        while (member := tar.next()) is not None:
            if member.size < 0 or tar.offset <= position or member.offset_data + member.size > window.size:
                raise tarfile.ReadError(f"member {member.name!r} of {member.size} bytes ends outside of it")
            position = tar.offset
            yield member
        window.seek(tar.offset)
        end = window.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, ValueError, OverflowError, OSError) as error:
        if not position:
            raise InputError(f"{place!r} is not a tar: {error}") from None
        raise InputError(f"{place!r} is cut or damaged after byte {position}: {error}") from None
    if end != bytes(tarfile.BLOCKSIZE):
        raise InputError(f"{place!r} is cut or damaged after byte {tar.offset}: it lacks the mark of its end")


class _Window:
    """A range of bytes of an open file, as tarfile reads headers from it."""

    def __init__(self, descriptor: int, start: int, size: int):
        self.descriptor, self.start, self.size, self.position = descriptor, start, size, 0

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> None:
        self.position = position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= 2**20:  # of a hostile header: tarfile would fill the memory
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = os.pread(self.descriptor, max(0, min(size, self.size - self.position)), self.start + self.position)
        self.position += len(data)
        return data
