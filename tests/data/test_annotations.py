import copy

import numpy as np
import pytest

from proseco.base.errors import InputError
from proseco.data.annotations import check, check_classes, check_images, check_objects, merge, subset


def labels():
    """Three images of unequal sides (the second without objects), three objects of two classes."""
    return {
        "images": [
            {"id": 2, "key": "a2", "file_name": "x/a2.jpg", "width": 100, "height": 60},
            {"id": 5, "key": "a5", "file_name": "x/a5.jpg", "width": 30, "height": 40},
            {"id": 7, "key": "a7", "file_name": "y/a7.jpg", "width": 80, "height": 90},
        ],
        "annotations": [
            record(3, 2, 0, [10.0, 20.0, 30.0, 25.0]),
            record(4, 7, 1, [0.0, 0.0, 80.0, 90.0]),
            record(9, 7, 0, [70.5, 85.0, 9.5, 5.0]),
        ],
        "categories": [{"id": 0, "name": "cat", "original_id": 3}, {"id": 1, "name": "dog", "original_id": 8}],
    }


def record(number, image, category, box):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "difficult": 0,
    }


def test_sound_labels_pass_unchanged():
    assert check(labels(), source="x.json") == (labels(), [])
    bare = {**labels(), "annotations": []}
    assert check(bare, source="x.json") == (bare, [])


@pytest.mark.parametrize(
    ("part", "row", "changes", "words"),
    [
        ("images", 1, {"id": 2}, "two image records have the id 2"),
        ("images", 1, {"key": "a7"}, "two image records have the key 'a7'"),
        ("images", 1, {"file_name": "y/a7.jpg"}, "two image records have the file_name 'y/a7.jpg'"),
        ("annotations", 2, {"id": 3}, "two annotation records have the id 3"),
        ("categories", 1, {"id": 0}, "two category records have the id 0"),
        ("annotations", 1, {"category_id": 2}, "annotation 4 has category 2"),
        ("annotations", 1, {"image_id": 6}, "annotation 4 is of image 6"),
        ("images", 0, {"id": 2**53}, "image 'a2' has the id 9007199254740992"),
        ("images", 0, {"id": -(2**53)}, "image 'a2' has the id -9007199254740992"),
        ("images", 0, {"id": 2.5}, "image 'a2' has the id 2.5"),
        ("images", 0, {"width": 0}, "image 'a2' has size 0 x 60"),
        ("images", 0, {"height": float("nan")}, "image 'a2' has size 100 x nan"),
        ("annotations", 1, {"bbox": [0.0, 0.0, -1.0, 5.0]}, "annotation 4 has bbox"),
        ("annotations", 1, {"bbox": [0.0, float("nan"), 1.0, 5.0]}, "annotation 4 has bbox"),
        ("annotations", 1, {"bbox": [0.0, 0.0, float("inf"), 5.0]}, "annotation 4 has bbox"),
        ("annotations", 1, {"area": -0.5}, "annotation 4 has bbox"),
        ("annotations", 1, {"iscrowd": 2}, "annotation 4 has iscrowd 2"),
        ("annotations", 1, {"difficult": -1}, "annotation 4 has difficult -1"),
        ("images", 0, {"width": 2**31}, "image 'a2' has size 2147483648 x 60"),
    ],
)
def test_contradictions_name_file_record_and_expectation(part, row, changes, words):
    broken = labels()
    broken[part][row].update(changes)
    with pytest.raises(InputError, match=words) as caught:
        check(broken, source="x.json")
    assert str(caught.value).startswith("x.json: ")
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_boxes_are_clipped_and_dropped_and_counted():
    given = labels()
    given["annotations"] += [
        record(10, 2, 0, [-4.0, 50.0, 24.0, 30.0]),
        {**record(11, 5, 1, [20.0, -10.0, 15.0, 70.0]), "area": 33.0},
        record(12, 5, 1, [30.0, 0.0, 5.0, 5.0]),  # touches the image from outside
        record(13, 5, 1, [3.0, 4.0, 0.0, 5.0]),
        record(14, 2, 1, [300.0, 4.0, 10.0, 5.0]),
        record(15, 2, 1, [-1e-9, 0.2, 99.9, 59.8 + 1e-9]),  # rounding, not a mistake
    ]
    before = copy.deepcopy(given)
    cleaned, notes = check(given, source="x.json")
    assert given == before
    assert [a["id"] for a in cleaned["annotations"]] == [3, 4, 9, 10, 11, 15]
    boxes = {a["id"]: (a["bbox"], a["area"]) for a in cleaned["annotations"]}
    assert boxes[10] == ([0.0, 50.0, 20.0, 10.0], 200.0)
    assert boxes[11] == ([20.0, 0.0, 10.0, 40.0], 33.0)  # a mask's area, smaller than its box, stays
    assert boxes[15][0] == before["annotations"][-1]["bbox"]
    assert notes == [
        "x.json: clipped 2 boxes to the image, first annotation 10 of image 'a2'",
        "x.json: dropped 3 boxes without area, first annotation 12 of image 'a5'",
    ]
    assert check(cleaned, source="x.json") == (cleaned, [])


