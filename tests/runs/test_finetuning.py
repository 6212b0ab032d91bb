"""A finetuning from annotations to metrics.json, AP scripted."""

import csv
from unittest import mock

import cv2
import numpy as np
import pytest
import torch

from proseco.base import plugins
from proseco.base.files import read_json
from proseco.base.randomness import seed as derive_seed
from proseco.runs import finetuning
from proseco.weights import checkpoint
from tests import tiny

SIZES = [(48, 64), (72, 40), (56, 56), (40, 88), (64, 48)]
SCORES = {"AP50": 0.0, "AP75": 0.0, "per_class": []}
WEAK = {"short_edges": [40, 48], "long_edge": 96, "first_short_edges": [48], "crop_min": 32, "crop_max": 40}
DETECTOR = {"name": "deformable_detr"} | {key: value for key, value in tiny.SIZES.items() if key != "num_classes"}
SCHEDULE = {
    "batch": 3,
    "lr": 1e-3,
    "lr_backbone": 1e-4,
    "epochs": 6,
    "validate_every": 1,
    "patience": 1,
    "log_every": 4,
}


@pytest.fixture
def cell(tmp_path):
    """Keyword arguments of ``finetuning.run``, but for where it writes."""
    rng = np.random.default_rng(0)
    images, objects = [], []
    for number, (height, width) in enumerate(SIZES):
        name = f"{number}.png"
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        images.append({"id": number, "key": f"i{number}", "file_name": name, "width": width, "height": height})
        if number:  # the first has no object
            entry = {"id": number, "image_id": number, "category_id": number % 2, "bbox": [3, 5, 20, 12]}
            objects.append(entry | {"area": 240, "iscrowd": 0, "difficult": 0})
    categories = [{"id": i, "name": f"c{i}", "original_id": 9 - i} for i in range(2)]
    whole = {"images": images, "annotations": objects, "categories": categories}
    model = tiny.detector(num_classes=2)
    start = tmp_path / "start.safetensors"
    checkpoint.save(start, {"student": model.state_dict()}, {"method": None})
    return {
        "names": {"method": "mine", "benchmark": "small", "seed": 3},
        "detector": DETECTOR,
        "views": {"weak": WEAK, "predict": {"short_edge": 48, "long_edge": 96}},
        "schedule": SCHEDULE,
        "annotations": {
            "train": whole,
            "val": whole | {"images": images[:2], "annotations": objects[:1]},
            "test": whole,
        },
        "digest": "5a" * 16,
        "root": tmp_path,
        "start": start,
        "device": "cpu",
        "precision": "float32",
        "init_from": "student",
        "predict_batch": 2,
    }


def run(cell, folder, aps, monkeypatch):
    """What metrics.json says, the learning rates of the log, and how often was scored."""
    found = iter(aps)
    score = mock.Mock(side_effect=lambda truth, detections: SCORES | {"AP": next(found)})
    scoring = cell.get("scoring", "coco")
    for name, module in finetuning.SCORINGS.items():
        monkeypatch.setattr(module, "score", score if name == scoring else None)
    monkeypatch.setattr(finetuning.coco_ap, "write_per_class", lambda path, rows: None)
    for name in ("results", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    finetuning.run(**cell, out=folder / "out.safetensors", results=folder / "results", scratch=folder / "scratch")
    made = read_json(folder / "results" / "run.json")
    assert (made["annotations"], made["scoring"]) == (cell["digest"], scoring)
    assert read_json(folder / "results" / "metrics.json")["scoring"] == scoring
    with open(folder / "results" / "log.csv", newline="") as file:
        rates = [(int(row["step"]), float(row["lr"])) for row in csv.DictReader(file)]
    return read_json(folder / "results" / "metrics.json"), rates, score.call_count


def test_it_ends_where_ap_has_stopped_rising_and_says_why(cell, tmp_path, monkeypatch):
    """Five images in batches of three: an epoch is 5/3 steps. The last AP of each list is that of the test images."""
    found, rates, _ = run(cell, tmp_path / "early", [1.0, 2.0, 2.0, 3.0, 1.0, 4.5], monkeypatch)
    counts = [len(cell["annotations"][part]["images"]) for part in ("train", "val", "test")]
    assert [found[key] for key in ("labels", "validation_images", "test_images")] == counts
    assert found["validated_on_test"] is False
    assert [entry["step"] for entry in found["validation"]] == [2, 3, 5, 7, 8]
    assert (found["steps"], found["best_step"], found["dropped_at"], found["AP"]) == (8, 7, 5, 4.5)
    assert found["stopped_early"] == "no AP above that of step 7 in 1 validations"
    assert rates == [(4, pytest.approx(1e-3)), (8, pytest.approx(1e-4))]
    assert read_json(tmp_path / "early" / "results" / "cost.json")["steps"] == 8
    files = {name: (tmp_path / "early" / name).read_bytes() for name in ("out.safetensors", "results/metrics.json")}
    again, _, scored = run(cell, tmp_path / "early", [4.5], monkeypatch)  # as after a kill while it was scored
    assert again == found and scored == 1
    assert files == {name: (tmp_path / "early" / name).read_bytes() for name in files}

    found, rates, _ = run(cell, tmp_path / "late", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5], monkeypatch)
    assert (found["steps"], found["best_step"], found["dropped_at"]) == (10, 10, 8)
    assert found["stopped_early"] is None and [step for step, _ in rates] == [4, 8, 10]


