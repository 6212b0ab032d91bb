"""What the tables say of rows."""

import copy

from proseco.experiment import wording
from proseco.tables import paper
from tests import params_file

PARAMS = params_file.parameters()


def test_a_method_and_an_ablation():
    said = wording.describe(PARAMS, "paper", "base")
    assert said == {
        "title": "Base",
        "method": "ProSeCo w/ SwAV",
        "of": "proseco_swav",
        "detector": "deformable_detr",
        "queries": 300,
        "data": "imagenet",
        "unlabelled": "main",
        "batch": 64,
        "scale": "320-480",
        "ema_rate": 0.996,
        "loss": "locsce",
        "delta": 0.5,
        "tau_t": 0.05,
    }
    said = wording.describe(PARAMS, "paper", "supervised")
    assert (said["title"], said["detector"], "loss" in said, "of" in said) == (
        "Supervised", "deformable_detr", False, False,
    )  # fmt: skip
    assert (said["data"], wording.describe(PARAMS, "demo", "supervised")["data"]) == ("imagenet", "imagenet")
    assert wording.describe(PARAMS, "demo", "proseco")["data"] == "scenes"
    assert wording.describe(PARAMS, "paper", "sce")["delta"] is None  # a loss that knows none
    assert wording.describe(PARAMS, "demo", "batch")["title"] == "Abl. Batch (24)"


def test_a_row_whose_detector_the_scale_lacks_is_said_too():
    whole = copy.deepcopy(PARAMS)
    whole["methods"]["fcos"] = {"name": "supervised", "title": "FCOS", "backbone": "supervised", "detector": "no_such"}
    whole["ablations"]["fcos_2"] = {"title": "FCOS 2", "of": "fcos", "set": {}}
    every = wording.describe_all(whole, "demo")
    assert every["fcos"] == {"title": "FCOS", "method": "FCOS", "detector": "no_such"}
    assert every["fcos_2"] == {"title": "FCOS 2", "method": "FCOS", "of": "fcos", "detector": "no_such"}
    assert "fcos_2" not in wording.alias(whole, "demo")


def test_the_settings_of_ablations_are_those_that_the_paper_prints():
    every = wording.describe_all(PARAMS, "paper")
    for line in paper.read().query("variant != ''").to_dict("records"):
        for key, value in (pair.split("=") for pair in line["variant"].split()):
            said = every[line["row"]][key]
            assert str(1.0 if key == "delta" and said is None else said) == value, line


def test_families_share_their_images():
    found = wording.families(PARAMS)
    coco = {"mini_coco_0p5": 0.5, "mini_coco_1": 1.0, "mini_coco_5": 5.0, "mini_coco_10": 10.0, "coco_1x": 100.0}
    assert found["coco, train2017"].items() >= coco.items()
    assert found["voc, 2007_trainval+2012_trainval"] == {"mini_voc_5": 5.0, "mini_voc_10": 10.0, "voc_0712": 100.0}
    assert not any("fsod" in images for images in found)
