import contextlib
import copy
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from proseco.benchmarks import coco
from proseco.evaluation.coco_ap import score
from tests.oracles import average_precision_oracle

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl"]


def scene(seed, *, images=7, classes=5, crowds=True, difficult=True):
    """Objects of all sizes, and detections near them and elsewhere. The last class has none, the last image neither."""
    rng = np.random.default_rng(seed)
    records, rows = [], []
    for image in range(1, images):
        for _ in range(rng.integers(3, 9)):
            category = int(rng.integers(classes - 1))
            w, h = np.exp(rng.uniform(2.3, 5.3, 2))
            x, y = rng.uniform(0, 300, 2)
            crowd = int(crowds and rng.random() < 0.15)
            hard = int(difficult and not crowd and rng.random() < 0.25)
            records.append(
                {"id": len(records) + 1, "image_id": image, "category_id": category, "bbox": [x, y, w, h]}
                | {"area": w * h * rng.uniform(0.5, 1), "iscrowd": crowd, "difficult": hard}
            )
            for _ in range(rng.integers(0, 5)):
                s = rng.uniform(0.01, 0.25)
                near = [x + s * w * rng.normal(), y + s * h * rng.normal()]
                size = [w * np.exp(s * rng.normal()), h * np.exp(s * rng.normal())]
                rows.append([image, *near, *size, rng.random(), category])
    for image in range(1, images + 1):
        for _ in range(4):
            box = [*rng.uniform(0, 300, 2), *np.exp(rng.uniform(2.3, 5.3, 2))]
            rows.append([image, *box, rng.random(), rng.integers(classes)])
    annotations = {
        "images": [
            {"id": i, "key": str(i), "file_name": f"{i}.jpg", "width": 500, "height": 470} for i in range(1, images + 1)
        ],
        "annotations": records,
        "categories": [{"id": c, "name": f"class{c}", "original_id": c + 3} for c in range(classes)],
    }
    return annotations, np.array(rows)


def as_records(rows):
    return [
        {"image_id": int(r[0]), "bbox": r[1:5].tolist(), "score": float(r[5]), "category_id": int(r[6])} for r in rows
    ]