def test_without_an_object_to_validate_on_the_last_weights_are_kept(cell, tmp_path, monkeypatch, capsys):
    """Few images to validate on may show none: the first validation's weights would be as good as untrained."""
    found, _, _ = run(cell, tmp_path, [None] * 6 + [7.5], monkeypatch)
    assert (found["steps"], found["best_step"], found["stopped_early"]) == (10, 10, None)
    assert [entry["AP"] for entry in found["validation"]] == [None] * 6
    assert "step 2: validation without an object to score, the last weights are kept" in capsys.readouterr().out


def test_frozen_stages_leave_as_they_began(cell, tmp_path, monkeypatch):
    begun = checkpoint.load(cell["start"], "student")
    cell |= {"schedule": SCHEDULE | {"frozen_stages": 2}, "scoring": "voc"}
    run(cell, tmp_path / "cell", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], monkeypatch)
    ended = checkpoint.load(tmp_path / "cell" / "out.safetensors", "detector")
    convolutions = [key for key in begun if key.startswith("backbone.") and "conv" in key]
    still = {key.split(".")[3] for key in convolutions if (begun[key] == ended[key]).all()}
    moved = {key.split(".")[3] for key in convolutions if (begun[key] != ended[key]).any()}
    assert (still, moved) == ({"conv1", "layer1"}, {"layer2", "layer3", "layer4"})


def test_the_weights_of_the_best_validation_are_tested_and_saved(cell, tmp_path, monkeypatch):
    seen = []

    def spy(model, source, **options):
        seen.append((len(source), {key: value.clone() for key, value in model.state_dict().items()}))
        return np.full((1, 7), len(seen), np.float64)

    monkeypatch.setattr(finetuning, "predict", spy)
    monkeypatch.setattr(finetuning, "picture", lambda source, detections, path: seen.append((len(source), detections)))
    cell["schedule"] = SCHEDULE | {"patience": None}
    found, _, _ = run(cell, tmp_path / "cell", [1.0, 3.0, 2.0, 1.0, 2.0, 2.5, 7.5], monkeypatch)
    assert (found["best_step"], found["steps"], found["AP"]) == (3, 10, 7.5)
    assert [images for images, _ in seen] == [2] * 6 + [5, 5]  # validations, the test, its picture
    (_, best), (_, last), (_, tested) = (seen[number] for number in (1, 5, 6))
    assert (seen[7][1] == 7).all()
    saved = checkpoint.load(tmp_path / "cell" / "out.safetensors", "detector")
    assert all(torch.equal(tested[key], value) and torch.equal(saved[key], value) for key, value in best.items())
    assert not torch.equal(best["query_embed.weight"], last["query_embed.weight"])


def test_where_test_images_are_validated_on_the_best_detections_are_scored(cell, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(finetuning, "predict", lambda *given, **options: seen.append(0) or np.full((1, 7), len(seen)))
    monkeypatch.setattr(finetuning, "picture", lambda source, detections, path: seen.append(detections))
    cell["annotations"]["test"] = cell["annotations"]["val"]
    cell["schedule"] = SCHEDULE | {"patience": None}
    found, *_ = run(cell, tmp_path / "cell", [1.0, 3.0, 2.0, 1.0, 2.0, 2.5, 7.5], monkeypatch)
    assert len(seen) == 7 and (seen[6] == 2).all() and found["validated_on_test"] is True


def begun(cell, folder, monkeypatch, **changes):
    """What the loop is called with."""
    fit = mock.Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(finetuning, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        finetuning.run(**cell | changes, out=folder / "out", results=folder, scratch=folder)
    return fit.call_args


def test_it_begins_with_the_network_that_is_named(cell, tmp_path, monkeypatch):
    networks = {"student": tiny.detector(num_classes=2), "teacher": tiny.detector(seed=1, num_classes=2)}
    checkpoint.save(cell["start"], {name: model.state_dict() for name, model in networks.items()}, {"method": None})
    for name, model in networks.items():
        state = begun(cell, tmp_path, monkeypatch, init_from=name).args[0].student.state_dict()
        wanted = {key: value for key, value in model.state_dict().items() if "class_embed" not in key}
        assert all(torch.equal(state[key], value) for key, value in wanted.items())


def test_the_loop_is_given_what_the_settings_say(cell, tmp_path, monkeypatch):
    schedule = SCHEDULE | {"micro_batch": 2, "group_steps": 3, "pad_to": 8}
    for seed in (3, 4):
        given = begun(cell, tmp_path, monkeypatch, names=cell["names"] | {"seed": seed}, schedule=schedule)
        assert given.kwargs["seed"] == derive_seed(seed, "finetune")
    assert given.args[0].micro_batch == 2
    assert (given.args[1].keywords["group"], given.args[1].keywords["pad_to"]) == (3, 8)


def test_a_detector_that_learns_masks_is_given_them(cell, tmp_path, monkeypatch):
    options = {"backbone": tiny.BODY, "channels": 16, "box_width": 24, "mask_width": 8, "mask_layers": 1}
    for record in cell["annotations"]["train"]["annotations"]:
        record["segmentation"] = [[3, 5, 23, 5, 23, 17]]
    for name, known in (("mask_rcnn", options), ("faster_rcnn", {k: v for k, v in options.items() if k[:4] != "mask"})):
        model = plugins.call("detectors", {"name": name} | known, num_classes=2)
        checkpoint.save(cell["start"], {"student": model.state_dict()}, {"method": None})
        source = begun(cell, tmp_path, monkeypatch, detector={"name": name} | known).args[1].args[0]
        assert (source[1].outlines is not None) == (name == "mask_rcnn")
