import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO

from proseco.base.errors import InputError
from proseco.benchmarks import coco
from proseco.data.annotations import check, check_images, without_masks

DATA = Path(__file__).resolve().parents[2] / "../shared/data/coco"


def content():
    """Two images and categories with gaps, listed out of order; one crowd; the least a record may hold."""
    return {
        "images": [
            {"id": 40, "file_name": "000040.jpg", "width": 64, "height": 48, "license": 1},
            {"id": 9, "file_name": "000009.jpg", "width": 30, "height": 50},
        ],
        "annotations": [
            {"id": 8, "image_id": 40, "category_id": 90, "bbox": [1, 2, 30, 4], "area": 77.5, "iscrowd": 1}
            | {"segmentation": {"counts": [1000, 72, 2000], "size": [48, 64]}},
            {"id": 2, "image_id": 40, "category_id": 3, "bbox": [5.5, 6, 7, 8]},
        ],
        "categories": [{"id": 90, "name": "toothbrush", "supercategory": "indoor"}, {"id": 3, "name": "car"}],
    }


def write(root, text, subset="train2017"):
    path = root / f"annotations/instances_{subset}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return root


def test_format(tmp_path):
    assert coco.load(write(tmp_path, content()), "train2017") == {
        "images": [
            {"id": 9, "key": "9", "file_name": "train2017/000009.jpg", "width": 30, "height": 50},
            {"id": 40, "key": "40", "file_name": "train2017/000040.jpg", "width": 64, "height": 48},
        ],
        "annotations": [
            {"id": 2, "image_id": 40, "category_id": 0, "bbox": [5.5, 6.0, 7.0, 8.0], "area": 56.0}
            | {"iscrowd": 0, "difficult": 0},
            {"id": 8, "image_id": 40, "category_id": 1, "bbox": [1.0, 2.0, 30.0, 4.0], "area": 77.5}
            | {"iscrowd": 1, "difficult": 0},
        ],
        "categories": [
            {"id": 0, "name": "car", "original_id": 3},
            {"id": 1, "name": "toothbrush", "original_id": 90},
        ],
    }


@pytest.mark.parametrize(
    ("part", "row", "changes", "words"),
    [
        ("annotations", 1, {"category_id": 4}, r"annotations\[1\] \(id 2\) .*category 4"),
        ("annotations", 1, {"bbox": [1, 2, 3]}, r"annotations\[1\] \(id 2\) is malformed"),
        ("annotations", 1, {"bbox": None}, r"annotations\[1\] \(id 2\) is malformed"),
        ("images", 0, {"id": float("inf")}, r"images\[0\] .*is malformed"),
        ("images", 0, {"id": "a.jpg"}, r"images\[0\] .*its id is 'a.jpg'; expected a whole number"),
        ("images", 0, {"id": True}, r"images\[0\] .*its id is True; expected a whole number"),
        ("images", 0, {"file_name": None}, r"images\[0\] .*its file_name is None; expected the name of a file"),
        ("images", 0, {"file_name": ""}, r"images\[0\] .*its file_name is ''; expected the name of a file"),
        ("categories", 0, {"id": 1.9}, r"categories\[0\] .*its id is 1.9; expected a whole number"),
        ("annotations", 1, {"id": 8.2}, r"annotations\[1\] .*its id is 8.2; expected a whole number"),
        ("annotations", 1, {"image_id": 9.9}, r"annotations\[1\] .*its image_id is 9.9; expected a whole number"),
        ("annotations", 1, {"category_id": "3.0"}, r"annotations\[1\] .*its category_id is '3.0'; expected a whole"),
        ("categories", 0, {"id": 3}, "two categories have one id"),
        ("images", 1, {"id": 40}, "two image records have the id 40; expected one each"),
        ("annotations", 0, {"id": 2}, "two annotation records have the id 2; expected one each"),
        ("annotations", 1, {"image_id": 41}, "annotation 2 is of image 41; expected one of the 2 ids in 'images'"),
        ("annotations", 0, {"bbox": [1, 2, -3, 4]}, r"annotation 8 has bbox \[1.0, 2.0, -3.0, 4.0\]"),
        ("images", 0, {"width": 0}, "image '40' has size 0 x 48; expected whole numbers above 0"),
    ],
)
def test_malformed_records_are_named(tmp_path, part, row, changes, words):
    broken = content()
    broken[part][row].update(changes)
    with pytest.raises(InputError, match=words) as caught:
        coco.load(write(tmp_path, broken), "train2017")
    assert "instances_train2017.json" in str(caught.value)


@pytest.mark.parametrize("kind", [str, float])
def test_whole_numbers_in_other_forms_are_read_as_they_are_meant(tmp_path, kind):
    other = content()
    for part, keys in (("images", ["id"]), ("categories", ["id"]), ("annotations", ["id", "image_id", "category_id"])):
        for record in other[part]:
            record |= {key: kind(record[key]) for key in keys}
    found = coco.load(write(tmp_path / "other", other), "train2017")
    assert repr(found) == repr(coco.load(write(tmp_path, content()), "train2017"))


@pytest.mark.parametrize(("part", "key"), [("annotations", "bbox"), ("images", "width"), ("categories", "name")])
def test_missing_keys_are_named(tmp_path, part, key):
    broken = content()
    del broken[part][1][key]
    with pytest.raises(InputError, match=rf"instances_train2017.*{part}\[1\].* lacks '{key}'"):
        coco.load(write(tmp_path, broken), "train2017")


