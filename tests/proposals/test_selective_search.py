"""Selective Search beside OpenCV's, whole and in parts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from proseco.base.errors import InputError
from proseco.data import images
from proseco.proposals import _grouping, _histograms, _regions, _segmentation, opencv, selective_search

IMAGENET = Path(__file__).resolve().parents[2] / "../shared/data/imagenet"


def picture(height, width, seed=0):
    """Coloured discs on a gradient with noise: colours that differ, so that few similarities are exactly equal."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([40 + rows, 90 + columns / 2, 200 - rows / 2], -1)
    for _ in range(12):
        y, x, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.08, 0.25) * min(height, width)
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    return (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


def boxes(module, image, **options):
    return set(map(tuple, module.propose(image, seed=1, **options).tolist()))


def jaccard(image, **options):
    ours, theirs = boxes(selective_search, image, **options), boxes(opencv, image, **options)
    return len(ours & theirs) / len(ours | theirs)


@pytest.mark.parametrize("mode", ["single", "fast", "quality"])
@pytest.mark.parametrize("shape", [(96, 140), (131, 75), (64, 64), (30, 150), (150, 30), (17, 16)])
def test_the_boxes_are_opencvs(mode, shape):
    assert jaccard(picture(*shape), mode=mode) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 90), (3, 200), (200, 3), (16, 16)])
def test_the_boxes_of_the_narrowest_images_are_opencvs(shape):
    assert jaccard(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)) == 1


def test_an_image_of_too_many_pixels():
    huge = np.broadcast_to(np.uint8(0), (2**15, 2**15 + 1, 3))  # of no size in memory
    with pytest.raises(InputError, match=r"an image of 32769 x 32768 pixels; Selective Search takes up to 1073741824"):
        selective_search.propose(huge, seed=0)


def test_searches_in_threads_do_not_meet():
    pictures = [picture(60 + 7 * i, 90 - 5 * i, seed=i) for i in range(6)]
    alone = [selective_search.propose(one, seed=i) for i, one in enumerate(pictures)]
    with ThreadPoolExecutor(3) as pool:
        for together in (pool.map(lambda i: selective_search.propose(pictures[i], seed=i), range(6)) for _ in range(3)):
            assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_the_boxes_of_a_scaled_image_are_opencvs():
    assert jaccard(picture(120, 170), long_edge=100) == 1


def test_the_boxes_of_gray_are_opencvs():
    gray = picture(90, 120)[..., :1].repeat(3, 2)
    assert jaccard(gray) == 1


@pytest.mark.skipif(not IMAGENET.is_dir(), reason="no ../shared/data: the real images are there in development only")
def test_the_boxes_of_real_images_are_opencvs():
    paths = sorted(IMAGENET.glob("train/*/*.JPEG"))[::40]
    shared = [jaccard(images.read(path), long_edge=200) for path in paths]
    assert np.mean(shared) > 0.999 and np.mean(np.equal(shared, 1)) >= 0.9, shared


@pytest.mark.parametrize("k", [20, 150, 450])
@pytest.mark.parametrize("channels", [1, 3])
def test_label_maps_are_opencvs(k, channels):
    image = np.ascontiguousarray(picture(70, 93)[..., :channels].squeeze())
    fragments, maps = _segmentation.segment(_segmentation.sorted_edges(image), 70, 93, [k, 300, 10])
    labels, count = maps[0][fragments], maps[0].max() + 1
    peer = cv2.ximgproc.segmentation.createGraphSegmentation(_segmentation.SIGMA, float(k), _segmentation.MIN_SIZE)
    assert (labels == peer.processImage(image)).all() and count == labels.max() + 1


