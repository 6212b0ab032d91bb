"""Rows of the tables: what an ablation comes to at each scale, and which one is its method under another name."""

import copy
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from proseco.base.errors import InputError
from proseco.experiment import plan, rows, schema, selection
from proseco.tables import paper
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]
REAL = params_file.parameters()


def with_ablation(of="proseco", set_=None, **of_scale):
    whole = copy.deepcopy(REAL)
    whole["ablations"]["mine"] = {"title": "Mine", "of": of, "set": set_ or {}}
    whole["scales"]["demo"]["ablations"] = of_scale
    return whole


def test_an_ablation_is_of_a_method_and_has_its_detector():
    whole = with_ablation(of="supervised")
    assert rows.method_of(whole, "mine") is rows.method_of(whole, "supervised") is whole["methods"]["supervised"]
    assert rows.has_detector(whole, "demo", "mine")
    whole["methods"]["supervised"]["detector"] = "no_such"
    assert not rows.has_detector(whole, "demo", "mine") and rows.has_detector(whole, "demo", "proseco")


def test_a_row_is_pretrained_here_from_a_file_or_not_at_all():
    whole = copy.deepcopy(REAL)
    whole["scales"]["demo"]["pretrain"]["detreg_public"] = {"checkpoint": "x.pth"}
    found = {name: rows.row(whole, "demo", name) for name in ("supervised", "proseco", "detreg_public")}
    assert [name for name, row in found.items() if row.pretrained_here] == ["proseco"]
    assert [name for name, row in found.items() if row.from_file] == ["detreg_public"]


