"""Reading shards: our reader against webdataset's own on the same tars, and against the images as plain files.

    python -m benchmarks.shards --shards work/demo/shards [--images data/demo/scenes/train]

One process on one core. Ours and the plain files are read in random order, as training does; webdataset can only stream
a tar from its beginning. Each round times every reader once, in turn, in four ways: the page cache warm or cold, bytes
alone or decoded. Cold means that the kernel was asked to forget the files (``posix_fadvise``, which needs no rights); a
host below a virtual machine may still hold them, and the directories stay cached. The last line has the ratios of
our images per second to webdataset's, bytes alone: the median over the rounds.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import webdataset

from proseco.base import cli, files
from proseco.base.errors import InputError
from proseco.base.randomness import generator
from proseco.data import images as decoding
from proseco.data.reader import ShardReader, decode_boxes

Files = Iterable[tuple[bytes, bytes | None]]  # of each sample: the image, and the boxes where they are known


def main(*, shards: str, images: str = "", rounds: int = 5) -> None:
    """Time the readers of a folder of shards; without --images, its images are first unpacked beside it."""
    if not hasattr(os, "posix_fadvise"):
        raise InputError("this system has no posix_fadvise: nothing can be read cold here; run it on Linux")
    if rounds < 1:
        raise InputError(f"--rounds is {rounds}; it must be at least 1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    reader = ShardReader(shards)
    with tempfile.TemporaryDirectory(dir=Path(shards).resolve().parent, prefix=".images") as unpacked:
        folder = Path(images or unpacked)
        if not images:
            for number in range(len(reader)):
                (folder / f"{number:07d}.jpg").write_bytes(reader.raw(number)[1])
        plain = [folder / path for path, _ in files.list_files(folder, decoding.SUFFIXES)]
        if not plain:
            raise InputError(f"no images in {images!r}")
        report(compare(reader, plain, rounds), len(reader), len(plain))


def compare(reader: ShardReader, plain: list[Path], rounds: int) -> dict[tuple[str, str, str], np.ndarray]:
    """(reader, cache, what) -> images per second of each round."""
    tars = sorted(map(str, reader.folder.glob("shard-*.tar")))
    readers: dict[str, tuple[Callable[[np.ndarray], Files], int]] = {
        "ours": (lambda order: (reader.raw(number)[1:] for number in order), len(reader)),
        "webdataset": (lambda order: _stream(tars), len(reader)),
        "plain files": (lambda order: ((plain[number].read_bytes(), None) for number in order), len(plain)),
    }
    rates: dict[tuple[str, str, str], list[float]] = {}
    for turn in range(rounds):
        for cache in ("warm", "cold"):
            for what, use in (("bytes", lambda image, boxes: None), ("decoded", _decode)):
                for name, (read, count) in readers.items():
                    print(f"round {turn + 1} of {rounds}: {name}, {cache}, {what}", file=sys.stderr)
                    order = generator("benchmark", turn, name).permutation(count)
                    if cache == "warm":
                        _run(read(order), use)  # unseen
                    else:
                        _forget([*tars, *plain])
                    seen, seconds = _run(read(order), use)
                    if seen != count:
                        raise InputError(f"{name} gave {seen} of {count} images")
                    rates.setdefault((name, cache, what), []).append(seen / seconds)
    return {key: np.array(values) for key, values in rates.items()}


def _run(samples: Files, use: Callable) -> tuple[int, float]:
    """Number of samples, and seconds."""
    start, count = time.perf_counter(), 0
    for image, boxes in samples:
        use(image, boxes)
        count += 1
    return count, time.perf_counter() - start


def _stream(tars: list[str]) -> Iterator[tuple[bytes, bytes]]:
    """Webdataset's reader as its manual has it, without shuffling."""
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        image = next(sample[key] for key in sample if f".{key}" in decoding.SUFFIXES)
        yield image, sample["boxes.npy"]


def _decode(image: bytes, boxes: bytes | None) -> None:
    decoding.decode(image, "an image")
    if boxes is not None:
        decode_boxes(boxes, "boxes")


def _forget(paths: list) -> None:
    """Drop files from the page cache. What is not yet written to the disk would stay, hence the fsync."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report(rates: dict[tuple[str, str, str], np.ndarray], samples: int, plain: int) -> None:
    """Print a line a reader, and the ratios."""
    columns = list(dict.fromkeys(key[1:] for key in rates))
    print(f"images per second, median of {len(next(iter(rates.values())))} rounds; {samples} samples, {plain} files")
    print(f"{'':12}" + "".join(f"{' '.join(column):>14}" for column in columns))
    for name in dict.fromkeys(key[0] for key in rates):
        print(f"{name:12}" + "".join(f"{np.median(rates[name, *column]):14,.0f}" for column in columns))
    ratios = {
        cache: np.median(rates["ours", cache, "bytes"] / rates["webdataset", cache, "bytes"])
        for cache in ("warm", "cold")
    }
    print(f"shards: warm {ratios['warm']:.1f} cold {ratios['cold']:.1f}")


if __name__ == "__main__":
    cli.run(main)
