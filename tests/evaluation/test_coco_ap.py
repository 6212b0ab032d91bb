import contextlib
import copy
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from proseco.benchmarks import coco
from proseco.evaluation.coco_ap import score, write_per_class
from tests.oracles import average_precision_oracle
from tests.scenes import FIGURES, as_records, box, figures, odd_scenes, one_object, scene, two_objects

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


class Reference(COCOeval):
    """pycocotools, with objects that are ignored without being crowds."""

    def _prepare(self):
        super()._prepare()
        for objects in self._gts.values():
            for record in objects:
                record["ignore"] = int(record["iscrowd"] or record["difficult"])


def reference(annotations, rows, max_detections=100):
    """pycocotools' own six figures of all classes, and of each alone, NaN where undefined."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**copy.deepcopy(annotations), "info": {}}
        truth.createIndex()
        run = Reference(truth, truth.loadRes(rows.copy()), "bbox")
        run.params.maxDets = [max_detections]
        run.evaluate()
        run.accumulate()
    values = run.eval["precision"][..., -1]  # T, R, K, A

    def six(values):
        picked = [values[..., 0], values[0, ..., 0], values[5, ..., 0], *(values[..., area] for area in (1, 2, 3))]
        return [100 * p[p > -1].mean() if (p > -1).any() else np.nan for p in picked]

    return six(values), [six(values[:, :, row : row + 1]) for row in range(values.shape[2])]


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
    of_classes = {name: row["AP"] for name, row in result["per_class"].items()}
    assert of_classes == pytest.approx(expected["per_class"], abs=1e-9)
    assert of_classes["class4"] is None


def test_equals_pycocotools():
    count, full = 0, 0
    for annotations, rows, limit in odd_scenes():
        result = score(annotations, rows, max_detections=limit)
        whole, classes = reference(annotations, rows, limit)
        assert figures(result) == pytest.approx(whole, abs=1e-9, nan_ok=True)
        for name, expected in zip(result["per_class"], classes, strict=True):
            assert figures(result["per_class"][name]) == pytest.approx(expected, abs=1e-9, nan_ok=True)
        count += len(rows)
        full += max(np.unique(rows[:, [0, 6]], axis=0, return_counts=True)[1]) > 100
    assert count > 10_000 and full > 3  # detections in all, and scenes with more than 100 of an image and class


@pytest.mark.slow  # ten seconds of importing
def test_equals_torchmetrics():
    """AP, AP50, AP75 and of each class. Its figures by size are some tenths from pycocotools', ours are not."""
    torch = pytest.importorskip("torch")
    torchmetrics = pytest.importorskip("torchmetrics.detection")
    annotations, rows = scene(5, images=25, classes=4, difficult=False)
    rows[:, 1:5] = (rows[:, 1:5] * 4).round() / 4  # float32, in which torchmetrics holds boxes, has these exactly
    for record in annotations["annotations"]:
        record["bbox"] = [round(value * 4) / 4 for value in record["bbox"]]
    metric = torchmetrics.MeanAveragePrecision("xywh", class_metrics=True, backend="pycocotools")
    for image in annotations["images"]:
        mine = rows[rows[:, 0] == image["id"]]
        objects = [record for record in annotations["annotations"] if record["image_id"] == image["id"]]

        def column(key, kind, objects=objects):
            return torch.tensor([record[key] for record in objects], dtype=kind)

        found = {"boxes": torch.tensor(mine[:, 1:5]).float(), "scores": torch.tensor(mine[:, 5])}
        truth = {"boxes": column("bbox", torch.float32).reshape(-1, 4), "labels": column("category_id", torch.int64)}
        truth |= {"iscrowd": column("iscrowd", torch.int64), "area": column("area", torch.float64)}
        metric.update([found | {"labels": torch.tensor(mine[:, 6]).long()}], [truth])
    theirs, result = metric.compute(), score(annotations, rows)
    for name, key in (("AP", "map"), ("AP50", "map_50"), ("AP75", "map_75")):
        assert result[name] == pytest.approx(100 * theirs[key].item(), abs=1e-4)
    assert theirs["classes"].tolist() == [0, 1, 2, 3]
    assert theirs["map_per_class"][3] == -1 and result["per_class"]["class3"]["AP"] is None
    for row, ap in zip(list(result["per_class"].values())[:3], theirs["map_per_class"].tolist(), strict=False):
        assert row["AP"] == pytest.approx(100 * ap, abs=1e-4)


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
    assert figures(score(annotations, rows)) == pytest.approx(reference(annotations, rows)[0], abs=1e-9)


def test_the_perfect_answer_and_none():
    annotations = one_object()
    perfect = score(annotations, np.array([box(1, 10, 20, 60, 40, 0.5)]))
    assert [perfect[name] for name in FIGURES] == [pytest.approx(100)] * 3 + [None, pytest.approx(100), None]
    for nothing in (np.zeros((0, 7)), np.array([])):
        empty = score(annotations, nothing)
        assert [empty[name] for name in FIGURES] == [0.0, 0.0, 0.0, None, 0.0, None]
        assert empty["per_class"] == {"cat": {name: empty[name] for name in FIGURES} | {"objects": 1}}


def test_detections_on_an_image_without_objects_are_wrong():
    rows = [box(1, 10, 20, 60, 40, 0.5), box(2, 10, 20, 60, 40, 0.9)]
    assert score(one_object(), np.array(rows))["AP"] == pytest.approx(50)


def test_nothing_to_find_is_undefined_not_zero():
    annotations = one_object()
    annotations["annotations"] = []
    result = score(annotations, np.array([box(1, 10, 20, 60, 40, 0.5)]))
    assert all(result[name] is None for name in FIGURES)
    assert result["per_class"] == {"cat": dict.fromkeys(FIGURES) | {"objects": 0}}


def test_difficult_objects_are_ignored():
    annotations = two_objects(difficult=1)
    easy, hard = box(1, 10, 20, 60, 40, 0.5), box(1, 110, 20, 60, 40, 0.9)
    assert score(annotations, np.array([easy, hard]))["AP"] == pytest.approx(100)
    assert score(annotations, np.array([easy]))["AP"] == pytest.approx(100)


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
    assert found == pytest.approx(reference(annotations, rows)[0], abs=1e-9, nan_ok=True)
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
    assert {name: row["AP"] for name, row in result["per_class"].items()} == {
        "cat (17)": pytest.approx(100),
        "cat (18)": None,
    }


def test_per_class_as_csv(tmp_path):
    annotations, rows = scene(3)
    per_class = score(annotations, rows)["per_class"]
    write_per_class(tmp_path / "per_class.csv", per_class)
    with open(tmp_path / "per_class.csv", newline="") as file:
        read = {row.pop("class"): row for row in csv.DictReader(file)}
    assert list(read) == list(per_class) and list(read["class0"]) == ["objects", *FIGURES]
    for name, row in per_class.items():
        assert {key: float(value) if value else None for key, value in read[name].items()} == row
    assert read["class4"] == {"objects": "0"} | dict.fromkeys(FIGURES, "")
    easy = [r for r in annotations["annotations"] if r["category_id"] == 1 and not (r["iscrowd"] or r["difficult"])]
    assert per_class["class1"]["objects"] == len(easy)


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