def test_a_mapping_laid_over_another():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    over = {"a": {"c": [9], "e": {"f": 0}}, "d": {"g": 4}}
    assert rows.merged(base, over) == {"a": {"b": 1, "c": [9], "e": {"f": 0}}, "d": {"g": 4}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


def test_another_optimiser_takes_the_former_ones_keys_with_it():
    change = {"optimizer": "sgd", "momentum": 0.8, "decay": "cosine"}
    whole = with_ablation(set_={"pretrain": {"schedule": change}})
    schema.check(whole)
    mine, base = (rows.row(whole, "demo", name).pretrain["schedule"] for name in ("mine", "proseco"))
    assert mine == {key: value for key, value in base.items() if key != "drop_at"} | change


def test_the_same_optimiser_keeps_its_keys():
    change = {"decay": "step", "optimizer": "adamw", "lr": 0.5}
    whole = with_ablation(set_={"pretrain": {"schedule": change}})
    mine, base = (rows.row(whole, "demo", name).pretrain["schedule"] for name in ("mine", "proseco"))
    assert mine == base | change and "drop_at" in base


def test_its_own_word_counts_more_than_that_of_every_one_and_the_scales_most():
    pretrain = lambda **schedule: {"pretrain": {"schedule": schedule}}  # noqa: E731
    whole = with_ablation(
        set_=pretrain(steps=7, batch=5),
        every=pretrain(steps=3, lr=0.5, batch=4),
        mine=pretrain(batch=6) | {"title": "Here"},
    )
    row, base = rows.row(whole, "demo", "mine"), rows.row(whole, "demo", "proseco")
    assert row.title == "Here" and rows.row(whole, "paper", "mine").title == "Mine"
    schedule = row.pretrain["schedule"]
    assert (schedule["steps"], schedule["lr"], schedule["batch"]) == (7, 0.5, 6)
    unchanged = {"steps", "lr", "batch"}
    assert {k: v for k, v in schedule.items() if k not in unchanged} == {
        k: v for k, v in base.pretrain["schedule"].items() if k not in unchanged
    }
    assert (row.plugin, row.backbone, row.detector, row.loss) == (base.plugin, base.backbone, base.detector, base.loss)


def test_each_part_of_a_row_can_be_changed():
    weak = {"weak": {"long_edge": 99}}
    change = {"loss": {"tau": 0.5}, "views": weak, "detector": {"queries": 3}, "backbone": "swav", "data": "coco"}
    whole = with_ablation(set_=change)
    row, base = rows.row(whole, "demo", "mine"), rows.row(whole, "demo", "proseco")
    assert row.loss == base.loss | {"tau": 0.5} and row.detector == base.detector | {"queries": 3}
    assert row.views["weak"] == base.views["weak"] | {"long_edge": 99} and row.views["strong"] == base.views["strong"]
    assert (row.backbone, row.data) == ("swav", "coco")
    assert plan.pretraining(whole, row)["data"] == "coco"
    assert plan.finetuning(whole, whole["scales"]["demo"], row, "mini_coco_5")["detector"]["queries"] == 3


def test_a_key_of_the_loss_may_stand_in_the_pretraining_as_in_a_plugins_entry():
    whole = with_ablation(set_={"pretrain": {"loss": {"normalize_target": False}}})
    row, base = rows.row(whole, "demo", "mine"), rows.row(whole, "demo", "proseco")
    assert base.loss["normalize_target"] and row.loss == base.loss | {"normalize_target": False}
    schema.check(whole)
    assert plan.pretraining(whole, row)["loss"]["normalize_target"] is False


def test_what_shortens_every_pretraining_leaves_a_row_without_one_alone():
    whole = with_ablation(of="supervised", set_={"detector": {"queries": 3}}, every={"pretrain": {"pictures": 1}})
    assert rows.row(whole, "demo", "mine").pretrain is None


def test_an_ablation_that_changes_nothing_is_its_method():
    whole = with_ablation(set_={"loss": {"delta": REAL["loss"]["delta"]}})
    assert rows.alias(whole, "demo", "mine") == "proseco"
    whole["ablations"]["mine"]["set"]["loss"]["delta"] = 0.123
    assert rows.alias(whole, "demo", "mine") == "mine"
    assert rows.alias(whole, "demo", "proseco") == "proseco"


@pytest.mark.parametrize(("name", "of"), [("best", "proseco_swav"), ("base", "base"), ("sce", "sce")])
def test_the_best_setting_of_table_3_is_the_method_itself(name, of):
    assert rows.alias(REAL, "paper", name) == of


def test_table_3_as_the_paper_prints_it():
    """Section 4.3 and Table 3: batch size, short edges, temperature tau_t and EMA rate."""
    found = {}
    for name in ("base", "batch", "scale", "temperature", "ema_0p99", "ema_0p999", "best"):
        row = rows.row(REAL, "paper", name)
        edges, schedule = row.views["weak"]["short_edges"], row.pretrain["schedule"]
        size = {range(320, 481, 16): "mid", range(480, 801, 32): "large"}[
            range(edges[0], edges[-1] + 1, edges[1] - edges[0])
        ]
        found[name] = (schedule["batch"], size, row.loss["tau_t"], row.pretrain["method"]["ema_rate"])
    assert found == {
        "base": (64, "mid", 0.05, 0.996),
        "batch": (192, "mid", 0.05, 0.996),
        "scale": (64, "large", 0.05, 0.996),
        "temperature": (64, "mid", 0.07, 0.996),
        "ema_0p99": (64, "mid", 0.05, 0.99),
        "ema_0p999": (64, "mid", 0.05, 0.999),
        "best": (64, "large", 0.07, 0.999),
    }


def test_a_row_may_change_the_pretraining_of_its_plugin():
    """Section 4.3: ProSeCo is pretrained for 120 epochs on COCO, 10 on ImageNet."""
    row, base = rows.row(REAL, "paper", "proseco_coco"), rows.row(REAL, "paper", "proseco_swav")
    assert row.pretrain == rows.merged(base.pretrain, {"schedule": {"epochs": 120}})
    assert (row.data, base.data) == ("coco", "main") and base.pretrain["schedule"]["epochs"] == 10


def test_a_set_of_images_may_have_proposals_of_its_own():
    section = {
        "proposals": {"name": "selective_search", "mode": "fast"},
        "filter": {"min_side": None, "limit": 9},
        "unlabelled": {
            "main": {"root": "scenes"},
            "other": {"root": "scenes", "proposals": {"name": "random"}},
            "few": {"root": "scenes", "filter": {"limit": 3}},
            "more": {"root": "coco"},
        },
    }
    search, kept = section["proposals"], section["filter"]
    assert rows.proposals(section, "main") == {"proposals": search, "filter": kept} == rows.proposals(section, "more")
    assert rows.proposals(section, "other") == {"proposals": {"name": "random"}, "filter": kept}
    assert rows.proposals(section, "few") == {"proposals": search, "filter": {"min_side": None, "limit": 3}}

    def sources(*unlabelled):
        params = {"run": {"unlabelled": unlabelled}, "scales": {"demo": {"propose": section}}}
        return rows.proposal_sources(params, "demo")

    assert sources("main") == sources("more", "main") == {"main": "selective_search"}
    assert list(sources("few", "main", "other", "more").items()) == [
        ("main", "main: selective_search"),
        ("few", "few: selective_search"),
        ("other", "other: random"),
    ]


def test_a_row_with_other_proposals_differs_in_nothing_else():
    row, base = rows.row(REAL, "demo", "proseco_random"), rows.row(REAL, "demo", "proseco")
    assert replace(row, name=base.name, title=base.title, data=base.data) == base and row.data == "random"
    images = REAL["scales"]["demo"]["propose"]["unlabelled"]
    assert {key: images["random"][key] for key in ("root", "subset")} == images["main"]


@pytest.mark.parametrize("name", REAL["selections"])
@pytest.mark.parametrize("scale", REAL["scales"])
def test_every_selection_resolves_at_every_scale(name, scale):
    whole = REAL | {"scale": scale, "run": selection.names(REAL, name)}
    settings = plan.resolve(whole)
    for row in rows.names(whole):
        assert f"pretrain/{row}.json" in settings and row in settings["backbone.json"]["files"]
    for row in whole["run"]["ablations"]:
        made = {key for key in settings if key.startswith(f"finetune/{row}/")}
        assert made == {f"finetune/{row}/{benchmark}.json" for benchmark in whole["run"]["ablation_benchmarks"]}


def test_what_the_selections_fill_of_the_papers_tables():
    """``paper`` every cell, at paper scale; ``full`` something of each table, at the demo's."""
    printed = paper.read()
    cells = set(zip(printed["table"], printed["row"], printed["benchmark"], strict=True))
    found = {}
    for name, scale in (("paper", "paper"), ("full", "demo")):
        run = REAL["selections"][name]
        grid = {*product(run["methods"], run["benchmarks"]), *product(run["ablations"], run["ablation_benchmarks"])}
        found[name] = {
            (table, row, benchmark)
            for table, row, benchmark in cells
            if (rows.alias(REAL, scale, row), benchmark) in grid
        }
    assert found["paper"] == cells
    assert {table for table, _, _ in found["full"]} == set(printed["table"])


def test_no_selection_of_that_name():
    with pytest.raises(InputError, match="no selection named 'al'; there is full"):
        selection.names(REAL, "al")


def test_a_method_may_have_views_of_its_own():
    """DETReg's and UP-DETR's are smaller than the scale's; what they do not name is the scale's."""
    views, ours = (rows.row(REAL, "paper", name).views for name in ("proseco", "updetr"))
    assert max(views["weak"]["short_edges"]) == 800 and max(ours["weak"]["short_edges"]) == 480
    assert ours["weak"]["crop_probability"] == 0 and ours["weak"]["crop_max"] == views["weak"]["crop_max"]
    assert ours["strong"] == views["strong"]
    whole = with_ablation(of="detreg", set_={"pretrain": {"views": {"weak": {"long_edge": 500}}}})
    changed = rows.row(whole, "paper", "mine").views["weak"]
    assert changed["long_edge"] == 500 and max(changed["short_edges"]) == 480
    assert plan.pretraining(whole, rows.row(whole, "paper", "mine"))["views"]["weak"] == changed
