"""A cell of the paper's tables, read from results written here."""

import json
import math

import pytest
import torch

from proseco.base.errors import InputError
from proseco.tables import cells
from proseco.training import devices
from tests.tables.trees import COMMIT, put, write

AP = {("proseco", "few"): {0: 8.0, 1: 11.0, 2: 14.0}, ("base", "few"): {0: 1.0}}


@pytest.fixture
def results(tmp_path):
    return write(tmp_path / "demo", AP)


def test_the_figures_are_those_of_the_files(results):
    cell = cells.read(results, "proseco", "few", [2, 0, 1, 2])
    assert (cell.seeds, cell.labels, cell.values["AP"]) == ((2, 0, 1), (24, 24, 24), (14.0, 8.0, 11.0))
    assert cell.figure("AP") == pytest.approx((11.0, 3.0)) and cell.figure("AP75") == pytest.approx((5.5, 1.5))
    write(results, {("proseco", "few"): {2: 5.0}})
    assert cells.read(results, "proseco", "few", [2]).figure("AP")[0] == 5.0


def test_what_was_not_run_is_none_and_a_seed_less_is_one_less(results):
    assert cells.read(results, "proseco", "many", [0]) is None
    assert cells.read(results, "proseco", "few", [7]) is None
    (results / "finetune/proseco/few/1/metrics.json").unlink()
    assert cells.read(results, "proseco", "few", [0, 1, 2]).seeds == (0, 2)
    mean, deviation = cells.read(results, "base", "few", [0, 1]).figure("AP")
    assert mean == 1.0 and math.isnan(deviation)


def test_where_a_training_ran_is_no_parameter():
    facts = devices.facts(torch.device("cpu"), torch.float32)
    assert facts.keys() - cells._SURROUNDINGS == {"precision"}


def test_what_made_it(results):
    made = cells.read(results, "proseco", "few", [0, 1]).made
    assert made["commit"] == made["pretrain_commit"] == (COMMIT,)
    assert made["start"] == ("5a" * 16,) and made["annotations"] == (f"{0:032x}", f"{1:032x}")
    assert made["pretrain_data"] == (f"backbone={'bb' * 16} shards={'ee' * 16}",)
    assert len(made["parameters"]) == 1 and len(made["parameters"][0]) == 32


@pytest.mark.parametrize(
    ("file", "change", "another"),
    [
        ("finetune/proseco/few/0/run.json", {"schedule": {"batch": 5}}, True),
        ("pretrain/proseco/run.json", {"plan": {"method": "proseco", "lr": 1}}, True),
        ("finetune/proseco/few/0/run.json", {"device": "cuda", "commit": "f" * 40, "dirty": True}, False),
        ("finetune/proseco/few/0/run.json", {"start": "ff" * 16}, False),
    ],
)
def test_the_digest_is_of_the_parameters_alone(results, file, change, another):
    before = cells.read(results, "proseco", "few", [0]).made["parameters"]
    put(results / file, json.loads((results / file).read_text()) | change)
    assert (cells.read(results, "proseco", "few", [0]).made["parameters"] != before) is another


def test_seeds_of_different_commits_are_seen(results):
    assert not cells.read(results, "proseco", "few", [0, 1]).mixed
    write(results, {("proseco", "few"): {1: 11.0}}, commit="f" * 40)
    assert cells.read(results, "proseco", "few", [0, 1]).mixed
    assert not cells.read(results, "proseco", "few", [1]).mixed


@pytest.mark.parametrize("file", ["finetune/proseco/few/0/run.json", "pretrain/proseco/run.json"])
def test_a_result_that_does_not_say_what_made_it_is_refused(results, file):
    (results / file).unlink()
    with pytest.raises(InputError, match=file):
        cells.read(results, "proseco", "few", [0])


def test_a_result_in_the_wrong_place_is_refused(results):
    write(results, {("proseco", "few"): {0: 3.0}}, method="detreg")
    with pytest.raises(InputError, match="says method 'detreg'"):
        cells.read(results, "proseco", "few", [0])
