from collections import Counter
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from proseco.base import params
from proseco.data import augment
from proseco.data.sample import Sample
from proseco.data.views import WeakView

WEAK = {"short_edges": [60, 75, 90], "long_edge": 110, "first_short_edges": [70, 80, 95], "crop_min": 48}
WEAK["crop_max"] = 80


def rectangle(height, width, box):
    """A white rectangle on black, and its box."""
    image = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    return image, np.float32([box])


def found(image):
    """The box of the rectangle as it shows: means of rows and columns give its sides to a fraction of a pixel."""
    bright = image[..., 0].astype(float) / 255
    columns, rows = bright.max(0), bright.max(1)
    sides = []
    for profile in (columns, rows):
        inside = np.flatnonzero(profile > 0.5)
        # The pixels at both ends are covered in part.
        low = inside[0] + 1 - profile[: inside[0] + 1].sum()
        sides.append((low, low + profile.sum()))
    (x0, x1), (y0, y1) = sides
    return np.array([x0, y0, x1, y1])


def smooth(height=48, width=64, seed=0):
    """More red than green, more green than blue: luminance weighs them unequally."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return (cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * [1.0, 0.6, 0.3]).astype(np.uint8)


def noise(height=48, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_flip():
    image, boxes = rectangle(40, 70, (5, 6, 25, 30))
    mirrored, moved = augment.flip(image, boxes)
    assert moved.tolist() == [[45, 6, 65, 30]]
    assert np.abs(found(mirrored) - moved[0]).max() < 1e-6
    again, back = augment.flip(mirrored, moved)
    assert (again == image).all() and (back == boxes).all() and moved.dtype == np.float32


@pytest.mark.parametrize(
    ("height", "width", "short", "long", "size"),
    [
        (40, 70, 20, None, (20, 35)),
        (70, 40, 20, None, (35, 20)),
        (40, 70, 80, None, (80, 140)),
        (40, 70, 80, 100, (57, 100)),
        (70, 40, 80, 100, (100, 57)),
        (40, 70, 40, 70, (40, 70)),
        (30, 900, 20, 100, (3, 100)),
        (4, 900, 20, 100, (1, 100)),
    ],
)
def test_resize(height, width, short, long, size):
    image, boxes = rectangle(height, width, (8, 1, 32, height - 1))
    small, moved = augment.resize(image, boxes, short, long)
    assert small.shape == (*size, 3) and small.dtype == np.uint8 and moved.dtype == np.float32
    x, y = size[1] / width, size[0] / height
    assert moved[0] == pytest.approx([8 * x, y, 32 * x, (height - 1) * y])
    if min(size) > 8:
        assert np.abs(found(small) - moved[0]).max() < 0.6


def test_shrinking_is_a_mean_over_areas():
    """Noise tells: two pixels of sixteen, as plain bilinear interpolation takes, have another mean."""
    image = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    small, _ = augment.resize(image, np.zeros((0, 4), np.float32), 6, None)
    assert np.abs(small - image.reshape(6, 4, 9, 4, 3).mean((1, 3))).max() <= 0.5


def test_crop_and_clip():
    image, boxes = rectangle(40, 70, (5, 6, 25, 30))
    cut, moved = augment.crop(image, boxes, left=10, top=2, width=30, height=20)
    assert cut.shape == (20, 30, 3) and moved.tolist() == [[-5, 4, 15, 28]]
    clipped, kept = augment.clip(moved, 30, 20)
    assert clipped.tolist() == [[0, 4, 15, 20]] and kept.tolist() == [True]
    assert np.abs(found(cut) - clipped[0]).max() < 1e-6
    outside = np.float32([[30, 0, 40, 10], [-9, 3, 0, 9], [5, 5, 5, 9], [29, 19, 31, 22]])
    assert augment.clip(outside, 30, 20)[1].tolist() == [False, False, False, True]
    assert augment.clip(np.zeros((0, 4), np.float32), 30, 20)[1].shape == (0,)


@pytest.mark.parametrize("size", [(72, 110), (110, 72), (50, 50)])
def test_the_rectangle_is_under_its_box_after_the_weak_augmentation(size):
    height, width = size
    image, boxes = rectangle(height, width, (width // 5, height // 4, width // 5 + 30, height // 4 + 24))
    seen = 0
    for seed in range(120):
        view, moved, kept = augment.weak(image, boxes, np.random.default_rng(seed), **WEAK)
        assert len(moved) == kept.sum() and view.dtype == np.uint8 and moved.dtype == np.float32
        assert (moved >= 0).all() and (moved[:, 2:] <= np.add(view.shape[1::-1], 1e-4)).all()  # float32
        if kept[0] and (moved[0, 2:] - moved[0, :2]).min() >= 4:
            assert np.abs(found(view) - moved[0]).max() <= 1, seed
            seen += 1
        elif not kept[0]:
            assert view.max() == 0
    assert seen > 80


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_any_rectangle_is_under_its_box_in_any_image(data, seed):
    """Sides of one pixel, strips, images smaller than the crop, rectangles at the border and of the whole image."""
    height, width = (data.draw(st.integers(1, 100)) for _ in range(2))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    image, boxes = rectangle(height, width, (x0, y0, x1, y1))
    columns = [[x, 0, x + 1, height] for x in range(width)]
    boxes = np.float32([boxes[0], *columns])
    view, moved, kept = augment.weak(image, boxes, np.random.default_rng(seed), **WEAK)
    pixel = (moved[-kept[1:].sum() :, 2] - moved[-kept[1:].sum() :, 0]).max()  # of the image, as wide as in the view
    assert max(view.shape) <= WEAK["long_edge"] and view.shape[2] == 3
    assert len(moved) == kept.sum()
    assert (moved[:, :2] >= 0).all() and (moved[:, 2:] <= np.add(view.shape[1::-1], 1e-4)).all()
    assert (moved[:, :2] < moved[:, 2:]).all()
    if not kept[0]:
        assert view.max() <= 128  # no more than the outer half of an edge that enlarging has blurred
    elif (moved[0, 2:] - moved[0, :2]).min() >= max(4, pixel):  # its full brightness shows
        assert np.abs(found(view) - moved[0]).max() <= 1 + pixel / 2
    strong = augment.strong(view, np.random.default_rng(seed))
    assert strong.shape == view.shape and strong.dtype == np.uint8


def test_labels_stay_with_their_boxes():
    """Sixteen patches, each with its own brightness as its label."""
    image, boxes, labels = np.zeros((80, 120, 3), np.uint8), [], []
    for row in range(4):
        for column in range(4):
            x, y, value = 4 + 30 * column, 3 + 20 * row, 15 * (1 + row * 4 + column)
            image[y : y + 14, x : x + 22] = value
            boxes.append([x, y, x + 22, y + 14])
            labels.append(value)
    sample = Sample("key", image, np.float32(boxes), np.array(labels))
    counts = set()
    for seed in range(40):
        example = WeakView(WEAK)(sample, np.random.default_rng(seed))
        view = example.views[0]
        assert len(example.boxes_cxcywh) == len(example.labels)
        counts.add(len(example.labels))
        for (x, y, w, h), label in zip(example.boxes_cxcywh, example.labels, strict=True):
            if min(w * view.shape[1], h * view.shape[0]) > 3:
                assert abs(int(view[int(y * view.shape[0]), int(x * view.shape[1]), 0]) - label) <= 1
    assert len(counts) > 3 and 16 in counts  # crops did leave some out


def test_crops_are_drawn_from_their_ranges(monkeypatch):
    seen = []
    crop = augment.crop

    def spy(image, boxes, left, top, width, height):
        assert 0 <= left <= image.shape[1] - width and 0 <= top <= image.shape[0] - height
        seen.append((width, height, left == 0, top == image.shape[0] - height))
        return crop(image, boxes, left, top, width, height)

    monkeypatch.setattr(augment, "crop", spy)
    image, boxes = rectangle(60, 90, (5, 6, 25, 30))
    options = {**WEAK, "first_short_edges": [70], "crop_min": 60, "crop_max": 75, "crop_probability": 1.0}
    for seed in range(400):
        augment.weak(image, boxes, np.random.default_rng(seed), **options)
    widths, heights, at_left, at_bottom = zip(*seen, strict=True)
    assert set(widths) == set(range(60, 76))
    assert set(heights) == set(range(60, 71))  # the image is 105 x 70 by now
    assert any(at_left) and any(at_bottom)
    assert abs(np.corrcoef(widths, heights)[0, 1]) < 0.2  # each side by itself


def test_the_weak_augmentation_happens_as_often_as_it_says():
    image, boxes = rectangle(60, 90, (5, 6, 25, 30))
    options = {**WEAK, "short_edges": [60], "long_edge": None, "first_short_edges": [60]}
    flips = crops = 0
    count = 600
    for seed in range(count):
        view, moved, kept = augment.weak(
            image, boxes, np.random.default_rng(seed), **options, flip_probability=0.3, crop_probability=0.0
        )
        assert view.shape == (60, 90, 3) and kept.all()
        flips += moved[0, 0] > 45
        view, _, _ = augment.weak(
            image, boxes, np.random.default_rng(seed), **options, flip_probability=0.0, crop_probability=0.7
        )
        crops += view.shape != (60, 90, 3)
    deviation = (0.21 * count) ** 0.5
    assert abs(flips - 0.3 * count) < 4 * deviation and abs(crops - 0.7 * count) < 4 * deviation


def test_paper_scale_is_table_4():
    views = params.load(Path(__file__).parents[2] / "params.yaml")["scales"]["paper"]["views"]
    weak = {"short_edges": list(range(480, 801, 32)), "long_edge": 1333, "first_short_edges": [400, 500, 600]}
    assert views["weak"] == {**weak, "crop_min": 384, "crop_max": 600}
    strong = {"jitter_probability": 0.8, "jitter": [0.4, 0.4, 0.4, 0.1], "grayscale_probability": 0.2}
    assert views["strong"] == {**strong, "blur_probability": 0.5, "blur_sigma": [0.1, 2.0]}


def uniform(values, choices):
    """Does each of the choices come as often as the others? p of the chi-squared test, 0 where other values came."""
    counts = Counter(values)
    return stats.chisquare([counts[value] for value in choices]).pvalue if set(counts) <= set(choices) else 0.0


def test_the_weak_augmentation_draws_as_table_4_says(monkeypatch):
    """Square images of no content, so that 6,000 cost nothing: what is drawn, how often, and in which order."""
    steps, longest = [], set()
    size = augment.resized_size

    def resized_size(width, height, short_edge, long_edge):
        longest.add(long_edge)
        return size(width, height, short_edge, long_edge)

    def resize_to(image, boxes, width, height):
        steps.append(("resize", min(width, height)))
        return np.broadcast_to(np.uint8(0), (height, width, 3)), boxes

    def crop(image, boxes, left, top, width, height):
        steps.append(("crop", width, height))
        return image[:height, :width], boxes

    monkeypatch.setattr(augment, "flip", lambda image, boxes: (steps.append(("flip",)), (image, boxes))[1])
    monkeypatch.setattr(augment, "resized_size", resized_size)
    monkeypatch.setattr(augment, "resize_to", resize_to)
    monkeypatch.setattr(augment, "crop", crop)
    options = params.load(Path(__file__).parents[2] / "params.yaml")["scales"]["paper"]["views"]["weak"]
    image, count, runs = np.zeros((500, 500, 3), np.uint8), 6000, []
    for seed in range(count):
        steps.clear()
        augment.weak(image, np.zeros((0, 4), np.float32), np.random.default_rng(seed), **options)
        runs.append(tuple(steps))
    names = [tuple(step[0] for step in run) for run in runs]
    plain, cropped = ("resize",), ("resize", "crop", "resize")
    assert uniform(names, [plain, cropped, ("flip", *plain), ("flip", *cropped)]) > 0.01
    assert uniform([run[-1] for run in runs], [("resize", edge) for edge in range(480, 801, 32)]) > 0.01
    assert longest == {None, 1333}
    crops = [run[-3:-1] for run in runs if len(run) > 2]
    assert uniform([first for first, _ in crops], [("resize", edge) for edge in (400, 500, 600)]) > 0.01
    for edge in (400, 500, 600):
        for side in (1, 2):
            sides = [crop[side] for first, crop in crops if first[1] == edge]
            assert uniform(sides, range(384, edge + 1)) > 0.01


def torchvision(image, function, *arguments):
    return function(torch.from_numpy(image).permute(2, 0, 1), *arguments).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("image", [smooth(), noise()], ids=["smooth", "noise"])
def test_flip_and_crop_are_those_of_torchvision(image):
    none = np.zeros((0, 4), np.float32)
    assert (augment.flip(image, none)[0] == torchvision(image, reference.hflip)).all()
    cut, _ = augment.crop(image, none, left=9, top=4, width=30, height=21)
    assert (cut == torchvision(image, reference.crop, 4, 9, 21, 30)).all()


@pytest.mark.parametrize(
    ("short", "mean", "most"),
    [(120, 0.5, 1), (67, 0.5, 1), (48, 0, 0), (44, 1.2, 8), (36, 2.5, 16), (24, 4, 20), (15, 4, 20)],
)
def test_resize_is_that_of_torchvision(short, mean, most):
    """Within a level of 255 when enlarging. Shrinking weighs the pixels of an area alike, torchvision those in the
    middle more: a few levels, and equal on the average, where the image has detail of a few pixels.
    """
    image = smooth()
    ours, _ = augment.resize(image, np.zeros((0, 4), np.float32), short, None)
    theirs = torchvision(image, reference.resize, list(ours.shape[:2]))
    difference = ours.astype(int) - theirs
    assert min(ours.shape[:2]) == short
    assert np.abs(difference).mean() <= mean and np.abs(difference).max() <= most
    assert abs(difference.mean()) < 0.5


@pytest.mark.parametrize("image", [smooth(), noise()], ids=["smooth", "noise"])
@pytest.mark.parametrize("factor", [0.0, 0.6, 0.93, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_operations_are_those_of_torchvision(image, factor, name):
    """Within 2 of 255 levels: torchvision truncates where OpenCV rounds."""
    ours = getattr(augment, name)(image, factor)
    theirs = torchvision(image, getattr(reference, f"adjust_{name}"), factor)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs).max() <= 2
    if factor != 1:
        assert np.abs(ours.astype(int) - image).mean() > 2  # the reference did change something


@pytest.mark.parametrize("image", [smooth(), noise()], ids=["smooth", "noise"])
def test_grayscale_is_that_of_torchvision(image):
    ours = augment.grayscale(image)
    assert ours.shape == image.shape
    assert np.abs(ours.astype(int) - torchvision(image, reference.rgb_to_grayscale, 3)).max() <= 2


@pytest.mark.parametrize("image", [smooth(), noise()], ids=["smooth", "noise"])
@pytest.mark.parametrize("turn", [-0.5, -0.1, -0.03, 0.0, 0.05, 0.1, 0.5])
def test_hue_is_that_of_torchvision(image, turn):
    """OpenCV keeps hue in 256 steps: 95 of 100 values within 6 levels, none beyond 12."""
    difference = np.abs(augment.hue(image, turn).astype(int) - torchvision(image, reference.adjust_hue, turn))
    assert np.percentile(difference, 95) <= 6 and difference.max() <= 12
    if abs(turn) >= 0.05:
        assert np.abs(augment.hue(image, turn).astype(int) - image).mean() > 8


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_blur_is_that_of_torchvision(sigma):
    """With 23 taps, as SimCLR's at 224 pixels."""
    image = noise()
    theirs = torchvision(image, reference.gaussian_blur, [23, 23], [sigma, sigma])
    assert np.abs(augment.blur(image, sigma).astype(int) - theirs).max() <= 2


