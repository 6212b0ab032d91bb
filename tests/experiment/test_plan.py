import copy
import shutil
from pathlib import Path

import pytest

from proseco.base import sources
from proseco.base.errors import InputError
from proseco.experiment import plan, rows
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]
REAL = params_file.parameters()
FINETUNINGS = {f"finetune/{m}/{b}.json" for m in REAL["run"]["methods"] for b in REAL["run"]["benchmarks"]}


def changed(path, value):
    """The real parameters with one value changed; ``path`` has slashes."""
    whole = section = copy.deepcopy(REAL)
    *above, key = path.split("/")
    for name in above:
        section = section[name]
    section[key] = value
    return whole


def pretraining(whole, scale, name):
    return plan.pretraining(whole, rows.row(whole, scale, name))


@pytest.mark.parametrize("name", ["infonce", "locnce", "sce", "locsce"])
def test_another_loss_needs_no_other_change(name):
    loss = plan.resolve(changed("loss/name", name))["pretrain/proseco.json"]["loss"]
    known = {"infonce": {"tau"}, "locnce": {"tau", "delta"}, "sce": {"tau", "tau_t", "lambda_sce", "relation_mask"}}
    known["locsce"] = known["sce"] | {"delta", "normalize_target"}
    assert set(loss) == known[name] | {"name"}
    given = REAL["loss"] | REAL["scales"]["demo"]["pretrain"]["proseco"]["loss"]
    assert loss == {key: given[key] for key in known[name]} | {"name": name}


def test_a_key_of_the_loss_stands_in_one_place():
    whole = changed("loss/normalize_target", True)
    with pytest.raises(InputError, match="normalize_target stands under loss too"):
        plan.resolve(whole)


def test_the_schedule_of_a_benchmark_or_the_default():
    schedules = REAL["scales"]["demo"]["schedules"]
    whole = changed("run/benchmarks", ["mini_coco_1", "mini_voc_5"])
    whole["scales"]["demo"]["schedules"]["default"]["batch"] = 7
    found = plan.resolve(whole)
    for method in ("supervised", "proseco"):
        assert found[f"finetune/{method}/mini_coco_1.json"]["schedule"] == schedules["mini_coco_1"]
        assert found[f"finetune/{method}/mini_voc_5.json"]["schedule"] == schedules["default"] | {"batch": 7}
    assert len([name for name in found if name.startswith("finetune/")]) == 4


def test_a_pretraining_that_searches_depends_on_what_it_searches_with():
    code = {scale: pretraining(REAL, scale, "detreg")["code"] for scale in ("demo", "paper")}
    assert "proseco/proposals/_grouping.py" in code["paper"]
    assert not any(path.startswith("proseco/proposals/") for path in code["demo"])


def test_a_benchmark_says_how_it_is_scored():
    found = plan.resolve(REAL)
    scoring = {name: found[f"finetune/proseco/{name}.json"]["scoring"] for name in REAL["run"]["benchmarks"]}
    assert scoring == {"mini_coco_5": "coco", "mini_voc_10": "voc"}
    assert changes("benchmarks/mini_voc_10/scoring", "coco") == {
        "finetune/supervised/mini_voc_10.json",
        "finetune/proseco/mini_voc_10.json",
    }


def test_a_scale_changes_its_own_loss_only():
    whole = changed("scales/demo/pretrain/proseco/loss/normalize_target", False)
    assert pretraining(whole, "demo", "proseco")["loss"]["normalize_target"] is False
    assert pretraining(whole, "paper", "proseco") == pretraining(REAL, "paper", "proseco")


def test_the_weights_of_the_terms_go_to_the_method():
    method = plan.resolve(changed("loss/lambda_sim", 7.5))["pretrain/proseco.json"]["method"]
    assert method["lambda_sim"] == 7.5 and method["lambda_giou"] == REAL["loss"]["lambda_giou"]
    assert method["boxes"] == REAL["scales"]["demo"]["pretrain"]["proseco"]["method"]["boxes"]


def test_a_row_is_pretrained_by_its_own_schedule_and_detector():
    of_plugin = REAL["scales"]["demo"]["pretrain"]["proseco"]["schedule"]
    found = {name: pretraining(REAL, "demo", name) for name in ("batch", "queries_100", "proseco")}
    assert found["proseco"]["schedule"] == of_plugin
    assert found["batch"]["schedule"] == of_plugin | {"batch": 24, "steps": 150}
    assert found["batch"]["method"]["ema_rate"] == 0.996 and found["queries_100"]["detector"]["queries"] == 14


def changes(path, value):
    """Files of settings that one change changes."""
    before, after = plan.resolve(REAL), plan.resolve(changed(path, value))
    assert set(before) == set(after)
    return {name for name in before if before[name] != after[name]}


