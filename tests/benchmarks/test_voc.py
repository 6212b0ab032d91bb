import time
from pathlib import Path

import pytest

from proseco.base.errors import InputError
from proseco.benchmarks import voc
from proseco.data.annotations import check, check_images

DATA = Path(__file__).resolve().parents[2] / "../shared/data/voc/VOCdevkit"


def thing(name="cat", box=(5, 7, 24, 30), extra="<difficult>0</difficult>"):
    corners = "".join(f"<{tag}>{n}</{tag}>" for tag, n in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def xml(*objects, size="<size><width>64</width><height>48</height><depth>3</depth></size>", before=""):
    return f"{before}<annotation><folder>VOC</folder>{size}{''.join(objects)}</annotation>"


def devkit(root, year, name, files):
    """Write a devkit's year: ``files`` is key -> XML text."""
    folder = root / f"VOC{year}"
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / f"ImageSets/Main/{name}.txt").write_text("".join(f"{key}\n" for key in files))
    for key, text in files.items():
        (folder / f"Annotations/{key}.xml").write_text(text)
    return root


def test_format(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    files = {"000021": xml(), "000005": xml(thing("cat", (1, 1, 64, 48), ""), thing("person", (2.5, 3, 10, 9.5), part))}
    devkit(tmp_path, 2007, "trainval", files)
    devkit(tmp_path, 2012, "trainval", {"2008_000002": xml(thing("dog", extra="<difficult>1</difficult>"))})
    found = voc.load(tmp_path, "2007_trainval+2012_trainval")
    assert found["images"] == [
        {"id": 1, "key": "000005", "file_name": "VOC2007/JPEGImages/000005.jpg", "width": 64, "height": 48},
        {"id": 2, "key": "000021", "file_name": "VOC2007/JPEGImages/000021.jpg", "width": 64, "height": 48},
        {"id": 3, "key": "2008_000002", "file_name": "VOC2012/JPEGImages/2008_000002.jpg", "width": 64, "height": 48},
    ]
    common = {"iscrowd": 0, "difficult": 0}
    assert found["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0.0, 0.0, 64.0, 48.0], "area": 3072.0, **common},
        {"id": 2, "image_id": 1, "category_id": 14, "bbox": [1.5, 2.0, 8.5, 7.5], "area": 63.75, **common},
        {"id": 3, "image_id": 3, "category_id": 11, "bbox": [4.0, 6.0, 20.0, 24.0], "area": 480.0, **common}
        | {"difficult": 1},
    ]
    assert len(found["categories"]) == 20
    assert found["categories"][14] == {"id": 14, "name": "person", "original_id": 15}
    assert check(found, source="voc") == (found, [])


def test_boxes_without_area_or_outside_are_reported(tmp_path):
    odd = [thing(box=box) for box in ((30, 7, 24, 30), (5, 7, 5, 7), (0, 7, 24, 30), (60, 40, 90, 90), (80, 3, 90, 9))]
    devkit(tmp_path, 2007, "test", {"000003": xml(*odd)})
    cleaned, notes = check(voc.load(tmp_path, "2007_test"), source="voc 2007_test")
    boxes = {record["id"]: record["bbox"] for record in cleaned["annotations"]}
    assert boxes == {2: [4, 6, 1, 1], 3: [0, 6, 24, 24], 4: [59, 39, 5, 9]}
    assert notes == [
        "voc 2007_test: clipped 2 boxes to the image, first annotation 3 of image '000003'",
        "voc 2007_test: dropped 2 boxes without area, first annotation 1 of image '000003'",
    ]


def test_other_classes_come_from_the_root_alike_for_all_subsets(tmp_path):
    (tmp_path / "classes.txt").write_text("star\ncircle\n\n")
    devkit(tmp_path, 2007, "trainval", {"000001": xml(thing("circle"))})
    devkit(tmp_path, 2007, "test", {"000002": xml(thing("star"))})
    train, test = voc.load(tmp_path, "2007_trainval"), voc.load(tmp_path, "2007_test")
    assert train["categories"] == test["categories"]
    assert [c["name"] for c in train["categories"]] == ["star", "circle"]
    assert train["annotations"][0]["category_id"] == 1
    (tmp_path / "classes.txt").write_text("star\nstar\n")
    with pytest.raises(InputError, match=r"classes\.txt"):
        voc.load(tmp_path, "2007_test")


def test_lists_of_an_editor_that_marks_utf_8(tmp_path):
    devkit(tmp_path, 2007, "test", {"000003": xml(thing("ship"))})
    (tmp_path / "VOC2007/ImageSets/Main/test.txt").write_text("000003\n", encoding="utf-8-sig")
    (tmp_path / "classes.txt").write_text("ship\n", encoding="utf-8-sig")
    found = voc.load(tmp_path, "2007_test")
    assert [found["images"][0]["key"], found["categories"][0]["name"]] == ["000003", "ship"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (xml(thing("unicorn")), "no class named 'unicorn'; there is aeroplane, .*object 1"),
        (xml(thing(), thing(box=(1, "two", 3, 4))), "bndbox/ymin of object 2 is 'two'; expected a number"),
        (xml(thing(box=(1, "nan", 3, 4))), "bndbox/ymin of object 1 is 'nan'"),
        (xml("<object><name>cat</name></object>"), "bndbox/xmin of object 1 is None"),
        (xml(size=""), "size/width of the image is None"),
        (xml(size="<size><width>0</width><height>48</height></size>"), "the image is 0 x 48; expected numbers above 0"),
        (xml(thing())[:-20], "not readable XML"),
        (xml(thing(), before='<!DOCTYPE a [<!ENTITY b "&c;&c;">]>'), "DOCTYPE"),
    ],
)
def test_malformed_labels_are_named(tmp_path, text, words):
    devkit(tmp_path, 2007, "test", {"000003": text})
    with pytest.raises(InputError, match=words) as caught:
        voc.load(tmp_path, "2007_test")
    assert "VOC2007/Annotations/000003.xml" in str(caught.value)


