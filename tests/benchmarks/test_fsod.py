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