def test_only_what_depends_on_a_parameter_changes_with_it():
    assert changes("loss/delta", 0.7) == {"pretrain/proseco.json"}
    assert changes("loss/lambda_giou", 1.0) == {"pretrain/proseco.json"}
    assert changes("scales/demo/pretrain/proseco/schedule/lr", 0.1) == {"pretrain/proseco.json"}
    assert changes("scales/demo/views/weak/crop_max", 120) == {"pretrain/proseco.json", *FINETUNINGS}
    assert changes("scales/demo/views/strong/jitter_probability", 0.3) == {"pretrain/proseco.json"}
    assert changes("scales/demo/views/predict/short_edge", 90) == FINETUNINGS
    assert changes("scales/demo/finetune/predict_batch", 9) == FINETUNINGS
    assert changes("precision", "float32") == {"pretrain/proseco.json", "backbone.json", *FINETUNINGS}
    assert changes("seed", 7) >= {"pretrain/proseco.json", "backbone.json", "propose/main.json"}
    assert changes("scales/demo/propose/min_side", 20) == {"propose/main.json"}
    assert changes("scales/demo/propose/unlabelled/main/subset", "val") == {"propose/main.json"}
    assert changes("scales/demo/propose/unlabelled/random/subset", "val") == set()  # not selected
    assert changes("device", "cpu") == set()
    assert changes("scales/demo/propose/proposals/mode", "quality") == {"propose/main.json"}
    assert changes("scales/demo/recall/images", 48) == set()
    assert changes("scales/demo/backbones/supervised/side", 48) == {"backbone.json"}
    assert changes("methods/proseco/title", "x") == set()
    assert changes("scales/paper/pretrain/proseco/pictures", 3) == set()


def test_a_row_from_a_file_depends_on_the_file_and_the_detector_alone():
    whole = changed("run/methods", ["proseco", "detreg_public"]) | {"scale": "paper"}
    path = whole["scales"]["paper"]["pretrain"]["detreg_public"]["checkpoint"]
    settings = plan.resolve(whole)
    row, backbones = settings["pretrain/detreg_public.json"], settings["backbone.json"]
    assert {key for key, value in row.items() if value is not None} == {"detector", "seed", "checkpoint", "code"}
    assert row["checkpoint"] == {"checkpoint": path, "digest": None}  # there is no such file
    assert list(row["code"]) == ["proseco/detectors/deformable_detr.py"]
    name = backbones["files"]["detreg_public"]
    assert backbones["backbones"][name] == {"checkpoint": path, "prefix": None}
    assert set(backbones["backbones"]) == {name, "scrl"}
    whole["scales"]["paper"]["pretrain"]["detreg_public"]["network"] = "student"
    entry = plan.backbones(whole, "paper")["backbones"][name]
    assert entry == {"checkpoint": path, "prefix": "student.backbone.0.body."}


def test_another_checkpoint_of_the_same_name_makes_stale_what_was_made_of_the_former(tmp_path):
    whole = changed("run/methods", ["proseco", "supervised", "detreg_public"]) | {"scale": "paper"}
    paper, backbone, detector = whole["scales"]["paper"], tmp_path / "resnet.pth", tmp_path / "detreg.pth"
    paper["backbones"]["supervised"]["checkpoint"] = str(backbone)
    paper["pretrain"]["detreg_public"]["checkpoint"] = str(detector)
    for path in (backbone, detector):
        path.write_bytes(b"one")
    before = plan.resolve(whole)
    assert plan.resolve(whole) == before
    backbone.write_bytes(b"two")
    after = plan.resolve(whole)
    assert {name for name in before if before[name] != after[name]} == {"backbone.json"}
    detector.write_bytes(b"two")
    last = plan.resolve(whole)
    assert {name for name in after if after[name] != last[name]} == {"backbone.json", "pretrain/detreg_public.json"}


def test_the_row_without_a_pretraining_knows_nothing_of_it():
    settings = plan.resolve(REAL)["pretrain/supervised.json"]
    assert {key for key, value in settings.items() if value is not None} == {"detector", "seed"}
    assert "loss" not in str(sorted(settings["detector"]))


def test_backbones_are_shared_and_only_used_ones_listed():
    settings = plan.resolve(REAL)["backbone.json"]
    assert settings["files"] == {"supervised": "supervised", "proseco": "supervised"}  # the same, in the demo
    assert list(settings["backbones"]) == ["supervised"]
    paper = plan.resolve(REAL | {"scale": "paper"})["backbone.json"]
    assert paper["files"] == {"supervised": "supervised", "proseco": "scrl"}
    assert list(paper["backbones"]) == ["scrl", "supervised"] and paper["code"] == {}


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("losses/_ranges.py", {"pretrain/proseco.json"}),
        ("losses/locsce.py", {"pretrain/proseco.json"}),
        ("losses/infonce.py", set()),
        ("methods/proseco.py", {"pretrain/proseco.json"}),
        ("methods/supervised.py", set()),
        ("runs/pretraining.py", set()),  # a dependency of the stage itself
        ("methods/classification.py", {"backbone.json"}),
        ("detectors/deformable_detr.py", {"pretrain/proseco.json", *FINETUNINGS}),
        ("proposals/selective_search.py", {"propose/main.json"}),
        ("proposals/_grouping.py", {"propose/main.json"}),
        ("proposals/opencv.py", set()),
        ("proposals/random.py", set()),
        ("nn/matcher.py", set()),  # in dvc.yaml
    ],
)
def test_a_comment_in_a_plugin_changes_only_what_uses_it(edited, expected, tmp_path, monkeypatch):
    before = plan.resolve(REAL)
    shutil.copytree(ROOT / "proseco", tmp_path / "proseco", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "_PACKAGE", tmp_path / "proseco")
    assert plan.resolve(REAL) == before
    with open(tmp_path / "proseco" / edited, "a", encoding="utf-8") as file:
        file.write("# a comment\n")
    after = plan.resolve(REAL)
    assert {name for name in before if before[name] != after[name]} == expected


def test_resolving_leaves_the_parameters_alone():
    parameters = copy.deepcopy(REAL)
    plan.resolve(parameters)
    assert parameters == REAL


def test_nothing_is_resolved_of_wrong_parameters():
    with pytest.raises(InputError, match="no key of loss named 'dleta'"):
        plan.resolve(changed("loss/dleta", 0.7))