def test_the_strong_augmentation_leaves_geometry_alone():
    height, width = 60, 84
    image, boxes = rectangle(height, width, (20, 15, 50, 40))
    rows, columns = np.mgrid[:height, :width]
    for seed in range(60):
        view = augment.strong(image, np.random.default_rng(seed))
        assert view.shape == image.shape and view.dtype == np.uint8
        bright = view.astype(float).mean(-1)
        bright -= bright.min()
        centre = np.array([(bright * (columns + 0.5)).sum(), (bright * (rows + 0.5)).sum()]) / bright.sum()
        assert np.abs(centre - (boxes[0, :2] + boxes[0, 2:]) / 2).max() < 0.1
    assert image.max() == 255 and set(np.unique(image)) == {0, 255}  # the argument is left alone


def test_the_strong_augmentation_happens_as_often_as_it_says(monkeypatch):
    calls, orders, sigmas = Counter(), Counter(), []
    factors = {name: [] for name in ("brightness", "contrast", "saturation", "hue")}

    def spy(name):
        def operation(image, amount=None):
            calls[name] += 1
            if name in factors:
                factors[name].append(amount)
                order.append(name)
            elif name == "blur":
                sigmas.append(amount)
            return image

        return operation

    for name in ("brightness", "contrast", "saturation", "hue", "grayscale", "blur"):
        monkeypatch.setattr(augment, name, spy(name))
    count = 2000
    for seed in range(count):
        order = []
        augment.strong(noise(2, 3), np.random.default_rng(seed), jitter=(0.4, 0.3, 0.2, 0.1), blur_sigma=(0.1, 0.7))
        orders[tuple(order)] += 1
    for name, share in (("hue", 0.8), ("brightness", 0.8), ("grayscale", 0.2), ("blur", 0.5)):
        assert abs(calls[name] - share * count) < 4 * (share * (1 - share) * count) ** 0.5, name
    assert orders.pop(()) == count - calls["hue"]
    assert uniform(Counter(orders).elements(), list(permutations(factors))) > 0.01
    ranges = {"brightness": (0.6, 1.4), "contrast": (0.7, 1.3), "saturation": (0.8, 1.2), "hue": (-0.1, 0.1)}
    for name, (low, high) in ranges.items():
        assert stats.kstest(factors[name], stats.uniform(low, high - low).cdf).pvalue > 0.01, name
    assert stats.kstest(sigmas, stats.uniform(0.1, 0.6).cdf).pvalue > 0.01
    assert abs(np.corrcoef(list(factors.values())) - np.eye(4)).max() < 0.1  # each by itself


