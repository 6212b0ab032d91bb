"""What boxes cover of the stored image in each view: images whose colours tell the place of a pixel."""

import numpy as np
import pytest
import torch

from proseco import boxes as box_ops
from proseco.data.batch import collate
from proseco.data.crops import ProposalViews, SharedRegions
from proseco.data.sample import Sample

PLAIN = dict.fromkeys(("jitter_probability", "grayscale_probability", "blur_probability"), 0.0)
SIZES = [(150, 220), (220, 150)]
SCRL = {"side": 96, "area": (0.2, 1.0), "boxes": 7, "min_size": 20, "max_iou": 0.5, "photometric": (PLAIN, PLAIN)}
SOCO = {"side": 96, "area": (0.5, 1.0), "boxes": 4, "jitter": 0.1, "jitter_probability": 0.0}
SOCO |= {"keep": {"min_side": 24, "aspect": (1 / 3, 3), "size": (0.3, 0.8), "limit": None}}
SOCO |= {"photometric": (PLAIN, PLAIN, PLAIN)}


def sample(size, boxes=()):
    """Red tells x, green tells y."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns * 255 / (width - 1), rows * 255 / (height - 1), 0 * rows], -1).astype(np.uint8)
    return Sample("key", image, np.float32(boxes).reshape(-1, 4))


def proposals(size, count=40, seed=0):
    height, width = size
    low = np.random.default_rng(seed).uniform(0, [width * 0.7, height * 0.7], (count, 2))
    sides = np.random.default_rng(seed + 1).uniform(10, 110, (count, 2))
    return np.concatenate([low, np.minimum(low + sides, [width, height])], 1)


def covered(crop, size):
    """xyxy in the stored image of what each box shows, read from the colours at the middles of its sides."""
    height, width = size
    side = crop.image.shape[0]
    found = []
    for x, y, w, h in crop.boxes_cxcywh.astype(float) * side:
        places = [(x - w / 2, y), (x + w / 2, y), (x, y - h / 2), (x, y + h / 2)]
        colors = [_color(crop.image, *place) for place in places]
        u = sorted(c[0] / 255 * (width - 1) + 0.5 for c in colors[:2])
        v = [c[1] / 255 * (height - 1) + 0.5 for c in colors[2:]]
        found.append([u[0], v[0], u[1], v[1]])
    return np.array(found)


def _color(image, x, y):
    """Red and green at a place that is no whole pixel, the ramp going on beyond the image."""
    inside = [int(np.clip(np.floor(place - 0.5), 0, image.shape[0] - 2)) for place in (x, y)]
    dx, dy = x - 0.5 - inside[0], y - 0.5 - inside[1]
    corner, right, below = (image[inside[1] + j, inside[0] + i].astype(float) for j, i in ((0, 0), (0, 1), (1, 0)))
    return (corner + dx * (right - corner) + dy * (below - corner))[:2]


@pytest.mark.parametrize("size", SIZES)
def test_shared_regions_are_the_same_pixels_in_both_views(size):
    mirrored = set()
    for seed in range(40):
        example = SharedRegions(**SCRL)(sample(size), np.random.default_rng(seed))
        first, second = example.crops
        assert example.views == [] and example.size == size[::-1] and example.boxes_cxcywh.shape == (0, 4)
        assert np.abs(covered(first, size) - covered(second, size)).max() < 5  # 255 levels for 220 pixels, resized
        mirrored.add(tuple(crop.image[48, 0, 0] > crop.image[48, -1, 0] for crop in example.crops))
        for crop in example.crops:
            assert crop.image.shape == (96, 96, 3) and crop.image.dtype == np.uint8
            assert crop.boxes_cxcywh.shape == (7, 4) and crop.boxes_cxcywh.dtype == np.float32
            corners = box_ops.cxcywh_to_xyxy(torch.from_numpy(crop.boxes_cxcywh))
            assert corners.min() > -1e-3 and corners.max() < 1.001
            assert (crop.boxes_cxcywh[:, 2:] * 96 > 20 - 0.01).all()
    assert len(mirrored) == 4


def test_regions_of_an_image_are_apart_and_anywhere():
    centres, overlaps, wide = [], [], []
    for seed in range(150):
        views = SharedRegions(**SCRL | {"area": (1.0, 1.0), "min_size": 16})
        crop = views(sample((100, 100)), np.random.default_rng(seed)).crops[0]
        boxes = torch.from_numpy(crop.boxes_cxcywh)
        corners = box_ops.cxcywh_to_xyxy(boxes)
        overlaps += box_ops.iou(corners, corners)[~torch.eye(7, dtype=torch.bool)].tolist()
        centres += boxes[:, :2].tolist()
        wide += boxes[:, 2].tolist()
    assert np.mean(np.array(overlaps) > 0.5) < 0.01  # those that fifty tries could not place
    assert np.abs(np.mean(centres, 0) - 0.5).max() < 0.02
    counts, _, _ = np.histogram2d(*np.transpose(centres), bins=3, range=[(0, 1), (0, 1)])
    assert counts.min() > 30
    assert min(wide) < 0.2 and max(wide) > 0.8  # of all sizes


def test_regions_overlap_no_more_than_they_may():
    found = {}
    for most in (0.1, 1.0):
        views, overlaps = SharedRegions(**SCRL | {"boxes": 3, "area": (1.0, 1.0), "min_size": 30, "max_iou": most}), []
        for seed in range(60):
            crop = views(sample((100, 100)), np.random.default_rng(seed)).crops[0]
            corners = box_ops.cxcywh_to_xyxy(torch.from_numpy(crop.boxes_cxcywh))
            overlaps += box_ops.iou(corners, corners)[~torch.eye(3, dtype=torch.bool)].tolist()
        found[most] = np.mean(np.array(overlaps) > 0.1)
    assert found[0.1] < 0.02 < 0.2 < found[1.0]  # else fifty tries would be of no use


def test_windows_share_enough_for_the_smallest_region():
    """In the view that shows it smaller: where windows differ in size, the larger one counts."""
    views, sides = SharedRegions(**SCRL | {"area": (0.1, 1.0), "min_size": 40}), []
    for seed in range(60):
        for crop in views(sample((150, 220)), np.random.default_rng(seed)).crops:
            sides.append(crop.boxes_cxcywh[:, 2:].min() * 96)
    assert min(sides) > 40 - 0.01


@pytest.mark.parametrize("area", [(0.2, 0.3), (0.7, 0.9)])
def test_windows_have_the_share_of_the_image_that_is_asked_for(area):
    views, shares = SharedRegions(**SCRL | {"area": area, "min_size": 5}), []
    for seed in range(40):
        for crop in views(sample((150, 150)), np.random.default_rng(seed)).crops:
            shares.append(np.prod([(np.ptp(crop.image[..., c].astype(float)) + 2) / 255 for c in (0, 1)]))
    assert area[0] - 0.03 < min(shares) < max(shares) < area[1] + 0.03 and np.ptp(shares) > 0.06


def test_regions_of_windows_that_share_nothing_are_never_drawn():
    """As large as the view: only two windows that are one can hold it."""
    views = SharedRegions(**SCRL | {"min_size": 96, "area": (0.2, 0.3)})
    first, second = views(sample((150, 220)), np.random.default_rng(0)).crops
    assert np.abs(first.boxes_cxcywh - [0.5, 0.5, 1, 1]).max() < 1e-5
    assert np.abs(covered(first, (150, 220)) - covered(second, (150, 220))).max() < 5


@pytest.mark.parametrize("size", SIZES)
def test_three_views_show_the_same_proposals_the_first_all_of_each(size):
    given = proposals(size)
    windows, cut = [], 0
    for seed in range(40):
        whole, crop, small = soco_views(size, given, seed)
        assert [view.image.shape[0] for view in (whole, crop, small)] == [96, 96, 48]
        shown = [covered(view, size) for view in (whole, crop, small)]
        assert np.abs(shown[2] - shown[1]).max() < 8
        corners = [box_ops.cxcywh_to_xyxy(torch.from_numpy(v.boxes_cxcywh)) for v in (whole, crop, small)]
        assert all(c.min() > -1e-3 and c.max() < 1.001 for c in corners)
        assert (np.abs(crop.boxes_cxcywh - small.boxes_cxcywh)[:, 1:] < 1e-5).all()  # x but for a mirror
        levels = whole.image[..., :2].reshape(-1, 2)
        assert levels.min() < 5 and levels.max() > 250  # all of the image
        window = window_of(crop, size)
        windows.append(np.ptp(window.reshape(2, 2) / size[::-1], axis=0).prod())
        for box, part in zip(shown[0], shown[1], strict=True):
            assert np.abs(given - box).max(1).min() < 4  # a stored one that passes the filter
            assert np.abs(clipped(box, window) - part).max() < 6
            cut += np.abs(box - part).max() > 8
    assert 0.4 < min(windows) < 0.65 and max(windows) > 0.75
    assert cut > 5


@pytest.mark.parametrize("size", SIZES)
def test_a_fourth_view_is_another_window_with_proposals_of_its_own(size):
    given, apart = proposals(size), 0
    for seed in range(20):
        whole, crop, small, extra = soco_views(size, given, seed, extra_side=80, photometric=(PLAIN,) * 4)
        assert [view.image.shape[0] for view in (whole, crop, small, extra)] == [96, 96, 48, 80]
        shown = covered(whole, size)
        assert len(shown) == 8
        for view, boxes in ((crop, shown[:4]), (small, shown[:4]), (extra, shown[4:])):
            assert (
                np.abs(covered(view, size) - clipped(boxes, window_of(crop if view is small else view, size))).max() < 8
            )
        spans = [np.ptp(view.image[..., :2].reshape(-1, 2) / 255.0, axis=0) for view in (crop, extra)]
        apart += np.abs(spans[0] - spans[1]).max() > 0.05
        assert np.abs(covered(soco_views(size, given, seed)[0], size) - shown[:4]).max() < 1  # as without it
    assert apart > 10


def soco_views(size, given, seed, **changes):
    return ProposalViews(**SOCO | changes)(sample(size, given), np.random.default_rng(seed)).crops


def test_proposals_that_the_second_view_does_not_show_are_not_drawn():
    spread = [[x, y, x + 80, y + 60] for x, y in ((0, 0), (140, 0), (0, 90), (140, 90), (70, 45))]
    hidden = 0
    for seed in range(60):
        whole, *others = soco_views((150, 220), spread, seed, area=(0.2, 0.3))
        assert all((view.boxes_cxcywh[:, 2:] > 0).all() for view in others)
        hidden += len(np.unique(covered(whole, (150, 220)).round(-1), axis=0)) < 4
    assert hidden > 15


def test_small_long_and_large_proposals_are_left_out():
    size = (150, 220)
    good = [20, 30, 100, 100]
    bad = [[10, 10, 30, 140], [5, 5, 215, 30], [0, 0, 220, 148], [60, 60, 95, 95]]  # narrow, flat, large, small
    for seed in range(10):
        whole = soco_views(size, [*bad, good], seed, area=(1.0, 1.0), boxes=2)[0]
        assert np.abs(covered(whole, size) - good).max() < 4  # twice the only one, as its central window shows it


def window_of(crop, size):
    """What a view shows of an image whose red and green tell where a pixel lies, xyxy."""
    levels = crop.image[..., :2].reshape(-1, 2) / 255.0
    return (np.stack([levels.min(0), levels.max(0)]) * size[::-1]).flatten()


def clipped(boxes, window):
    return boxes.clip(np.tile(window[:2], 2), np.tile(window[2:], 2))


def test_an_image_without_proposals_is_one():
    size = (150, 220)
    for seed in range(5):
        whole, crop, small = soco_views(size, [], seed)
        for view in (crop, small):
            assert np.abs(view.boxes_cxcywh - [0.5, 0.5, 1, 1]).max() < 1e-5 and len(view.boxes_cxcywh) == 4
        assert np.abs(whole.boxes_cxcywh - [0.5, 0.5, 1, 1]).max() < 1e-5


def test_proposals_are_drawn_at_random_and_none_twice_while_others_are_left():
    size, seen = (150, 220), []
    given = [[x, y, x + 80, y + 70] for x in (10, 60, 120) for y in (5, 40, 75)]
    for seed in range(60):
        crop = soco_views(size, given, seed, area=(1.0, 1.0), boxes=4)[1]
        rows = {tuple(np.round(box, 4)) for box in crop.boxes_cxcywh[:, 1:].tolist()}
        assert len({tuple(np.round(box, 3)) for box in covered(crop, size)}) == 4, rows
        seen += [tuple(np.round(box / 10)) for box in covered(crop, size)]
    assert len(set(seen)) >= 9


def test_jitter_moves_the_boxes_of_the_first_view_alone():
    size, amounts, still = (150, 220), [], 0
    box = np.float64([[70, 45, 150, 105]])  # far from the image's border
    for seed in range(300):
        whole, crop, _ = soco_views(size, box, seed, area=(1.0, 1.0), boxes=1, jitter_probability=0.7)
        plain = soco_views(size, box, seed, area=(1.0, 1.0), boxes=1)[1].boxes_cxcywh
        assert np.abs(crop.boxes_cxcywh[:, 1:] - plain[:, 1:]).max() < 1e-6
        y, w, h = (whole.boxes_cxcywh[0, 1:] * [150, 220, 150]).tolist()
        amounts.append([(y - h / 2 - 45) / 60, w / 80 - 1, h / 60 - 1])
        still += np.abs(amounts[-1]).max() < 1e-3
    amounts = np.array(amounts)
    assert np.abs(amounts).max() < 0.1001 and np.abs(amounts).max(0).min() > 0.08
    assert abs(still - 90) < 4 * (0.21 * 300) ** 0.5
    assert np.abs(np.corrcoef(amounts.T) - np.eye(3)).max() < 0.2


def test_jitter_leaves_no_box_beyond_the_image():
    moved = 0
    for seed in range(40):
        whole = soco_views((150, 220), [[0, 0, 220, 150]], seed, area=(1.0, 1.0), boxes=3, jitter_probability=1.0)[0]
        corners = box_ops.cxcywh_to_xyxy(torch.from_numpy(whole.boxes_cxcywh))
        assert corners.min() > -1e-5 and corners.max() < 1 + 1e-5
        moved += (whole.boxes_cxcywh[:, 2:] < 0.99).any()
    assert moved > 30


def test_views_are_equal_for_equal_generators_and_collate():
    for make in (SharedRegions(**SCRL), ProposalViews(**SOCO)):
        examples = [make(sample(size, proposals(size)), np.random.default_rng(3)) for size in (*SIZES, SIZES[0])]
        for one, other in zip(examples[0].crops, examples[2].crops, strict=True):
            assert (one.image == other.image).all() and (one.boxes_cxcywh == other.boxes_cxcywh).all()
        batch = collate(examples)
        assert batch.views.shape == (0, 3, 3, 0, 0) and [len(c.boxes) for c in batch.crops] == [3] * len(batch.crops)
        assert all(c.images.shape[:2] == (3, 3) and c.images.dtype == torch.uint8 for c in batch.crops)


def test_each_view_has_photometric_settings_of_its_own():
    inverted = PLAIN | {"solarise_probability": 1.0}
    first, second = SharedRegions(**SCRL | {"photometric": (PLAIN, inverted)})(
        sample(SIZES[0]), np.random.default_rng(0)
    ).crops
    assert first.image[..., 2].max() == 0 and first.image.max() > 130 and second.image.max() <= 128
