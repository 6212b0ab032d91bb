"""Recall of proposals against plain loops, on images of coloured boxes."""

import csv
import math

import numpy as np
import pytest
from PIL import Image

from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.data.sample import Sample
from proseco.evaluation import recall


def iou(a, b):
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def rank_of(boxes, target, least):
    """The slow truth: look at one box after the other."""
    for number, box in enumerate(boxes):
        if iou(box, target) >= least:
            return number + 1
    return math.inf


def corners(rng, count):
    low = rng.uniform(0, 40, (count, 2))
    return np.concatenate([low, low + rng.uniform(5, 40, (count, 2))], 1).astype(np.float32)


@pytest.mark.parametrize(("boxes", "objects"), [(200, 9), (1, 5), (0, 3), (7, 0)])
def test_the_first_box_that_covers(boxes, objects):
    rng = np.random.default_rng(boxes)
    found, targets = corners(rng, boxes), corners(rng, objects)
    ranks = recall.first_cover(found, targets)
    assert ranks.shape == (2, objects)
    for least, row in zip(recall.IOUS, ranks.tolist(), strict=True):
        assert row == [rank_of(found.tolist(), target, least) for target in targets.tolist()]
    assert (boxes == 200) == bool((np.isfinite(ranks) & (ranks > 1)).any())  # the ranks are not all trivial


def test_an_overlap_of_just_the_threshold_covers():
    boxes, objects = np.float32([[0, 0, 10, 10.5], [0, 0, 10, 10]]), np.float32([[0, 0, 10, 5], [50, 50, 60, 60]])
    assert recall.first_cover(boxes, objects).tolist() == [[2, math.inf], [math.inf, math.inf]]


@pytest.fixture
def data(tmp_path):
    """Six images of unequal sizes. The third shows nothing, the fifth a crowd alone, the sixth a crowd beside a box."""
    images, things = [], []
    for number in range(6):
        rng = np.random.default_rng(number)
        width, height = 60 + 7 * number, 90 - 5 * number
        pixels = np.full((height, width, 3), 128, np.uint8)
        for box in corners(rng, 0 if number == 2 else 1 + number % 3).round():
            x0, y0, x1, y1 = (int(v) for v in box.clip(0, [width, height] * 2))
            pixels[y0:y1, x0:x1] = rng.integers(0, 256, 3)
            things.append((number, [float(x0), float(y0), float(x1 - x0), float(y1 - y0)], int(number == 4)))
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        about = {"key": f"key{number}", "file_name": f"{number}.png", "width": width, "height": height}
        images.append({"id": number + 1, **about})
    things.append((5, [0.0, 0.0, 60.0, 60.0], 1))
    annotations = [
        {"id": i, "image_id": number + 1, "category_id": 0, "bbox": box, "area": 1.0, "iscrowd": crowd, "difficult": 0}
        for i, (number, box, crowd) in enumerate(things)
    ]
    return {"images": images, "annotations": annotations, "categories": []}, tmp_path


def expected(annotations, root, source, limit, least, chosen):
    """Share of covered objects, and objects, box by box."""
    covered = total = 0
    for image in annotations["images"]:
        if image["key"] not in chosen:
            continue
        pixels = np.asarray(Image.open(root / image["file_name"]))
        boxes = plugins.call("proposals", {"name": "opencv"}, pixels, seed=derive_seed(3, "proposals", image["key"]))
        if source == "random":
            seed, count = derive_seed(3, "recall", image["key"]), len(boxes)
            boxes = plugins.call("proposals", {"name": "random"}, pixels, seed=seed, count=count)
        for thing in annotations["annotations"]:
            if thing["image_id"] == image["id"] and not thing["iscrowd"]:
                x, y, w, h = thing["bbox"]
                total += 1
                covered += rank_of(boxes.tolist(), (x, y, x + w, y + h), least) <= (limit if limit != "all" else 1e9)
    return covered / total, total


@pytest.mark.parametrize(
    ("images", "chosen"), [(9, {"key0", "key1", "key3", "key5"}), (2, {"key0", "key3"}), (1, {"key0"})]
)
def test_recall_against_a_loop(monkeypatch, data, images, chosen):
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    rows = recall.measure(*data, {"name": "opencv"}, images=images, seed=3)
    places = [(row["source"], row["iou"], row["boxes"]) for row in rows]
    limits = (1, 3, 10, 30, 100, 300, 1000, "all")
    assert places == [(s, least, n) for s in ("opencv", "random") for least in (0.5, 0.7) for n in limits]
    for row in rows:
        share, objects = expected(*data, row["source"], row["boxes"], row["iou"], chosen)
        assert row["recall"] == f"{share:.4f}" and row["objects"] == objects and row["images"] == len(chosen)
    assert len({row["boxes_per_image"] for row in rows}) == 1  # as many at random as were proposed
    assert images < 9 or len({row["recall"] for row in rows}) > 3


