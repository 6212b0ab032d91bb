import json

import pytest

from proseco.base.errors import InputError
from proseco.benchmarks import fsod


def test_format_and_subsets(tmp_path):
    (tmp_path / "annotations").mkdir()
    content = {
        "images": [{"id": 12, "file_name": "part_2/n01.jpg", "width": 50, "height": 20}],
        "annotations": [{"id": 1, "image_id": 12, "category_id": 801, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
        "categories": [{"id": 801, "name": "beer"}],
    }
    (tmp_path / "annotations/fsod_test.json").write_text(json.dumps(content))
    found = fsod.load(tmp_path, "fsod_test")
    assert found["images"][0]["file_name"] == "images/part_2/n01.jpg"
    assert found["images"][0]["key"] == "12"
    assert found["annotations"][0]["category_id"] == 0
    assert found["categories"] == [{"id": 0, "name": "beer", "original_id": 801}]
    with pytest.raises(InputError, match=r"no subset named 'fsod_train'; there is fsod_test .*fsod, "):
        fsod.load(tmp_path, "fsod_train")


@pytest.mark.parametrize(
    ("folder", "given"),
    [
        ("images", "part_1/n03476684/n03476684_8799.jpg"),
        ("images", "images/part_1/n03476684/n03476684_8799.jpg"),
        ("images", "./fsod/all_images/part_1/n03476684/n03476684_8799.jpg"),
        ("all_images", "/somewhere/part_9x/fsod/all_images/part_1/n03476684/n03476684_8799.jpg"),
    ],
)
def test_what_copies_of_the_release_differ_in(tmp_path, folder, given):
    """Where file names begin, ids as text, and one area for all: as its public converter writes them."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / folder).mkdir()
    record = {"id": "7", "image_id": 2019000000903, "category_id": 1, "bbox": [387.0, 595.0, 26.0, 39.0]}
    content = {
        "images": [{"id": 2019000000903, "file_name": given, "width": 533, "height": 800}],
        "annotations": [record | {"area": 99999, "iscrowd": 0, "ignore": 0, "segmentation": 0}],
        "categories": [{"id": 1, "name": "beer", "supercategory": "none"}],
    }
    (tmp_path / "annotations/fsod_test.json").write_text(json.dumps(content))
    found = fsod.load(tmp_path, "fsod_test")
    assert found["images"][0]["file_name"] == f"{folder}/part_1/n03476684/n03476684_8799.jpg"
    assert found["annotations"][0]["id"] == 7 and found["annotations"][0]["area"] == 26 * 39