def test_entities_are_refused_in_any_encoding(tmp_path):
    devkit(tmp_path, 2007, "test", {"000003": ""})
    text = xml(thing(), before='<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]>')
    (tmp_path / "VOC2007/Annotations/000003.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match=r"000003\.xml"):
        voc.load(tmp_path, "2007_test")


def test_missing_things_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no folder '.*VOC2007/ImageSets/Main'"):
        voc.load(tmp_path, "2007_test")
    devkit(tmp_path, 2007, "trainval", {"000003": xml()})
    with pytest.raises(InputError, match="no subset named '2007_test'; there is 2007_trainval"):
        voc.load(tmp_path, "2007_test")
    for wrong in ("trainval", "2007_trainval+", "2007_../x"):
        with pytest.raises(InputError, match="expected <year>_<list>"):
            voc.load(tmp_path, wrong)
    lists = tmp_path / "VOC2007/ImageSets/Main"
    (lists / "twice.txt").write_text("000003\n\n000003\n")
    with pytest.raises(InputError, match=r"twice\.txt', line 3: image '000003' again, first in line 1"):
        voc.load(tmp_path, "2007_twice")
    with pytest.raises(InputError, match="'000003' is in two"):
        voc.load(tmp_path, "2007_trainval+2007_trainval")
    (lists / "bytes.txt").write_bytes(b"\xff\xfe0\x00\n")
    with pytest.raises(InputError, match=r"bytes\.txt' is no UTF-8: .*; expected one name a line"):
        voc.load(tmp_path, "2007_bytes")
    (tmp_path / "VOC2007/Annotations/000003.xml").unlink()
    with pytest.raises(InputError, match=r"000003\.xml' does not exist"):
        voc.load(tmp_path, "2007_trainval")


@pytest.mark.parametrize(
    ("subset", "images", "objects", "difficult"), [("2007_trainval", 250, 821, 183), ("2007_test", 150, 436, 66)]
)
def test_real_sample(subset, images, objects, difficult):
    if not DATA.is_dir():
        pytest.skip(f"no real samples at {DATA}")
    start = time.process_time()
    found = voc.load(DATA, subset)
    assert (time.process_time() - start) / images < 3e-3  # 16,551 images: measured 3 s, refused from 50 s
    assert (len(found["images"]), len(found["annotations"])) == (images, objects)
    assert sum(record["difficult"] for record in found["annotations"]) == difficult
    assert check(found, source=subset) == (found, [])
    check_images(found, DATA, source=subset)


def test_real_record_by_hand():
    if not DATA.is_dir():
        pytest.skip(f"no real samples at {DATA}")
    found = voc.load(DATA, "2007_trainval")
    assert (found["images"][0]["key"], found["images"][0]["width"], found["images"][0]["height"]) == (
        "000005",
        500,
        375,
    )
    mine = [record for record in found["annotations"] if record["image_id"] == 1]
    # The file says 263 211 324 339 and four more chairs, the third and the fifth difficult.
    assert mine[0]["bbox"] == [262, 210, 62, 129]
    assert [record["difficult"] for record in mine] == [0, 0, 1, 0, 1]
    assert {found["categories"][record["category_id"]]["name"] for record in mine} == {"chair"}