def test_equal_generators_give_equal_views():
    image, boxes = noise(60, 84), np.float32([[20, 15, 50, 40]])
    for seed in range(5):
        first, second = (
            augment.strong(augment.weak(image, boxes, rng, **WEAK)[0], rng)
            for rng in (np.random.default_rng(seed), np.random.default_rng(seed))
        )
        assert (first == second).all()


def ramp(height, width):
    """Red tells x, green tells y, at full range: a box holds the same values before and after any geometry."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 / (width - 1), rows * 255 / (height - 1), 0 * rows], -1).astype(np.uint8)


@pytest.mark.parametrize("size", [(90, 130), (130, 90)])
def test_a_box_covers_the_same_pixels_after_a_resized_crop(size):
    height, width = size
    image, flips, windows = ramp(height, width), 0, []
    boxes = np.float32([[0, 0, width, height], [30, 35, 70, 65]])
    for seed in range(200):
        rng = np.random.default_rng(seed)
        view, (frame, box) = augment.resized_crop(image, boxes, rng, side=64, area=(0.3, 1.0))
        assert view.shape == (64, 64, 3) and view.dtype == np.uint8
        x_rises = view[32, 60, 0] > view[32, 3, 0]
        flips += not x_rises
        (left, top), (wide, high) = frame[:2], frame[2:] - frame[:2]  # where the image's frame lies in the view
        windows.append((64 * width / wide, 64 * height / high))
        for x, y in ((5, 9), (32, 32), (60, 50)):  # from a pixel of the view back into the image
            u, v = (x + 0.5 - left) / wide * width, (y + 0.5 - top) / high * height
            u = u if x_rises else width - u
            expected = [(u - 0.5) * 255 / (width - 1), (v - 0.5) * 255 / (height - 1)]
            assert np.abs(view[y, x, :2] - expected).max() < 3
        x0, y0, x1, y1 = box
        u0, u1 = sorted((30, 70) if x_rises else (width - 70, width - 30))
        assert [x0, x1] == pytest.approx([left + wide * u0 / width, left + wide * u1 / width], abs=1e-3)
        assert [y0, y1] == pytest.approx([top + high * 35 / height, top + high * 65 / height], abs=1e-3)
    windows = np.array(windows)
    share, aspect = windows.prod(1) / (width * height), windows[:, 0] / windows[:, 1]
    assert 0.28 < share.min() < 0.35 and share.max() <= 1
    assert 0.73 < aspect.min() < 0.85 and 1.2 < aspect.max() < 1.36
    assert abs(flips - 100) < 4 * 50**0.5


@pytest.mark.parametrize("size", [(10, 400), (400, 10), (77, 91), (1, 1), (1, 40), (40, 1)])
def test_resized_crop_windows_lie_within_the_image(size):
    """Also where none of the tries does; then the window is torchvision's."""
    height, width = size
    theirs = RandomResizedCrop.get_params(torch.zeros(3, height, width), [1.0, 1.0], [3 / 4, 4 / 3])
    for seed in range(50):
        rng = np.random.default_rng(seed)
        left, top, w, h = augment.resized_crop_window(width, height, rng, (0.2, 1.0))
        assert 0 <= left <= width - w and 0 <= top <= height - h and min(w, h) > 0
        if max(size) > 3 * min(size) > 0:  # a window of the whole area never fits
            whole = augment.resized_crop_window(width, height, rng, (1.0, 1.0))
            assert whole == (theirs[1], theirs[0], theirs[3], theirs[2])


def test_resized_crops_are_drawn_as_torchvision_draws_them():
    draws = {"ours": [], "theirs": []}
    rng, image = np.random.default_rng(0), torch.zeros(3, 500, 700)
    torch.manual_seed(0)
    for _ in range(1500):
        left, top, w, h = augment.resized_crop_window(700, 500, rng, (0.08, 1.0))
        draws["ours"].append((w * h, w / h, left / (701 - w), top / (501 - h)))
        top, left, h, w = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
        draws["theirs"].append((w * h, w / h, left / (701 - w), top / (501 - h)))
    for ours, theirs in zip(zip(*draws["ours"], strict=True), zip(*draws["theirs"], strict=True), strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 0.01


@pytest.mark.parametrize("image", [smooth(), noise()], ids=["smooth", "noise"])
def test_solarise_is_that_of_torchvision(image):
    ours = augment.solarise(image)
    assert ours.dtype == np.uint8 and (ours == torchvision(image, reference.solarize, 128)).all()
    always = dict.fromkeys(("jitter_probability", "grayscale_probability", "blur_probability"), 0.0)
    strong = augment.strong(image, np.random.default_rng(0), **always, solarise_probability=1.0)
    assert (strong == ours).all() and (ours != image).any()