def test_clipped_boxes_lie_inside():
    rng = np.random.default_rng(0)
    given = labels()
    given["annotations"] = [
        record(n, int(rng.choice([2, 5, 7])), 0, [*rng.uniform(-60, 110, 2).tolist(), *rng.uniform(0, 90, 2).tolist()])
        for n in range(300)
    ]
    cleaned, _ = check(given, source="x.json")
    sides = {image["id"]: (image["width"], image["height"]) for image in given["images"]}
    assert 50 < len(cleaned["annotations"]) < 300
    for a in cleaned["annotations"]:
        x, y, w, h = a["bbox"]
        width, height = sides[a["image_id"]]
        assert x >= 0 and y >= 0 and w > 0 and h > 0
        assert x + w <= width + 1e-6 and y + h <= height + 1e-6


def test_subset_keeps_these_images_and_their_objects():
    part = subset(labels(), ["a7", "a5"])
    assert [i["id"] for i in part["images"]] == [5, 7]
    assert [a["id"] for a in part["annotations"]] == [4, 9]
    assert part["categories"] == labels()["categories"]
    assert subset(labels(), [])["images"] == []


@pytest.mark.parametrize("digits", [2, 4, 6])
def test_boxes_in_shares_of_the_image_are_refused(digits):
    """As programs round them, which takes some a little beyond 1."""
    relative, rng = labels(), np.random.default_rng(digits)
    relative["annotations"] = []
    for number in range(300):
        low, high = np.sort(rng.uniform(size=(2, 2)), axis=0)
        sides = high - low if number % 3 else 1 - low
        box = [round(value, digits) + 10.0**-digits * (number % 3 == 0) for value in (*low, *sides)]
        relative["annotations"].append(record(number, 2, 0, box))
    with pytest.raises(
        InputError, match=r"^x\.json: no box reaches beyond the first pixel; expected pixels, not shares"
    ):
        check(relative, source="x.json")
    relative["annotations"].append(record(300, 2, 0, [0.25, 0.5, 3.0, 2.0]))
    check(relative, source="x.json")
    relative["annotations"] = [record(0, 2, 0, [0.0, 0.0, 0.0, 0.0])]  # what some programs write where nothing is
    assert check(relative, source="x.json")[0]["annotations"] == []


def test_subset_names_unknown_keys():
    with pytest.raises(InputError, match=r"^2 of 3 ids of the id list .* 3 images .*: b1, b2$"):
        subset(labels(), ["b2", "a5", "b1"])


def test_subsets_must_have_the_same_classes():
    check_classes(labels(), {**labels(), "annotations": []}, source="mine")
    for names, words in (
        (["cat"], "dog in only one of them"),
        (["cat", "cow"], "dog, cow in only one of them"),
        (["dog", "cat"], "the same in another order"),
    ):
        other = {"categories": [{"id": n, "name": name, "original_id": n} for n, name in enumerate(names)]}
        with pytest.raises(InputError, match=f"^mine: .* different classes, {words}; expected"):
            check_classes(labels(), other, source="mine")


def test_merge_numbers_anew_without_clash():
    other = labels()
    for image in other["images"]:
        image["key"] = "b" + image["key"]
        image["file_name"] = "b/" + image["file_name"]
    both = merge([labels(), other])
    assert [i["id"] for i in both["images"]] == [1, 2, 3, 4, 5, 6]
    assert [i["key"] for i in both["images"]] == ["a2", "a5", "a7", "ba2", "ba5", "ba7"]
    assert [(a["id"], a["image_id"]) for a in both["annotations"]] == [(1, 1), (2, 3), (3, 3), (4, 4), (5, 6), (6, 6)]
    assert both["annotations"][5]["bbox"] == labels()["annotations"][2]["bbox"]
    assert check(both, source="both")[1] == []


def test_merge_refuses_other_categories_and_one_image_twice():
    with pytest.raises(InputError, match="'a2' is in two"):
        merge([labels(), labels()])
    with pytest.raises(InputError, match="categories"):
        merge([labels(), {**labels(), "categories": labels()["categories"][:1]}])


def test_missing_images_are_counted_and_the_first_is_named(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("a2", "a5"):
        (tmp_path / f"x/{name}.jpg").touch()
    named = r"1 of 3 image files of val are missing, the first is '.*/y/a7\.jpg'"
    with pytest.raises(InputError, match=rf"{named}: no folder '.*/y'$"):
        check_images(labels(), tmp_path, source="val")
    (tmp_path / "y").mkdir()
    with pytest.raises(InputError, match=rf"{named}$"):
        check_images(labels(), tmp_path, source="val")
    (tmp_path / "y/a7.jpg").touch()
    check_images(labels(), tmp_path, source="val")


def test_labels_without_an_object_are_refused():
    crowds = labels()
    for record in crowds["annotations"]:
        record["iscrowd"] = 1
    with pytest.raises(InputError, match=r"^mine: none of 3 images shows an object, crowds left out$"):
        check_objects(crowds, source="mine")
    hard = labels()
    for record in hard["annotations"]:
        record["difficult"] = 1
    check_objects(hard, source="mine")
    with pytest.raises(InputError, match="crowds and difficult ones left out"):
        check_objects(hard, source="mine", scored=True)
    check_objects(labels(), source="mine", scored=True)
