"""WebDataset shards of images with their proposals: ``{key}.boxes.npy``, ``{key}.jpg``, ``{key}.json``.

What is in a shard, and each of its bytes, is a function of the listing and the recipe alone: samples keep the order of
their paths, tar headers carry no time and no owner, and each image's randomness comes from its key. An index beside
each tar (``shard-000000.json``) holds the offset, size and CRC-32 of every member, the width and height of every image
and the shard's statistics, and serves random access (:mod:`proseco.data.reader`).
"""

import io
import json
import os
import posixpath
import socket
import tarfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from proseco.base import files
from proseco.base.errors import InputError
from proseco.data import images, listing, proposing
from proseco.data.listing import File

#: What a shard's statistics count, beside the images left out.
COUNTS = ("samples", "boxes", "without_boxes", "grayscale", "cmyk", "rotated")


@dataclass(frozen=True)
class Recipe:
    """How a sample is made from an image. It is sent to the workers, so it must pickle.

    ``propose``, ``keep`` and ``seed``: see :func:`proseco.data.proposing.find`; images with a side below ``min_side``
    pixels are left out; ``subset`` is the folder below the data set's root that the images' paths are relative to.
    """

    propose: Callable[..., np.ndarray]
    keep: Callable[..., np.ndarray]
    seed: int
    min_side: int
    subset: str = "."


def assign_keys(paths: Iterable[str]) -> list[str]:
    """Key of each relative path: without suffix, dots replaced, because WebDataset cuts names at the first dot.

    If two paths would share a key, the later one keeps its suffix, after an underscore.
    """
    keys: dict[str, None] = {}
    for path in paths:
        stem, _, suffix = path.rpartition(".")
        key = stem.replace(".", "_")
        if key in keys:
            key = f"{key}_{suffix}"
        if key in keys:
            raise InputError(f"two images would have the key {key!r}; rename {path!r}")
        keys[key] = None
    return list(keys)


def partition(
    listed: list[File], *, samples_per_shard: int, shard_bytes: int | None
) -> dict[str, list[tuple[str, File]]]:
    """Name of each shard -> the (key, file) of its images: a function of the listing alone.

    :param shard_bytes: most bytes of a shard's image files together, unless it has but one; None: no such limit.
    """
    parts: list[list[tuple[str, File]]] = []
    size = 0
    for key, file in zip(assign_keys(file.path for file in listed), listed, strict=True):
        size += file.size
        if not parts or len(parts[-1]) == samples_per_shard or (shard_bytes is not None and size > shard_bytes):
            parts.append([])
            size = file.size
        parts[-1].append((key, file))
    return {f"shard-{number:06d}": part for number, part in enumerate(parts)}


def finished(folder: Path, name: str) -> dict | None:
    """Statistics of a shard that is whole, or None."""
    with suppress(InputError, OSError, KeyError, TypeError):
        index = files.read_json(folder / f"{name}.json")
        if index["bytes"] == (folder / f"{name}.tar").stat().st_size:
            return index["statistics"]
    return None


def make(
    name: str, items: list[tuple[str, File]], base: Path, recipe: Recipe, folder: Path, parts: Path
) -> tuple[str, dict]:
    """Make one shard: tar and index are written in ``parts`` and then moved into ``folder``, the index last.

    :param items: (key, file) of its images; ``base``: the folder or tar that holds them.
    :returns: the name and the statistics.
    :raises InputError: an image is not as it was listed; the plug-in returns an invalid box; the disk is full.
    """
    cv2.setNumThreads(1)  # one shard per core
    mine = f"{name}.{socket.gethostname()}.{os.getpid()}"
    tar, index = parts / f"{mine}.tar", parts / f"{mine}.json"
    advice = f"finished shards are kept in {str(folder)!r}: make room and run the same command again"
    room = partial(files.explaining_write_errors, tar, sum(image.size for _, image in items), advice)
    statistics, samples = dict.fromkeys(COUNTS, 0), []
    skipped, counts = [], []
    with ExitStack() as stack:
        for path in (tar, index):
            stack.callback(path.unlink, missing_ok=True)
        with room():
            file = open(tar, "wb")  # noqa: SIM115, for closing it may fail once more where the disk is full
        stack.callback(_close, file)
        archive = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
        read = stack.enter_context(listing.reading(base))
        for key, image in items:
            try:
                members, facts, size = _sample(key, image.path, read(image), recipe)
            except images.BrokenImage as error:
                skipped.append({"file": image.path, "reason": str(error)})
                continue
            with room():
                places = {kind: _add(archive, *member) for kind, member in members.items()}
            samples.append({"key": key, "size": size} | places)
            statistics = {name: statistics[name] + facts[name] for name in COUNTS}
            counts.append(facts["boxes"])
        about = statistics | {"boxes_min": min(counts, default=0), "boxes_max": max(counts, default=0)}
        about["skipped"] = skipped
        with room():
            archive.close()
            _settle(file)
            with open(index, "w", encoding="utf-8", newline="") as text:
                whole = {"bytes": file.tell(), "samples": samples, "statistics": about}
                text.write(json.dumps(whole, sort_keys=True) + "\n")
                _settle(text)
            os.replace(tar, folder / f"{name}.tar")
            os.replace(index, folder / f"{name}.json")
    return name, about