def test_the_number_of_processes_changes_nothing(monkeypatch, data):
    found = []
    for workers in ("0", "2"):
        monkeypatch.setenv("PROSECO_WORKERS", workers)
        found.append(recall.measure(*data, {"name": "opencv"}, images=9, seed=3))
    assert found[0] == found[1]


def test_the_baseline_draws_anew_for_each_image(monkeypatch, data):
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    call, seeds = plugins.call, []

    def spy(kind, entry, image, *, seed, **options):
        if entry["name"] == "random":
            seeds.append(seed)
        return call(kind, entry, image, seed=seed, **options)

    monkeypatch.setattr(plugins, "call", spy)
    recall.measure(*data, {"name": "opencv"}, images=9, seed=3)
    assert seeds == [derive_seed(3, "recall", f"key{number}") for number in (0, 1, 3, 5)]


def test_a_task_carries_its_image_alone(data):
    """With all of them, time would grow with the square of their number."""
    annotations, _ = data
    parts = list(recall._single(annotations))
    assert [part["images"] for part in parts] == [[image] for image in annotations["images"]]
    assert (
        sorted((r for part in parts for r in part["annotations"]), key=lambda r: r["id"]) == annotations["annotations"]
    )
    assert all(r["image_id"] == part["images"][0]["id"] for part in parts for r in part["annotations"])


def test_random_boxes_need_no_baseline(monkeypatch, data):
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    rows = recall.measure(*data, {"name": "random", "count": 5}, images=9, seed=3)
    assert {(row["source"], row["boxes_per_image"]) for row in rows} == {("random", 5.0)}


def test_only_boxes_that_would_be_stored_count(monkeypatch, data):
    monkeypatch.setenv("PROSECO_WORKERS", "1")

    def keep(boxes_xyxy, width, height):
        assert (boxes_xyxy[:, [0, 2]] <= width).all() and (boxes_xyxy[:, [1, 3]] <= height).all()
        return boxes_xyxy[:2]

    every = recall.measure(*data, {"name": "random", "count": 5}, images=9, seed=3)
    first = recall.measure(*data, {"name": "random", "count": 5}, images=9, seed=3, keep=keep)
    assert {row["boxes_per_image"] for row in first} == {2.0}
    for of_all, of_two in zip(every, first, strict=True):
        assert float(of_two["recall"]) <= float(of_all["recall"])
        if of_all["boxes"] == 1:
            assert of_two["recall"] == of_all["recall"]


def test_images_without_objects_cannot_be_measured(data):
    annotations, root = data
    with pytest.raises(InputError, match="no test image of few shows an object"):
        recall.measure({**annotations, "annotations": []}, root, {"name": "opencv"}, images=9, seed=3, title="few")


class Shards(list):
    """In the place of a reader of shards."""

    def __init__(self, folder):
        boxes = corners(np.random.default_rng(0), 40)
        super().__init__(Sample(f"{i}", np.full((90, 100 + i, 3), 9 * i, np.uint8), boxes) for i in range(7))


def test_benchmarks_with_equal_images_are_measured_once(monkeypatch, data, tmp_path):
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    monkeypatch.setattr(recall, "ShardReader", Shards)
    measured, measure = [], recall.measure
    monkeypatch.setattr(
        recall, "measure", lambda *a, title, **k: measured.append(title) or measure(*a, title=title, **k)
    )
    annotations, root = data
    benchmarks = {"one": data, "two": ({**annotations, "images": annotations["images"][:4]}, root), "three": data}
    out = tmp_path / "out"
    options = {"proposals": {"name": "opencv"}, "benchmarks": benchmarks, "shards": tmp_path, "images": 9, "seed": 3}
    text = recall.run(out=out, **options)
    assert measured == ["one", "two"]
    assert len(text.splitlines()) == 3 * 2 * 2 and text.startswith("one: opencv covers ")
    with open(out / "recall.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    by_name = {name: [{**row, "benchmark": ""} for row in rows if row["benchmark"] == name] for name in benchmarks}
    assert by_name["one"] == by_name["three"] != by_name["two"]
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(first) == {"recall.csv", "proposals.png"}
    recall.run(out=out, **options)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
