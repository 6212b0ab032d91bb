"""Our Selective Search against OpenCV's, on the same images.

    python -m benchmarks.selective_search --images DIR [--limit 24] [--mode fast] [--long-edge 256]

One thread on one core. Each image is searched by both in turn, ours first on every other image; decoding is not timed,
compiling is done before. The last line has the median over the images of OpenCV's time divided by ours, the share of
images with equal sets of boxes, and the mean Jaccard index of the sets.
"""

import os
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from proseco.base import cli, files
from proseco.base.errors import InputError
from proseco.data import images as decoding
from proseco.proposals import opencv, selective_search


def main(*, images: str, limit: int = 24, mode: str = "fast", long_edge: int = 0) -> None:
    """Time both on evenly spaced images of a folder; --long-edge 0 is the native size."""
    if limit < 1:
        raise InputError(f"--limit is {limit}; it must be at least 1")
    paths = [path for path, _ in files.list_files(Path(images), decoding.SUFFIXES)]
    if not paths:
        raise InputError(f"no images in {images!r}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    paths = [paths[i * len(paths) // limit] for i in range(min(limit, len(paths)))] if limit < len(paths) else paths
    searches = {"ours": selective_search.propose, "opencv": opencv.propose}
    options = {"seed": 0, "mode": mode, "long_edge": long_edge or None}
    for search in searches.values():  # compile, and load what is loaded at first use
        search(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8), **options)
    ratios, jaccards = [], []
    print(f"{'image':40} {'size':>11} {'ours':>8} {'opencv':>8} {'ratio':>6} {'boxes':>6} {'jaccard':>8}")
    for turn, path in enumerate(tqdm(paths, unit="image")):
        image = decoding.read(Path(images) / path)
        seconds, boxes = {}, {}
        for name in sorted(searches, reverse=turn % 2 == 0):
            start = time.perf_counter()
            found = searches[name](image, **options)
            seconds[name] = time.perf_counter() - start
            boxes[name] = set(map(tuple, found.tolist()))
        ratios.append(seconds["opencv"] / seconds["ours"])
        jaccards.append(len(boxes["ours"] & boxes["opencv"]) / len(boxes["ours"] | boxes["opencv"]))
        size = f"{image.shape[1]} x {image.shape[0]}"
        tqdm.write(
            f"{path[-40:]:40} {size:>11} {seconds['ours']:8.3f} {seconds['opencv']:8.3f} {ratios[-1]:6.1f} "
            f"{len(boxes['ours']):6} {jaccards[-1]:8.4f}"
        )
    identical = np.mean(np.equal(jaccards, 1))
    print(
        f"selective_search: speedup {np.median(ratios):.1f} identical {identical:.3f} jaccard {np.mean(jaccards):.4f}"
    )


if __name__ == "__main__":
    cli.run(main)
