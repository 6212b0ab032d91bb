"""Counts of images before and after the stages that make them, against what these stages write."""

from pathlib import Path

import pytest

from proseco import splits
from proseco.base import files
from proseco.data import id_files
from proseco.experiment.counts import Counts
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return params_file.parameters()


def counts(settings, scale, **changes):
    return Counts(scale, settings["scales"][scale] | changes, settings["benchmarks"])


def labels(count, folder="x"):
    size = {"width": 1, "height": 1}
    images = [{"id": i, "key": f"{i:03d}", "file_name": f"{folder}/{i:03d}.jpg", **size} for i in range(count)]
    return {"images": images, "annotations": [], "categories": []}


def test_public_data_sets_before_anything_has_run(settings):
    paper = counts(settings, "paper")
    assert paper.unlabelled("main").images == 1_281_167 and paper.unlabelled("coco").images == 118_287
    for benchmark, expected in {
        "mini_coco_0p5": (591, 5000, 5000),
        "mini_coco_10": (11_829, 5000, 5000),
        "coco_1x": (118_287, 5000, 5000),
        "mini_voc_5": (828, 4952, 4952),
        "voc_0712": (16_551, 4952, 4952),
        "fsod_test": (11_322, 2830, 2830),
        "fsod_train": (41_880, 10_470, 10_470),
    }.items():
        assert tuple(paper.part(benchmark, 42, part).images for part in ("train", "val", "test")) == expected
    assert paper.part("mini_coco_10", 42, "train").source == "known size of coco train2017, fraction 0.1"
    assert paper.part("fsod_test", 42, "val").source == "the rest of known size of fsod fsod_test, fraction 0.8"


@pytest.mark.parametrize("validation", [7, 60, "test"])
@pytest.mark.parametrize("benchmark", ["mini_coco_5", "coco_1x", "mini_voc_10", "fsod_test"])
def test_drawn_data_is_shared_out_as_the_split_does_it(settings, benchmark, validation):
    demo = counts(settings, "demo", split={"validation": validation})
    entry, generate = settings["benchmarks"][benchmark], settings["scales"]["demo"]["generate"]
    name = entry["name"]
    sizes = {"coco": ("coco_train", "coco_val"), "voc": ("voc_trainval", "voc_test"), "fsod": ("fsod_test", None)}
    whole, test = (labels(generate[key], key) if key else None for key in sizes[name])
    rule = {key: entry[key] for key in ("rule", "fraction") if key in entry}
    drawn = splits.draw(whole, test, **rule, seed=3, validation=validation)
    found = {part: demo.part(benchmark, 3, part).images for part in ("train", "val", "test")}
    assert found == {part: len(keys) for part, keys in drawn.keys.items()}


def test_what_stages_have_written_comes_first(settings):
    demo = counts(settings, "demo")
    assert demo.unlabelled("main").images == settings["scales"]["demo"]["generate"]["scenes"]
    files.write_text("work/demo/inventory/unlabelled/main.tsv", "a.jpg\t3\t\nb.jpg\t4\t\n")
    assert demo.unlabelled("main").images == 2
    files.write_json("work/demo/shards/main/summary.json", {"samples": 1})
    assert demo.unlabelled("main").images == 1
    assert demo.backbone("swav").images == settings["scales"]["demo"]["generate"]["objects"]
    files.write_json("work/demo/inventory/backbones.json", {"swav": {"images": 9}})  # as stages/inventory.py
    assert demo.backbone("swav").images == 9
    files.write_json("work/demo/annotations/mini_coco_5/42/train.json", labels(5))
    assert demo.part("mini_coco_5", 42, "train").images == 5
    entry = settings["benchmarks"]["mini_coco_5"]
    facts = {"subset": entry["train"], "rule": entry["rule"]}
    path = "splits/demo/mini_coco_5/42/train.txt"
    id_files.write(path, ["1", "2", "3"], **facts, fraction=entry["fraction"])
    assert demo.part("mini_coco_5", 42, "train").images == 3
    id_files.write(path, ["1", "2", "3"], **facts, fraction=0.5)  # of another fraction than params.yaml now has
    assert demo.part("mini_coco_5", 42, "train").images == 5


def test_data_of_ones_own_is_not_guessed(settings):
    settings["benchmarks"]["mine"] = {"name": "coco_json", "root": "../x", "train": "t", "test": None, "rule": "all"}
    settings["benchmarks"]["listed"] = settings["benchmarks"]["coco_1x"] | {"rule": "file", "ids": "x.txt"}
    paper = counts(settings, "paper")
    for name in ("mine", "listed"):
        count = paper.part(name, 42, "train")
        assert count.images is None and count.source == f"dvc repro split@paper-{name} says"
