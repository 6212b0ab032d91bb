"""Selective Search (Uijlings et al. 2013), compiled with numba: OpenCV's boxes in a fraction of its time.

It reproduces OpenCV's behaviour with its oddities (a comment names each), so that the sets of boxes are equal. Two
things can differ: which of exactly equal similarities or edge weights comes first, which OpenCV leaves to an unstable
sort; and the ranking of the boxes, which it leaves to the C library's ``rand()`` and which here depends on the seed
alone.
"""

from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np

from proseco.base.errors import InputError, one_of
from proseco.proposals import _grouping, _histograms, _regions, _segmentation
from proseco.proposals._scale import shrink

MOST_PIXELS = 2**30  # OpenCV's own limit; 32 bits number the edges, two per pixel
#: Mode -> thresholds of the segmentation and similarities; all are used in each of the mode's colour spaces.
MODES = {
    "fast": ((150, 300, 450), (_grouping.ALL, _grouping.NO_COLOUR)),
    "quality": (
        (150, 300, 450, 600, 750),
        (_grouping.ALL, _grouping.NO_COLOUR, _grouping.FILL, _grouping.SIZE),
    ),
    "single": ((200,), (_grouping.ALL,)),
}


def propose(
    image: np.ndarray, *, seed: int, mode: Literal["fast", "quality", "single"] = "fast", long_edge: int | None = None
) -> np.ndarray:
    """All boxes that Selective Search finds, ranked as OpenCV ranks: by level in the hierarchy times a random number.

    :param mode: ``fast``, ``quality`` or ``single``, OpenCV's presets.
    :param long_edge: pixels of the longer side to which the image is scaled down for the search; None for its own size.
        Boxes are always in pixels of the given image.
    :raises InputError: no such mode, or an image of more than ``MOST_PIXELS``.
    """
    if mode not in MODES:
        raise one_of("Selective Search mode", mode, MODES, "propose.proposals.mode")
    small, scale = shrink(image, long_edge)
    if small.shape[0] * small.shape[1] > MOST_PIXELS:
        size = f"{small.shape[1]} x {small.shape[0]} pixels"
        raise InputError(f"an image of {size}; Selective Search takes up to {MOST_PIXELS} (propose.long_edge)")
    groupings = [grouping for space in _colour_spaces(small, mode) for grouping in _search(space, *MODES[mode])]
    boxes, levels = (np.concatenate(parts) for parts in zip(*groupings, strict=True))
    return _ranked(boxes, levels, seed).astype(np.float32) * scale


def _colour_spaces(image: np.ndarray, mode: str) -> Iterator[np.ndarray]:
    """RGB uint8 -> the images to segment, one at a time, as each may take 3 bytes per pixel of a photograph."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    yield cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
    if mode == "single":
        return
    yield cv2.cvtColor(bgr, cv2.COLOR_BGR2Lab)
    if mode == "fast":
        return
    yield cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    # OpenCV means the hue here, but overwrites it with the colour image's blue plane before it is used.
    yield cv2.extractChannel(bgr, 0)
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)  # computed anew, not kept in the meantime
    yield cv2.merge([cv2.extractChannel(bgr, 2), cv2.extractChannel(bgr, 1), grey])


def _search(space: np.ndarray, thresholds, similarities) -> list[tuple[np.ndarray, np.ndarray]]:
    """Boxes (r, 4) and levels (r,) of each pair of a label map and a similarity."""
    height, width = space.shape[:2]
    fragments, maps = _segmentation.segment(_segmentation.sorted_edges(space), height, width, thresholds)
    number = len(maps[0])
    sizes, extents = _regions.geometry(fragments, number)
    touching = _regions.neighbours(fragments, number)
    counts, zeros = _histograms.count(space, fragments, number)
    groupings = []
    for labels in maps:
        segments = labels.max() + 1
        size, box = _regions.gather(sizes, extents, labels, segments)
        pairs = _regions.gather_neighbours(touching, labels, segments)
        colour, texture = _histograms.histograms(counts, zeros, labels, segments)
        for weights in similarities:
            groupings.append(_grouping.group(pairs, size, box, colour, texture, weights, height * width))
    return groupings


def _ranked(boxes: np.ndarray, levels: np.ndarray, seed: int) -> np.ndarray:
    """The distinct boxes, sorted by the lowest rank of each."""
    rank = np.random.default_rng(seed).random(len(levels)) * levels
    boxes = boxes[np.argsort(rank, kind="stable")]
    width, height = boxes[:, 2:].max(0) + 1
    # One number per box makes this much faster than rows; 64 bits hold one for any box of an image of 2**30 pixels.
    _, first = np.unique(np.ravel_multi_index(boxes.T, (width, height, width, height)), return_index=True)
    return boxes[np.sort(first)]
