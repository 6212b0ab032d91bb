"""Random access to shards, by the index beside each tar, with nothing taken on trust.

What is missing, cut short or changed is an error that names shard and member, never a shorter epoch: opening compares
the folder with ``summary.json`` and every tar's size with its index, and every read is compared with its CRC-32.
"""

import io
import os
import re
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np

from proseco.base import files
from proseco.base.errors import InputError
from proseco.data import images
from proseco.data.sample import Sample

#: Members of a sample that are read, by their names in the index and in their order in a tar: from a cold disk that is
#: 1.4 times as fast as backwards, because the system reads ahead.
_MEMBERS = ("boxes.npy", "image")
#: Files that one reader keeps open. ImageNet has more shards than the 1,024 files that a process may open by default.
_OPEN = 256
_SHARD = re.compile(r"shard-.*\.(tar|json)")
_ANEW = "`dvc repro -f propose@<scale>-<data>` makes the shards anew"


class ShardReader:
    """The samples of a folder of shards, by number: ``len(reader)``, ``reader[number] -> Sample``.

    The index of 1.28 million samples is a few arrays, which a forked worker shares and a spawned one receives in one
    piece; each process opens its own files. A reader serves one thread.
    """

    def __init__(self, folder: str | Path):
        """
        :raises InputError: no shards; one is missing, left over or cut; an index is damaged; samples are missing.
        """
        self.folder = Path(folder)
        samples, digest, sizes = _listing(self.folder)
        self._tars = sorted(name for name in sizes if name.endswith(".tar"))
        indexes = (_read_index(self.folder / name, sizes[name]) for name in self._tars)
        keys, lengths, members, frames = zip(*indexes, strict=True)
        self._starts = np.cumsum([0, *map(len, members)])  # of each shard, the number of its first sample
        self._keys = b"".join(keys)  # one string: reading a million small ones would copy them into every worker
        self._ends = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        self._members = np.concatenate(members)  # (samples, 2, 3): offset, size and CRC-32 of boxes and image
        self._frames = np.concatenate(frames)  # (samples, 2): width and height of the image
        self._files = _Files()
        place = str(self.folder)
        if len(self) != samples:
            raise InputError(f"the indexes in {place!r} list {len(self)} samples, its summary {samples}; {_ANEW}")
        if files.digests(self.folder / name.replace(".tar", ".json") for name in self._tars) != digest:
            raise InputError(f"an index in {place!r} is not the one that its summary was written for; {_ANEW}")

    def __len__(self) -> int:
        return len(self._members)

    def key(self, number: int) -> str:
        """Key of a sample, without reading it."""
        return self._keys[self._ends[number] : self._ends[number + 1]].decode()

    def size(self, number: int) -> tuple[int, int]:
        """Width and height of a sample's image, without reading it."""
        width, height = self._frames[number].tolist()
        return width, height

    def raw(self, number: int) -> tuple[str, bytes, bytes]:
        """Key, image file and boxes file of a sample as they are stored, their checksums compared.

        :raises InputError: the shard cannot be read, is cut short, or holds other bytes than its index says.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        path, payloads = self._path(number), []
        for member, (offset, size, crc) in zip(_MEMBERS, self._members[number].tolist(), strict=True):
            try:
                data = os.pread(self._files.descriptor(path), size, offset)
            except OSError as error:
                raise InputError(f"cannot read shard {str(path)!r}: {error.strerror}") from None
            if len(data) != size or zlib.crc32(data) != crc:
                what = f"{len(data)} of {size} bytes" if len(data) != size else "its checksum is not that of the index"
                raise InputError(f"{str(path)!r}, sample {self.key(number)!r}: {member} is damaged: {what}; {_ANEW}")
            payloads.append(data)
        boxes, image = payloads
        return self.key(number), image, boxes

    def __getitem__(self, number: int) -> Sample:
        """:raises InputError: as :meth:`raw`, and where the image or the boxes cannot be decoded."""
        key, image, boxes = self.raw(number)
        place = f"{str(self._path(number))!r}, sample {key!r}"
        return Sample(key, images.decode(image, place), decode_boxes(boxes, place))

    def _path(self, number: int) -> Path:
        return self.folder / self._tars[np.searchsorted(self._starts, number, side="right") - 1]


class _Files:
    """File descriptors for reading, opened on first use; the least recently used is closed first."""

    def __init__(self):
        self._open: OrderedDict[Path, int] = OrderedDict()

    def descriptor(self, path: Path) -> int:
        if path in self._open:
            self._open.move_to_end(path)
        else:
            self._open[path] = os.open(path, os.O_RDONLY)
            if len(self._open) > _OPEN:
                os.close(self._open.popitem(last=False)[1])
        return self._open[path]

    def __reduce__(self):
        return _Files, ()  # another process opens its own

    def __del__(self):
        while self._open:
            os.close(self._open.popitem()[1])


def _listing(folder: Path) -> tuple[int, str, dict[str, int]]:
    """The summary's number of samples and digest of the indexes; name -> bytes of exactly its shards and indexes."""
    path = folder / "summary.json"
    if not path.is_file():
        raise InputError(f"no shards in {str(folder)!r}, which lacks summary.json; stage propose makes them")
    summary = files.read_json(path)
    counts = [summary.get(key) if isinstance(summary, dict) else None for key in ("shards", "samples")]
    if not all(type(count) is int and count > 0 for count in counts):
        raise InputError(f"{str(path)!r} counts {counts[0]} shards and {counts[1]} samples; {_ANEW}")
    with os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if _SHARD.fullmatch(entry.name)}
    expected = {f"shard-{number:06d}.{suffix}" for number in range(counts[0]) for suffix in ("tar", "json")}
    for verb, names in (("lacks", expected - set(sizes)), ("has besides", set(sizes) - expected)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(
                f"{str(folder)!r} {verb} {min(names)}{more}: its summary counts {counts[0]} shards; {_ANEW}"
            )
    return counts[1], summary.get("indexes", ""), sizes


def _read_index(tar: Path, size: int) -> tuple[bytes, np.ndarray, np.ndarray, np.ndarray]:
    """Of a shard's n samples: the keys in one string, (n,) int64 their lengths, (n, 2, 3) int64 offset, size and CRC-32
    of the members, (n, 2) int32 width and height of the images.
    """
    path = tar.with_suffix(".json")
    index = files.read_json(path)
    try:
        expected, samples = index["bytes"], index["samples"]
        keys = [sample["key"].encode() for sample in samples]
        members = np.array([[sample[member] for member in _MEMBERS] for sample in samples])
        frames = np.array([sample["size"] for sample in samples])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from None
    if not samples:  # all its images were left out
        members, frames = np.zeros((0, len(_MEMBERS), 3), np.int64), np.zeros((0, 2), np.int64)
    if members.shape != (len(samples), len(_MEMBERS), 3) or members.dtype != np.int64:
        raise _damaged(path, f"members are {members.dtype} {members.shape}, not [offset, size, CRC-32] each")
    if frames.shape != (len(samples), 2) or frames.dtype != np.int64 or (frames < 1).any() or (frames >> 31).any():
        raise _damaged(path, "a size is not [width, height]")
    if size != expected:
        raise InputError(f"shard {str(tar)!r} has {size} bytes; its index says {expected}")
    if (members < 0).any() or (members[..., 0] + members[..., 1] > size).any():
        raise _damaged(path, "a member lies outside of the shard")
    return b"".join(keys), np.array([len(key) for key in keys], np.int64), members, frames.astype(np.int32)


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{str(path)!r} is no index of a shard: {reason}; {_ANEW}")


def decode_boxes(data: bytes, place: str) -> np.ndarray:
    """(n, 4) float32 from the bytes of an .npy file.

    :raises InputError: it is anything but finite corners in order.
    """
    try:
        boxes = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, SyntaxError) as error:
        raise InputError(f"{place}: boxes.npy cannot be decoded: {' '.join(str(error).split())}") from None
    if boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{place}: boxes.npy is {boxes.dtype} {boxes.shape}; expected float32 (n, 4)")
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise InputError(f"{place}: boxes.npy holds a box that is not finite or whose corners are not in order")
    return boxes