def test_edges_are_all_neighbours_in_order_of_weight():
    image = picture(9, 13)
    packed = _segmentation.sorted_edges(image)
    edges, weights = packed.view(np.uint32).reshape(-1, 2).T
    weights = weights.copy().view(np.float32)
    assert sorted(edges) == sorted([2 * (13 * y + x) for y in range(9) for x in range(12)] + [*range(1, 8 * 26, 2)])
    assert (np.diff(weights) >= 0).all() and weights[0] < weights[-1]
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), _segmentation.SIGMA).reshape(-1, 3)
    apart = [np.linalg.norm(blurred[e // 2] - blurred[e // 2 + (13 if e % 2 else 1)]) for e in edges]
    assert np.allclose(weights, apart, rtol=1e-5)


def test_neighbours_begin_at_the_second_row_and_column():
    labels = np.array([[0, 1, 1, 3], [0, 2, 1, 1], [4, 4, 1, 1]], np.int32)
    wanted = {
        tuple(sorted((labels[y, x], labels[v, u])))
        for y in range(1, 3)
        for x in range(1, 4)
        for v, u in ((y - 1, x), (y, x - 1), (y - 1, x - 1))
        if labels[y, x] != labels[v, u]
    }
    assert list(map(tuple, _regions.neighbours(labels, 5))) == sorted(wanted)
    assert (0, 1) not in wanted  # along the first row alone


def test_similarities_are_opencvs():
    image = picture(80, 110)
    fragments, maps = _segmentation.segment(_segmentation.sorted_edges(image), 80, 110, [20, 150])
    labels, count = maps[1][fragments], maps[1].max() + 1
    size, box = _regions.geometry(labels, count)
    counts, zeros = _histograms.count(image, fragments, len(maps[1]))
    colour, texture = _histograms.histograms(counts, zeros, maps[1], count)
    kinds = cv2.ximgproc.segmentation
    for number, kind in enumerate(("Color", "Fill", "Texture", "Size")):
        peer = getattr(kinds, f"createSelectiveSearchSegmentationStrategy{kind}")()
        peer.setImage(image, labels, size.astype(np.int32)[:, None], -1)
        one = np.eye(4, dtype=np.float32)[number]
        pairs = _regions.neighbours(labels, count)
        known = (one, colour, texture, size, box, labels.size)
        around = {a: pairs[pairs[:, 0] == a, 1] for a in pairs[:, 0]}
        ours = np.concatenate([_grouping._similarities(a, others, *known) for a, others in around.items()]).tolist()
        assert len(pairs) > 5 and ours == [np.float32(peer.get(int(a), int(b))) for a, b in pairs], kind


def test_grouping_by_hand():
    """Four segments in a row of a 10 x 1 image, by size alone: the smallest neighbours merge first."""
    size, starts = np.array([1, 2, 3, 4]), np.array([0, 1, 3, 6])
    box = np.stack([starts, 0 * starts, starts + size, 0 * starts + 1], 1)
    none = np.zeros((4, 1), np.float32)
    pairs = np.array([[0, 1], [1, 2], [2, 3]])
    found, level = _grouping.group(pairs, size, box, none, none, _grouping.SIZE, 10)
    assert found[4:].tolist() == [[0, 0, 3, 1], [0, 0, 6, 1], [0, 0, 10, 1]]
    assert level.tolist() == [1, 1, 1, 1, 2, 3, 4]


def test_grouping_of_a_segment_that_touches_all_others():
    """The same mergers as when all pairs are looked through each time, though those of merged regions are forgotten."""
    leaves = 150
    rng = np.random.default_rng(0)
    size = rng.integers(1, 50, leaves + 1)
    corner = rng.integers(0, 90, (leaves + 1, 2))
    box = np.concatenate([corner, corner + rng.integers(1, 10, (leaves + 1, 2))], 1)
    texture = rng.random((leaves + 1, 40)).astype(np.float32)
    pairs = np.array([[0, b] for b in range(1, leaves + 1)] + [[b, b + 1] for b in range(1, leaves)])
    found, level = _grouping.group(pairs, size, box, texture, texture, _grouping.NO_COLOUR, 10_000)

    sizes, boxes, textures, levels = list(size), list(box), list(texture), [1] * (leaves + 1)
    together = {a: set() for a in range(leaves + 1)}
    for a, b in pairs:
        together[a].add(b), together[b].add(a)

    def similarity(a, b):
        both = [np.stack([of[a], of[b]]) for of in (textures, sizes, boxes)]
        parts = _grouping.NO_COLOUR, both[0], both[0], both[1], both[2], 10_000
        return _grouping._similarities(0, np.array([1]), *parts)[0]

    known = {(a, b): similarity(a, b) for a, b in pairs.tolist()}
    while known:
        a, b = max(known, key=known.get)
        new, (m, n) = len(sizes), (np.float32(sizes[a]), np.float32(sizes[b]))
        sizes.append(sizes[a] + sizes[b])
        boxes.append(np.concatenate([np.minimum(boxes[a], boxes[b])[:2], np.maximum(boxes[a], boxes[b])[2:]]))
        textures.append((textures[a] * m + textures[b] * n) / np.float32(sizes[new]))
        levels.append(max(levels[a], levels[b]) + 1)
        together[new] = (together.pop(a) | together.pop(b)) - {a, b}
        for other in together[new]:
            together[other] = together[other] - {a, b} | {new}
        known = {pair: value for pair, value in known.items() if not {a, b} & set(pair)}
        known |= {(new, other): similarity(new, other) for other in together[new]}
    assert found.tolist() == np.stack(boxes).tolist() and level.tolist() == levels


def test_ranks_are_levels_times_random_numbers():
    boxes = np.array([[0, 0, 9, 9], [1, 1, 5, 5], [0, 0, 9, 9], [2, 2, 4, 4]])
    levels = np.array([5, 1, 2, 1])
    for seed in range(20):
        rank = np.random.default_rng(seed).random(4) * levels
        lowest = {tuple(box): min(rank[(boxes == box).all(1)]) for box in boxes}
        assert list(map(tuple, selective_search._ranked(boxes, levels, seed))) == sorted(lowest, key=lowest.get)