def _sample(
    key: str, path: str, data: bytes, recipe: Recipe
) -> tuple[dict[str, tuple[str, bytes]], dict[str, int], tuple[int, int]]:
    """Members of a sample (name in the index -> name in the tar, bytes), what it adds to the statistics, and its width
    and height.

    :raises images.BrokenImage: it cannot be used.
    """
    try:
        image, facts = images.inspect(data)
    except MemoryError:  # not the image's fault alone: left out, the shards would depend on the machine
        raise InputError(f"there is too little memory to decode {path!r}; take it out, or use fewer workers") from None
    height, width = image.shape[:2]
    if min(width, height) < recipe.min_side:
        raise images.BrokenImage(f"smaller than {recipe.min_side} pixels")
    below_root = posixpath.normpath(posixpath.join(recipe.subset, path))
    boxes = proposing.find(image, propose=recipe.propose, keep=recipe.keep, seed=recipe.seed, key=key, path=below_root)
    about = {"key": key, "width": width, "height": height, "boxes": len(boxes)}
    if "/" in path:
        about["label"] = path.split("/")[0]  # the class folder, in ImageNet's layout
    array = io.BytesIO()
    np.lib.format.write_array(array, boxes, allow_pickle=False)
    members = {
        "boxes.npy": (f"{key}.boxes.npy", array.getvalue()),
        "image": (f"{key}.{facts.pop('format')}", data),
        "json": (f"{key}.json", json.dumps(about, sort_keys=True).encode()),
    }
    tally = {"samples": 1, "boxes": len(boxes), "without_boxes": int(not len(boxes))}
    return members, tally | {name: int(flag) for name, flag in facts.items()}, (width, height)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> list[int]:
    """Append a file, owned by nobody at no time; returns its offset, size and CRC-32."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    archive.addfile(info, io.BytesIO(data))
    return [archive.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, len(data), zlib.crc32(data)]


def _settle(file: IO) -> None:
    """Flush to the disk: a network file system may say only now that it is full."""
    file.flush()
    os.fsync(file.fileno())


def _close(file: IO) -> None:
    with suppress(OSError):  # that it cannot be written was said before
        file.close()


def summary(statistics: list[dict], indexes: str) -> dict:
    """Of all shards together, from the statistics of each in order; ``indexes`` is the digest of all indexes."""
    total = {name: sum(s[name] for s in statistics) for name in COUNTS}
    return total | {
        "shards": len(statistics),
        "boxes_min": min((s["boxes_min"] for s in statistics if s["samples"]), default=0),
        "boxes_max": max(s["boxes_max"] for s in statistics),
        "boxes_mean": round(total["boxes"] / max(total["samples"], 1), 2),
        "skipped": [entry for s in statistics for entry in s["skipped"]],
        "indexes": indexes,
    }


def describe(summary: dict) -> str:
    """The summary in words; left-out images are named with their reasons."""
    s = summary
    text = (
        f"{s['samples']} images, {s['boxes']} boxes ({s['boxes_min']} to {s['boxes_max']}, mean {s['boxes_mean']}) "
        f"in {s['shards']} shards; {s['grayscale']} grayscale, {s['cmyk']} CMYK, {s['rotated']} rotated by EXIF, "
        f"{s['without_boxes']} without a box, {len(s['skipped'])} left out"
    )
    return text + "".join(f"\n  {entry['file']}: {entry['reason']}" for entry in s["skipped"])
