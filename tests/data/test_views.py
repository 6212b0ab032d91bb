import cv2
import numpy as np
import pytest

from proseco.data import augment, views
from proseco.data.sample import Sample
from proseco.proposals import random

WEAK = {"short_edges": [60, 75], "long_edge": 110, "first_short_edges": [70, 80], "crop_min": 48, "crop_max": 80}
HEIGHT, WIDTH = 60, 92


def sample(boxes=None):
    coarse = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    if boxes is None:
        low = np.random.default_rng(2).integers(0, [60, 40], (25, 2))
        boxes = np.concatenate([low, low + np.random.default_rng(3).integers(5, 20, (25, 2))], 1)
    return Sample("some/key", image, np.float32(boxes).reshape(-1, 4), np.arange(len(boxes)))


def pixels(boxes_cxcywh, view):
    """cxcywh in 0..1 -> xyxy in pixels, the slow way."""
    height, width = view.shape[:2]
    return np.array(
        [
            [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
            for x, y, w, h in boxes_cxcywh.astype(float)
        ]
    ).reshape(-1, 4)


def test_the_weak_view_is_the_weak_augmentation():
    example = views.WeakView(WEAK)(sample(), np.random.default_rng(4))
    image, boxes, kept = augment.weak(sample().image, sample().boxes_xyxy, np.random.default_rng(4), **WEAK)
    assert len(example.views) == 1 and (example.views[0] == image).all()
    assert np.abs(pixels(example.boxes_cxcywh, image) - boxes).max() < 1e-3
    assert (example.labels == np.arange(25)[kept]).all()
    assert example.key == "some/key" and example.size == (WIDTH, HEIGHT)
    assert example.boxes_cxcywh.dtype == np.float32 and example.labels.dtype == np.int64


def test_two_views_share_a_frame_and_differ_in_colour():
    shapes = set()
    for seed in range(12):
        example = views.TwoViews(WEAK, boxes=7, strong={"jitter_probability": 1.0})(
            sample(), np.random.default_rng(seed)
        )
        weak, strong = example.views
        assert weak.shape == strong.shape and (weak != strong).any()
        shapes.add(weak.shape)
        # Colours apart, it is the same picture: its edges are at the same places.
        edges = [cv2.Laplacian(cv2.cvtColor(v, cv2.COLOR_RGB2GRAY), cv2.CV_32F).ravel() for v in (weak, strong)]
        mirrored = cv2.Laplacian(cv2.cvtColor(np.ascontiguousarray(strong[:, ::-1]), cv2.COLOR_RGB2GRAY), cv2.CV_32F)
        assert np.corrcoef(*edges)[0, 1] > np.corrcoef(edges[0], mirrored.ravel())[0, 1] + 0.1
    assert len(shapes) > 4


def test_boxes_are_drawn_without_replacement_of_all_that_the_crop_leaves():
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        image, left, _ = augment.weak(sample().image, sample().boxes_xyxy, rng, **WEAK)
        example = views.TwoViews(WEAK, boxes=7)(sample(), np.random.default_rng(seed))
        drawn = pixels(example.boxes_cxcywh, image)
        assert len(drawn) == min(7, len(left))
        rows = [int(np.abs(left - box).max(1).argmin()) for box in drawn]
        assert len(set(rows)) == len(rows)
        assert max(np.abs(left[row] - box).max() for row, box in zip(rows, drawn, strict=True)) < 1e-3
        assert (example.labels == 0).all() and len(example.labels) == len(drawn)
        if len(left) == 25:
            seen |= set(rows)
    assert seen == set(range(25))  # not the first ones alone


def test_fewer_boxes_than_asked_for_and_none():
    few = sample([[5, 5, 30, 30], [40, 10, 80, 50]])
    example = views.TwoViews({**WEAK, "crop_probability": 0.0}, boxes=7)(few, np.random.default_rng(0))
    assert example.boxes_cxcywh.shape == (2, 4)
    for view in (views.TwoViews(WEAK, boxes=7), views.WeakView(WEAK), views.FixedView(60, None)):
        example = view(sample([]), np.random.default_rng(0))
        assert example.boxes_cxcywh.shape == (0, 4) and example.boxes_cxcywh.dtype == np.float32
        assert example.labels.shape == (0,)


def test_a_crop_may_leave_no_box_and_an_image_may_be_one_pixel():
    always = {**WEAK, "crop_probability": 1.0}
    counts = set()
    for seed in range(40):
        example = views.TwoViews(always, boxes=7)(sample([[88, 50, 92, 60]]), np.random.default_rng(seed))
        assert example.boxes_cxcywh.shape == (len(example.labels), 4) and example.boxes_cxcywh.dtype == np.float32
        counts.add(len(example.labels))
    assert counts == {0, 1}
    for shape in ((1, 1, 3), (1, 40, 3), (40, 1, 3)):
        one = Sample("k", np.full(shape, 7, np.uint8), np.float32([[0, 0, shape[1], shape[0]]]))
        for seed in range(8):
            example = views.TwoViews(always, boxes=7)(one, np.random.default_rng(seed))
            assert np.abs(example.boxes_cxcywh - [[0.5, 0.5, 1, 1]]).max() < 1e-6
            assert (example.views[0] == 7).all() and example.views[1].shape == example.views[0].shape


def test_the_fixed_view_knows_no_chance():
    first, second = (views.FixedView(45, 100)(sample(), np.random.default_rng(seed)) for seed in (0, 1))
    assert (first.views[0] == second.views[0]).all() and first.views[0].shape == (45, 69, 3)
    for box, (x, y, w, h) in zip(sample().boxes_xyxy, first.boxes_cxcywh, strict=True):
        assert (x, y) == pytest.approx(((box[0] + box[2]) / 2 / WIDTH, (box[1] + box[3]) / 2 / HEIGHT))
        assert (w, h) == pytest.approx(((box[2] - box[0]) / WIDTH, (box[3] - box[1]) / HEIGHT), rel=1e-4)
    assert (first.labels == np.arange(25)).all() and first.size == (WIDTH, HEIGHT)
    assert views.FixedView(45, 50)(sample(), np.random.default_rng(0)).views[0].shape == (33, 50, 3)


def test_square_crops():
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ramp = np.stack([columns * 2, rows * 2, rows * 0], -1).astype(np.uint8)  # red is x, green is y
    spans, flips = [], 0
    for seed in range(300):
        one = Sample("k", ramp, np.zeros((0, 4), np.float32), np.array([3]))
        example = views.SquareCrop(32, (0.25, 1.0))(one, np.random.default_rng(seed))
        view = example.views[0].astype(float)
        assert view.shape == (32, 32, 3) and example.labels.tolist() == [3] and example.boxes_cxcywh.shape == (0, 4)
        width = (view[..., 0].max() - view[..., 0].min()) / 2 / WIDTH
        height = (view[..., 1].max() - view[..., 1].min()) / 2 / HEIGHT
        assert abs(width - height) < 0.06  # the window has the shape of the image
        spans.append(width * height)
        flips += view[0, 0, 0] > view[0, -1, 0]
        assert view[0, 0, 1] < view[-1, 0, 1]
    assert 0.2 < min(spans) < 0.3 and 0.85 < max(spans) < 1.0
    assert abs(flips - 150) < 4 * 75**0.5


@pytest.mark.parametrize("seed", range(6))
def test_masks_follow_the_weak_view_and_stay_with_their_boxes(seed):
    plain = sample()
    corners = plain.boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    outlined = Sample(plain.key, plain.image, plain.boxes_xyxy, plain.labels, [[box] for box in corners])
    without = views.WeakView(WEAK)(plain, np.random.default_rng(seed))
    example = views.WeakView(WEAK)(outlined, np.random.default_rng(seed))
    assert without.object_masks is None
    assert (example.views[0] == without.views[0]).all() and (example.boxes_cxcywh == without.boxes_cxcywh).all()
    height, width = example.views[0].shape[:2]
    assert example.object_masks.shape == (len(example.labels), height, width)
    for mask, box in zip(example.object_masks, pixels(example.boxes_cxcywh, example.views[0]), strict=True):
        y, x = np.mgrid[:height, :width] + 0.5
        inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
        assert (mask != inside).sum() <= 2 * (box[2:] - box[:2]).sum() + 4  # a pixel along the edge


def test_the_first_stored_boxes_are_taken_before_the_crop():
    given = sample().boxes_xyxy
    kept = set()
    for seed in range(20):
        example = views.TopBoxes(WEAK, boxes=9)(sample(), np.random.default_rng(seed))
        image, boxes, _ = augment.weak(sample().image, given[:9], np.random.default_rng(seed), **WEAK)
        assert len(example.views) == 1 and (example.views[0] == image).all()
        assert np.abs(pixels(example.boxes_cxcywh, image) - boxes).max(initial=0) < 1e-3
        assert example.labels.tolist() == [0] * len(boxes)
        kept.add(len(boxes))
    assert max(kept) == 9 and min(kept) < 9
    assert len(views.TopBoxes(WEAK, boxes=99)(sample([]), np.random.default_rng(0)).boxes_cxcywh) == 0


def test_or_found_anew_on_the_image_squeezed_to_a_square():
    still = {**WEAK, "flip_probability": 0.0, "crop_probability": 0.0, "short_edges": [HEIGHT]}
    seen, seeds = [], set()

    def propose(image, *, seed):
        seen.append(image)
        seeds.add(seed)
        return np.float32([[0, 0, 40, 40], [10, 20, 30, 25], [1, 2, 3, 4]])

    view = views.TopBoxes(still, boxes=2, search=views.Search(propose, 40))
    for seed in range(3):
        example = view(sample(), np.random.default_rng(seed))
        w, h = WIDTH / 40, HEIGHT / 40
        wanted = [[0, 0, WIDTH, HEIGHT], [10 * w, 20 * h, 30 * w, 25 * h]]
        assert np.abs(pixels(example.boxes_cxcywh, example.views[0]) - wanted).max() < 1e-3
        assert example.boxes_cxcywh.dtype == np.float32
    view(sample(), np.random.default_rng(2))  # the same numbers, the same search
    assert len(seeds) == 3 and {image.shape for image in seen} == {(40, 40, 3)}
    assert (seen[0] == augment.resize_to(sample().image, np.zeros((0, 4)), 40, 40)[0]).all()


def test_or_drawn_of_all_that_are_stored():
    still = {**WEAK, "flip_probability": 0.0, "crop_probability": 0.0, "short_edges": [HEIGHT]}
    seen = set()
    for seed in range(30):
        example = views.TopBoxes(still, boxes=5, draw=True)(sample(), np.random.default_rng(seed))
        drawn = {tuple(np.rint(box)) for box in pixels(example.boxes_cxcywh, example.views[0])}
        assert len(example.boxes_cxcywh) == 5
        seen |= drawn
    assert seen == {tuple(box) for box in sample().boxes_xyxy}


@pytest.mark.parametrize("least", [8, 40])
def test_random_patches_know_nothing_of_the_image(least):
    view = views.RandomPatches(WEAK, patches=40, min_side=least)
    widths, heights, lefts = [], [], []
    for seed in range(10):
        example = view(sample(), np.random.default_rng(seed))
        other = view(sample([]), np.random.default_rng(seed))
        assert (example.boxes_cxcywh == other.boxes_cxcywh).all()  # whatever boxes are stored
        height, width = example.views[0].shape[:2]
        corners = pixels(example.boxes_cxcywh, example.views[0])
        assert corners.shape == (40, 4) and example.labels.tolist() == [0] * 40
        assert corners.min() > -1e-3 and (corners[:, 2:] < [width + 1e-3, height + 1e-3]).all()
        widths += list((corners[:, 2] - corners[:, 0]) / width)
        heights += list(corners[:, 3] - corners[:, 1])
        lefts += list(corners[:, 0] / (width - (corners[:, 2] - corners[:, 0]) + 1e-6))
    assert min(heights) >= least - 1e-3
    if least == 8:
        assert np.mean(widths) == pytest.approx(0.5, abs=0.05) and max(widths) > 0.85
        assert np.mean(lefts) == pytest.approx(0.5, abs=0.05) and min(lefts) < 0.02


def test_an_image_smaller_than_a_patch_is_the_patch():
    small = Sample("k", np.zeros((5, 9, 3), np.uint8), np.zeros((0, 4), np.float32))
    still = {**WEAK, "flip_probability": 0.0, "crop_probability": 0.0, "short_edges": [5]}
    example = views.RandomPatches(still, patches=4, min_side=8)(small, np.random.default_rng(0))
    sides = (pixels(example.boxes_cxcywh, small.image) @ [[-1, 0], [0, -1], [1, 0], [0, 1]]).round().tolist()
    assert all(side in ([8, 5], [9, 5]) for side in sides)


@pytest.mark.parametrize(
    "made",
    [
        views.WeakView(WEAK),
        views.TwoViews(WEAK, boxes=3),
        views.TopBoxes(WEAK, boxes=3),
        views.TopBoxes(WEAK, boxes=3, draw=True),
        views.TopBoxes(WEAK, boxes=3, draw=True, search=views.Search(random.propose, 32)),
        views.RandomPatches(WEAK, patches=3, min_side=8),
    ],
    ids=lambda made: f"{type(made).__name__}-{getattr(made, 'draw', False)}",
)
def test_the_size_of_a_view_is_known_before_its_image(made):
    sizes = set()
    for seed in range(60):
        found = made.frame(WIDTH, HEIGHT, np.random.default_rng(seed))
        view = made(sample(), np.random.default_rng(seed)).views[0]
        assert found == (view.shape[1], view.shape[0])
        sizes.add(found)
    assert len(sizes) > 20
