"""Graph-based segmentation (Felzenszwalb and Huttenlocher 2004) with the label maps of OpenCV's ximgproc.

Three things make it fast. An edge between two pixels is held once, not twice. Edges are sorted once, by a radix sort of
the bits of their weights, for all thresholds k. Small segments are merged along the few edges that the first pass left
between segments, not along all of them again.
"""

import cv2
import numpy as np
from numba import njit

MIN_SIZE = 100  # OpenCV's default: smaller segments are merged with a neighbour
SIGMA = float(np.float32(0.8))  # of the blur; OpenCV's presets hold it as a float, which is not 0.8


def sorted_edges(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges between neighbouring pixels, by the distance of their blurred colours.

    :param image: (H, W) or (H, W, C) uint8.
    :returns: (E,) float32 weights, ascending, and (E,) uint32 edges: 2 * pixel for the edge to the right, 2 * pixel + 1
        for the one down; pixels are numbered row by row.
    """
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), SIGMA, sigmaY=SIGMA)
    blurred = blurred.reshape(*image.shape[:2], -1)
    weights, edges = _weights(blurred)
    del blurred  # of a photograph, 12 bytes a pixel that the sort has better use for
    return _radix_sort(weights, edges)


@njit(cache=True, nogil=True, inline="always")
def _distance(image, y, x, y2, x2):
    """Euclidean distance, rounded where OpenCV rounds: squares in double, their sum in float."""
    total = np.float32(0)
    for c in range(image.shape[2]):
        difference = np.float64(image[y, x, c] - image[y2, x2, c])
        total = np.float32(np.float64(total) + difference * difference)
    return np.sqrt(total)


@njit(cache=True, nogil=True)
def _weights(image):
    height, width, _ = image.shape
    count = height * (width - 1) + (height - 1) * width
    weights = np.empty(count, np.float32)
    edges = np.empty(count, np.uint32)  # unsigned, here and below: numba asks of a signed index whether it is negative
    n = np.uint64(0)
    for y in range(height):
        for x in range(width):
            edge = np.uint32(2 * (y * width + x))
            if x + 1 < width:
                weights[n] = _distance(image, y, x, y, x + 1)
                edges[n] = edge
                n += np.uint64(1)
            if y + 1 < height:
                weights[n] = _distance(image, y, x, y + 1, x)
                edges[n] = edge + np.uint32(1)
                n += np.uint64(1)
    return weights, edges


@njit(cache=True, nogil=True)
def _radix_sort(weights, edges):
    """Stable: the bits of floats that are not negative sort as integers do. 11 bits a pass."""
    keys, other_keys = weights.view(np.uint32), np.empty(weights.size, np.uint32)
    other_edges = np.empty_like(edges)
    counts = np.zeros((3, 2048), np.int64)
    for key in keys:
        counts[0, key & 2047] += 1
        counts[1, (key >> 11) & 2047] += 1
        counts[2, key >> 22] += 1
    for digit in range(3):
        starts = np.zeros(2048, np.int64)
        for i in range(2047):
            starts[i + 1] = starts[i] + counts[digit, i]
        shift = np.uint32(11 * digit)
        for i in range(keys.size):
            bucket = (keys[i] >> shift) & 2047
            place = starts[bucket]
            starts[bucket] = place + 1
            other_keys[place] = keys[i]
            other_edges[place] = edges[i]
        keys, other_keys = other_keys, keys
        edges, other_edges = other_edges, edges
    return keys.view(np.float32), edges


@njit(cache=True, nogil=True, inline="always")
def _find(parent, p):
    while parent[p] != p:
        parent[p] = parent[parent[p]]
        p = parent[p]
    return p


@njit(cache=True, nogil=True, inline="always")
def _join(parent, size, a, b):
    """Make one root of two; return it."""
    if size[a] < size[b]:
        a, b = b, a
    parent[b] = a
    size[a] += size[b]
    return a


@njit(cache=True, nogil=True)
def segment(weights, edges, height, width, k):
    """Label map of one threshold.

    :param weights: and ``edges``: of :func:`sorted_edges`.
    :param k: how much unlike its surroundings a segment must be; larger gives larger segments.
    :returns: (H, W) int32 labels, numbered in the order in which they appear, row by row; and their number.
    """
    pixels = height * width
    steps = np.array([1, width], np.uint32)
    one = np.uint32(1)
    k = np.float32(k)
    parent = np.arange(pixels).astype(np.uint32)
    size = np.ones(pixels, np.int32)
    threshold = np.full(pixels, k, np.float32)
    between = np.empty(edges.size, np.uint32)  # edges that join nothing when their turn comes
    left = np.uint64(0)
    for i in range(edges.size):
        edge = edges[i]
        pixel = edge >> one
        other = pixel + steps[edge & one]
        if parent[pixel] == parent[other]:  # most edges, and it spares them the way to the root
            continue
        a = _find(parent, pixel)
        b = _find(parent, other)
        if a == b:
            continue
        weight = weights[i]
        if weight <= threshold[a] and weight <= threshold[b]:
            root = _join(parent, size, a, b)
            threshold[root] = weight + k / np.float32(size[root])
        else:
            between[left] = edge
            left += np.uint64(1)
    for i in range(left):
        pixel = between[i] >> one
        a = _find(parent, pixel)
        b = _find(parent, pixel + steps[between[i] & one])
        if a != b and (size[a] < MIN_SIZE or size[b] < MIN_SIZE):
            _join(parent, size, a, b)
    labels = np.empty(pixels, np.int32)
    number = size  # of no more use: its memory takes the label of each root
    number[:] = -1
    count = 0
    for p in range(np.uint32(pixels)):
        root = _find(parent, np.uint32(p))
        if number[root] < 0:
            number[root] = count
            count += 1
        labels[p] = number[root]
    return labels.reshape(height, width), count
