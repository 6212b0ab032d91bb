import json

import pytest

from proseco.base.errors import InputError
from proseco.benchmarks import coco_json


def write(root, path, name="a b.jpg"):
    """A json of two images, the second without objects, and a class 0 that no object has, as Roboflow writes it."""
    content = {
        "images": [
            {"id": 0, "file_name": name, "width": 64, "height": 48, "license": 1},
            {"id": 1, "file_name": "c.jpg", "width": 30, "height": 50},
        ],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 2, "bbox": [1, 2, 30, 4], "area": 120, "iscrowd": 0}],
        "categories": [{"id": 0, "name": "things"}, {"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(json.dumps(content))


def touch(root, path):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()


@pytest.mark.parametrize(
    ("subset", "folder"),
    [
        ("train/_annotations.coco.json", "train"),
        ("annotations.json", "images"),
        ("annotations.json", "."),
        ("train.json", "images/train"),
        ("annotations/train.json", "images"),
        ("annotations/train.json", "images/train"),
        ("annotations/train.json", "train"),
        ("annotations/instances_train.json", "train"),
        ("annotations/instances_default.json", "images/default"),
        ("sub/set/labels.json", "sub/set/images"),
    ],
)
def test_images_are_found_near_the_json(tmp_path, subset, folder):
    write(tmp_path, subset)
    touch(tmp_path, f"{folder}/a b.jpg")
    touch(tmp_path, "elsewhere/a b.jpg")
    found = coco_json.load(tmp_path, subset)
    names = [image["file_name"] for image in found["images"]]
    assert names == (["a b.jpg", "c.jpg"] if folder == "." else [f"{folder}/a b.jpg", f"{folder}/c.jpg"])
    assert [image["key"] for image in found["images"]] == ["0", "1"]
    assert [category["original_id"] for category in found["categories"]] == [0, 1, 2]
    other = coco_json.load(tmp_path, subset, images="elsewhere")
    assert other["images"][0]["file_name"] == "elsewhere/a b.jpg"


def test_names_with_folders_of_their_own(tmp_path):
    write(tmp_path, "train.json", name="sub\\./a b.jpg")
    touch(tmp_path, "images/sub/a b.jpg")
    assert coco_json.load(tmp_path, "train.json")["images"][0]["file_name"] == "images/sub/a b.jpg"


def test_the_first_image_may_be_missing(tmp_path):
    write(tmp_path, "annotations/train.json")
    touch(tmp_path, "images/train/c.jpg")
    found = coco_json.load(tmp_path, "annotations/train.json")
    assert [image["file_name"] for image in found["images"]] == ["images/train/a b.jpg", "images/train/c.jpg"]


def test_what_is_not_there_is_named(tmp_path):
    write(tmp_path, "annotations/train.json")
    with pytest.raises(InputError, match=r"no file named 'val\.json'; there is annotations/train\.json \(coco_json"):
        coco_json.load(tmp_path, "val.json")
    with pytest.raises(InputError, match=r"^no json in '.*pictures' or its folders, of which 'train' should be one"):
        coco_json.load(tmp_path / "pictures", "train")
    with pytest.raises(InputError, match=r"train\.json': no image 'a b\.jpg' in annotations, .*, images/train of "):
        coco_json.load(tmp_path, "annotations/train.json")