def reference(annotations, rows, max_detections=100):
    """pycocotools' own six figures, NaN where undefined."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**copy.deepcopy(annotations), "info": {}}
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(rows.copy()), "bbox")
        run.params.maxDets = [max_detections]
        run.evaluate()
        run.accumulate()
    values = run.eval["precision"][..., -1]  # T, R, K, A
    picked = [values[..., 0], values[0, ..., 0], values[5, ..., 0], *(values[..., area] for area in (1, 2, 3))]
    return [100 * p[p > -1].mean() if (p > -1).any() else np.nan for p in picked]


def figures(result):
    return [np.nan if result[name] is None else result[name] for name in FIGURES]


def box(image, x, y, w, h, points, category=0):
    return [image, x, y, w, h, points, category]


def one_object(**changes):
    """An image of one 60 x 40 object, and one without objects."""
    record = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [10.0, 20.0, 60.0, 40.0], "area": 2400.0}
    return {
        "images": [{"id": i, "key": str(i), "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in (1, 2)],
        "annotations": [{**record, "iscrowd": 0, "difficult": 0, **changes}],
        "categories": [{"id": 0, "name": "cat", "original_id": 17}],
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_detections", [2, 100])
def test_equals_the_obvious_formula(seed, max_detections):
    annotations, rows = scene(seed)
    result = score(annotations, rows, max_detections=max_detections)
    expected = average_precision_oracle(annotations, as_records(rows), max_detections)
    assert 1 < expected["AP"] < 99
    assert any(r["difficult"] for r in annotations["annotations"])
    assert any(r["iscrowd"] for r in annotations["annotations"])
    assert figures(result) == pytest.approx(figures(expected), abs=1e-9, nan_ok=True)
    assert result["per_class"] == pytest.approx(expected["per_class"], abs=1e-9)
    assert result["per_class"]["class4"] is None


@pytest.mark.parametrize("max_detections", [2, 100])
def test_equals_pycocotools(max_detections):
    annotations, rows = scene(9, images=40, difficult=False)
    rows = np.concatenate([rows, rows[:60]])  # equal scores and equal boxes too
    rows[:, 5] = rows[:, 5].round(1)
    found = figures(score(annotations, rows, max_detections=max_detections))
    assert found == pytest.approx(reference(annotations, rows, max_detections), abs=1e-9)


def test_equals_pycocotools_on_real_labels():
    if not (DATA / "coco").is_dir():
        pytest.skip(f"no real samples at {DATA}")
    annotations = coco.load(DATA / "coco", "val2017")
    rng = np.random.default_rng(0)
    rows = []
    for record in annotations["annotations"]:
        x, y, w, h = record["bbox"]
        for _ in range(3):
            s = rng.uniform(0, 0.2)
            size = [w * np.exp(s * rng.normal()), h * np.exp(s * rng.normal())]
            wrong = rng.random() < 0.2
            category = rng.integers(80) if wrong else record["category_id"]
            rows.append([record["image_id"], x + s * w * rng.normal(), y, *size, rng.random(), category])
    rows = np.array(rows)
    assert figures(score(annotations, rows)) == pytest.approx(reference(annotations, rows), abs=1e-9)


def test_the_perfect_answer_and_none():
    annotations = one_object()
    perfect = score(annotations, np.array([box(1, 10, 20, 60, 40, 0.5)]))
    assert [perfect[name] for name in FIGURES] == [pytest.approx(100)] * 3 + [None, pytest.approx(100), None]
    for nothing in (np.zeros((0, 7)), np.array([])):
        empty = score(annotations, nothing)
        assert [empty[name] for name in FIGURES] == [0.0, 0.0, 0.0, None, 0.0, None]
        assert empty["per_class"] == {"cat": 0.0}


def test_detections_on_an_image_without_objects_are_wrong():
    rows = [box(1, 10, 20, 60, 40, 0.5), box(2, 10, 20, 60, 40, 0.9)]
    assert score(one_object(), np.array(rows))["AP"] == pytest.approx(50)


def test_nothing_to_find_is_undefined_not_zero():
    annotations = one_object()
    annotations["annotations"] = []
    result = score(annotations, np.array([box(1, 10, 20, 60, 40, 0.5)]))
    assert all(result[name] is None for name in FIGURES)
    assert result["per_class"] == {"cat": None}


def two_objects(**changes):
    annotations = one_object()
    second = {**annotations["annotations"][0], "id": 2, "bbox": [110.0, 20.0, 60.0, 40.0], **changes}
    annotations["annotations"].append(second)
    return annotations


def test_difficult_objects_are_ignored_or_not():
    annotations = two_objects(difficult=1)
    easy, hard = box(1, 10, 20, 60, 40, 0.5), box(1, 110, 20, 60, 40, 0.9)
    assert score(annotations, np.array([easy, hard]))["AP"] == pytest.approx(100)
    assert score(annotations, np.array([easy]))["AP"] == pytest.approx(100)
    assert score(annotations, np.array([easy]), ignore_difficult=False)["AP"] == pytest.approx(100 * 51 / 101)


def test_a_difficult_object_is_no_crowd():
    # A quarter of the object: all of it lies inside, so a crowd would absorb it; by IoU it fits nothing and is wrong.
    easy, part = box(1, 10, 20, 60, 40, 0.5), box(1, 110, 20, 30, 20, 0.9)
    assert score(two_objects(difficult=1), np.array([easy, part]))["AP"] == pytest.approx(50)
    assert score(two_objects(iscrowd=1), np.array([easy, part]))["AP"] == pytest.approx(100)
    # The second detection of an object is wrong, of a crowd it is not.
    again = [easy, box(1, 110, 20, 60, 40, 0.9), box(1, 110, 20, 60, 40, 0.8)]
    assert score(two_objects(difficult=1), np.array(again))["AP"] == pytest.approx(50)
    assert score(two_objects(iscrowd=1), np.array(again))["AP"] == pytest.approx(100)


def test_equal_overlap_goes_to_the_later_object_as_in_pycocotools():
    annotations = two_objects(bbox=[30.0, 20.0, 60.0, 40.0])
    rows = np.array([box(1, 20, 20, 60, 40, 0.9), box(1, 30, 20, 60, 40, 0.8)])
    found = figures(score(annotations, rows))
    assert found == pytest.approx(reference(annotations, rows), abs=1e-9, nan_ok=True)
    # Both right at .5; the better-scored one alone up to .7; the other alone, after a wrong one, above.
    assert found[0] == pytest.approx(100 * (1 + 4 * 51 / 101 + 5 * 0.5 * 51 / 101) / 10)


def test_an_area_on_the_border_belongs_to_both_ranges():
    result = score(one_object(area=1024.0), np.array([box(1, 10, 20, 60, 40, 0.5)]))
    assert (result["APs"], result["APm"], result["APl"]) == (pytest.approx(100), pytest.approx(100), None)


def test_an_annotation_with_id_0_can_be_found():
    # pycocotools stores the id of the match and reads 0 as none.
    assert score(one_object(id=0), np.array([box(1, 10, 20, 60, 40, 0.5)]))["AP"] == pytest.approx(100)


def test_two_classes_of_one_name_keep_their_figures():
    annotations = one_object()
    annotations["categories"].append({"id": 1, "name": "cat", "original_id": 18})
    result = score(annotations, np.array([box(1, 10, 20, 60, 40, 0.5)]))
    assert result["per_class"] == {"cat (17)": pytest.approx(100), "cat (18)": None}


def test_input_is_left_alone_and_nothing_is_printed(capsys):
    annotations, rows = scene(0)
    before = copy.deepcopy(annotations), rows.copy()
    score(annotations, rows)
    assert (annotations, rows.tolist()) == (before[0], before[1].tolist())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((2, 6)), "shape"),
        (np.zeros((2, 7), dtype=np.float32), "float32"),
        (np.array([box(1, 10, 20, 60, 40, np.nan)]), "not finite"),
        (np.array([box(3, 10, 20, 60, 40, 0.5)]), "image 3"),
        (np.array([box(1, 10, 20, 60, 40, 0.5, category=1)]), "category 1"),
    ],
)
def test_malformed_detections_are_refused(rows, words):
    with pytest.raises(ValueError, match=words):
        score(one_object(), rows)