def test_files_that_are_not_coco(tmp_path):
    text = json.dumps(content())
    with pytest.raises(InputError, match=r"instances_train2017\.json.* is not readable JSON"):
        coco.load(write(tmp_path, text[: len(text) // 2]), "train2017")
    for wrong in ("[]", "{}", '{"images": {}}'):
        with pytest.raises(InputError, match=r"instances_train2017\.json.* no list 'images'"):
            coco.load(write(tmp_path, wrong), "train2017")


def test_missing_files_and_subsets(tmp_path):
    with pytest.raises(InputError, match=r"no file '.*annotations/instances_train2017\.json'"):
        coco.load(tmp_path, "train2017")
    write(tmp_path, content())
    write(tmp_path, content(), "val2017")
    with pytest.raises(InputError, match="no subset named 'train2014'; there is train2017, val2017"):
        coco.load(tmp_path, "train2014")


@pytest.mark.parametrize(("subset", "objects", "crowds"), [("train2017", 898, 7), ("val2017", 915, 10)])
def test_real_sample_reads_as_pycocotools_does(subset, objects, crowds):
    if not DATA.is_dir():
        pytest.skip(f"no real samples at {DATA}")
    found = coco.load(DATA, subset)
    counts = len(found["images"]), len(found["annotations"]), len(found["categories"])
    assert counts == (100, objects, 80)
    assert sum(record["iscrowd"] for record in found["annotations"]) == crowds
    assert len({record["image_id"] for record in found["annotations"]}) == 98  # two images are empty and stay
    assert check(found, source=subset) == (found, [])
    check_images(found, DATA, source=subset)
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(DATA / f"annotations/instances_{subset}.json")
    assert [image["id"] for image in found["images"]] == sorted(official.getImgIds())
    assert [(c["original_id"], c["name"]) for c in found["categories"]] == [
        (number, official.cats[number]["name"]) for number in sorted(official.getCatIds())
    ]
    for image in found["images"]:
        theirs = official.imgs[image["id"]]
        assert (image["width"], image["height"]) == (theirs["width"], theirs["height"])
        assert image["file_name"] == f"{subset}/{theirs['file_name']}"
    original = {category["id"]: category["original_id"] for category in found["categories"]}
    assert {record["id"] for record in found["annotations"]} == set(official.anns)
    for record in found["annotations"]:
        theirs = official.anns[record["id"]]
        assert original[record["category_id"]] == theirs["category_id"]
        for key in ("image_id", "bbox", "area", "iscrowd"):
            assert record[key] == theirs[key]


def test_masks_are_kept_on_request(tmp_path):
    whole = content()
    whole["annotations"][1]["segmentation"] = [[5, 6, 12, 6, 12, 14]]
    root = write(tmp_path, whole)
    kept = coco.load(root, "train2017", masks=True)["annotations"]
    assert [record["segmentation"] for record in kept] == [
        [[5, 6, 12, 6, 12, 14]],
        {"counts": [1000, 72, 2000], "size": [48, 64]},
    ]
    assert without_masks({"annotations": kept})["annotations"] == coco.load(root, "train2017")["annotations"]


@pytest.mark.parametrize("wrong", [[[1, 2, 3]], [["a", 2]], {"size": [4, 5]}, {"counts": 3, "size": [4, 5]}, 7])
def test_a_malformed_mask_is_named(tmp_path, wrong):
    whole = content()
    whole["annotations"][1]["segmentation"] = wrong
    root = write(tmp_path, whole)
    with pytest.raises(InputError, match=r"instances_train2017\.json': annotations\[1\] \(id 2\) "):
        coco.load(root, "train2017", masks=True)
    coco.load(root, "train2017")


RUNS = [
    ({"size": [48, 64], "counts": [0, -3, 3075]}, "whole numbers from 0 with the sum 48 x 64"),
    ({"size": [48, 64], "counts": [3000, 71]}, "with the sum 48 x 64"),
    ({"size": [48, 64], "counts": [3071.5, 0.5]}, "with the sum 48 x 64"),
    ({"size": [48, 64], "counts": {}}, "with the sum 48 x 64"),
    ({"size": [48, 64], "counts": ""}, "with the sum 48 x 64"),
    ({"size": [48, 64], "counts": "garbage"}, "counts with the character 'r'"),
    ({"size": [48, 64], "counts": "5o"}, "counts that end within a number"),
    ({"size": [64, 48], "counts": [3072]}, r"the size \[64, 48\]; expected \[48, 64\], the image's height, width"),
]


@pytest.mark.parametrize(("wrong", "words"), RUNS)
def test_run_lengths_that_are_not_the_images_are_named(tmp_path, wrong, words):
    """They used to end a finetuning in a traceback, or to be masks of what happened to lie in memory."""
    whole = content()
    whole["annotations"][1]["segmentation"] = wrong
    root = write(tmp_path, whole)
    with pytest.raises(InputError, match=rf"instances_train2017\.json': annotations\[1\] \(id 2\) .*{words}"):
        coco.load(root, "train2017", masks=True)


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_as_pycocotools_writes_them_are_kept(tmp_path, seed):
    rng = np.random.default_rng(seed)
    drawn = np.asfortranarray(rng.random((48, 64)) < rng.random(), dtype=np.uint8)
    drawn[:, : rng.integers(64)] = seed % 2
    text = mask.encode(drawn)["counts"].decode()
    whole = content()
    whole["annotations"][1]["segmentation"] = {"size": [48, 64], "counts": text}
    kept = coco.load(write(tmp_path, whole), "train2017", masks=True)["annotations"]
    assert kept[0]["segmentation"] == {"size": [48, 64], "counts": text}
