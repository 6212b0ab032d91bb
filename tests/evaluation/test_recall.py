"""Recall of proposals against plain loops, on images of coloured boxes."""

import csv
import math
from functools import partial

import numpy as np
import pytest
from PIL import Image

from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.data import proposing
from proseco.data.sample import Sample
from proseco.evaluation import recall
from proseco.proposals import random


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


def source(name="opencv", keep=lambda boxes, width, height: boxes, **options):
    """A source of boxes as stage recall makes it."""
    return {
        name: partial(proposing.find, propose=plugins.bind("proposals", {"name": name, **options}), keep=keep, seed=3)
    }


def expected(annotations, root, source, limit, least, chosen):
    """Share of covered objects, and objects, box by box."""
    covered = total = 0
    for image in annotations["images"]:
        if image["key"] not in chosen:
            continue
        pixels = np.asarray(Image.open(root / image["file_name"]))
        boxes = plugins.call("proposals", {"name": "opencv"}, pixels, seed=derive_seed(3, "proposals", image["key"]))
        if source == recall.BASELINE:
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
    rows = recall.measure(*data, source(), images=images, seed=3)
    places = [(row["source"], row["iou"], row["boxes"]) for row in rows]
    limits = (1, 3, 10, 30, 100, 300, 1000, "all")
    assert places == [(s, least, n) for s in ("opencv", recall.BASELINE) for least in (0.5, 0.7) for n in limits]
    for row in rows:
        share, objects = expected(*data, row["source"], row["boxes"], row["iou"], chosen)
        assert row["recall"] == f"{share:.4f}" and row["objects"] == objects and row["images"] == len(chosen)
    assert len({row["boxes_per_image"] for row in rows}) == 1  # as many at random as were proposed
    assert images < 9 or len({row["recall"] for row in rows}) > 3


def test_the_number_of_processes_changes_nothing(monkeypatch, data):
    found = []
    for workers in ("0", "2"):
        monkeypatch.setenv("PROSECO_WORKERS", workers)
        found.append(recall.measure(*data, source(), images=9, seed=3))
    assert found[0] == found[1]


def test_the_baseline_draws_anew_for_each_image(monkeypatch, data):
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    propose, seeds = random.propose, []
    monkeypatch.setattr(random, "propose", lambda *a, seed, **k: seeds.append(seed) or propose(*a, seed=seed, **k))
    recall.measure(*data, source(), images=9, seed=3)
    assert list(dict.fromkeys(seeds)) == [derive_seed(3, "recall", f"key{number}") for number in (0, 1, 3, 5)]


def test_a_task_carries_its_image_alone(data):
    """With all of them, time would grow with the square of their number."""
    annotations, _ = data
    parts = list(recall._single(annotations))
    assert [part["images"] for part in parts] == [[image] for image in annotations["images"]]
    assert (
        sorted((r for part in parts for r in part["annotations"]), key=lambda r: r["id"]) == annotations["annotations"]
    )
    assert all(r["image_id"] == part["images"][0]["id"] for part in parts for r in part["annotations"])


def store(root, folder, names, boxes=((3, 4, 30, 40), (0, 0, 9, 9), (10, 10, 50, 50))):
    """Boxes of some of the images, in files."""
    for name in names:
        folder.mkdir(exist_ok=True)
        np.save(folder / f"{name}.npy", np.float32(boxes))
    return {"stored": source("stored", root=str(folder))["stored"]}


def test_several_sources_and_one_baseline(monkeypatch, data, tmp_path):
    """Each is measured as it would be alone; as many at random as the first one's."""
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    stored = store(data[1], tmp_path / "boxes", range(6))
    alone = recall.measure(*data, source(), images=9, seed=3)
    several = recall.measure(*data, source() | stored, images=9, seed=3)
    assert [row for row in several if row["source"] != "stored"] == alone
    assert {row["boxes_per_image"] for row in several if row["source"] == "stored"} == {3.0}
    assert len(several) == len(alone) * 3 // 2


def test_a_source_that_lacks_an_image_is_left_out(monkeypatch, data, tmp_path):
    """Recall of the other images would be of others than the rest of the table."""
    monkeypatch.setenv("PROSECO_WORKERS", "1")
    stored = store(data[1], tmp_path / "boxes", range(5))

    def found(sources, images=9):
        rows = recall.measure(*data, sources, images=images, seed=3)
        return {(row["source"], row["boxes_per_image"]) for row in rows}

    assert found(stored | source("random", count=7)) == {("random", 7.0), (recall.BASELINE, 7.0)}
    assert found(source("random", count=7) | stored) == {("random", 7.0), (recall.BASELINE, 7.0)}
    assert found(stored) == {(recall.ALONE, 100.0)}
    assert found(stored, images=1) == {("stored", 3.0), (recall.BASELINE, 3.0)}
    (tmp_path / "boxes/0.npy").unlink()
    assert found(stored, images=1) == {(recall.ALONE, 100.0)}


def test_only_boxes_that_would_be_stored_count(monkeypatch, data):
    monkeypatch.setenv("PROSECO_WORKERS", "1")

    def keep(boxes_xyxy, width, height):
        assert (boxes_xyxy[:, [0, 2]] <= width).all() and (boxes_xyxy[:, [1, 3]] <= height).all()
        return boxes_xyxy[:2]

    every = recall.measure(*data, source("random", count=5), images=9, seed=3)
    first = recall.measure(*data, source("random", keep, count=5), images=9, seed=3)
    assert {row["boxes_per_image"] for row in first} == {2.0}
    every, first = ([row for row in rows if row["source"] == "random"] for rows in (every, first))
    for of_all, of_two in zip(every, first, strict=True):
        assert float(of_two["recall"]) <= float(of_all["recall"])
        if of_all["boxes"] == 1:
            assert of_two["recall"] == of_all["recall"]


def test_images_without_objects_cannot_be_measured(data):
    annotations, root = data
    with pytest.raises(InputError, match="no test image of few shows an object"):
        recall.measure({**annotations, "annotations": []}, root, source(), images=9, seed=3, title="few")


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
    stored = store(root, tmp_path / "boxes", range(5))
    options = {"sources": source() | stored, "benchmarks": benchmarks, "images": 9, "seed": 3}
    options["shards"] = {"main": tmp_path, "other": tmp_path}
    text = recall.run(out=out, **options)
    assert measured == ["one", "two"]
    lines = text.splitlines()
    assert lines[0].startswith("one: opencv covers ") and sum("covers" in line for line in lines) == 3 * 2 * 2 + 2
    assert lines[-2:] == [
        f"{name}: stored lacks boxes of test images, so its recall is not known" for name in ("one", "three")
    ]
    with open(out / "recall.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    by_name = {name: [{**row, "benchmark": ""} for row in rows if row["benchmark"] == name] for name in benchmarks}
    assert by_name["one"] == by_name["three"] != by_name["two"]
    first = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.*")}
    assert set(first) == {"recall.csv", "proposals/main.png", "proposals/other.png"}
    recall.run(out=out, **options)
    assert {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.*")} == first
