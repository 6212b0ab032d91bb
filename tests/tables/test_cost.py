"""Table 5, from what the runs measured."""

import pytest

from proseco.base.errors import InputError
from proseco.tables import cost
from tests.tables.trees import put

ROWS = {"proseco": {"title": "ProSeCo"}, "detreg": {"title": "DETReg"}, "best": {"title": "Best", "of": "proseco"}}
COST = {"images": 90000, "batch": 50, "steps": 1800, "epochs": 18.0, "seconds": 7200.0, "images_per_second": 12.5}
COST |= {"peak_memory": 3 * 2**30, "processes": 2, "hardware": "2 x CPU of 4 cores"}


def build(results, **changes):
    options = {"rows": ROWS, "selected": ["proseco", "detreg"], "alias": {}, "compare_with_paper": True} | changes
    return {line.row: line for line in cost.build(results, **options).lines}


@pytest.fixture
def results(tmp_path):
    put(tmp_path / "pretrain/proseco/cost.json", COST)
    return tmp_path


def test_ours_beside_the_papers(results):
    lines = build(results)
    assert [line.texts for line in lines.values()] == [("soco",), ("ProSeCo",)]
    ours = [figure.text("ours") for figure in lines["proseco"].figures]
    # 1,800 steps in two hours are one in four seconds
    assert ours == ["18.0", "50", "1,800", "2.00", "0.25", "12.5", "3.00", "2 x CPU of 4 cores"]
    theirs = [figure.text("paper") for figure in lines["proseco"].figures]
    assert theirs == ["10.0", "64", "187,000", "40.00", "1.40", "-", "-", "8 A100 40G"]
    assert lines["proseco"].figures[3].text("difference") == "-38.00"
    assert [f.text("paper") for f in lines["soco"].figures][:5] == ["400.0", "2,048", "240,000", "140.00", "0.50"]
    assert not any(figure.run for figure in lines["soco"].figures)


def test_only_rows_of_the_run(results):
    assert not any(figure.run for figure in build(results, selected=["detreg"])["proseco"].figures)
    put(results / "pretrain/detreg/cost.json", COST | {"seconds": 3600.0})
    assert build(results)["detreg"].figures[3].ours == 1.0
    assert "detreg" not in build(results, selected=["proseco"])


def test_the_same_row_stands_there_once(results):
    lines = build(results, selected=["proseco", "best"], alias={"best": "proseco"})
    assert [*lines] == ["soco", "proseco"]


def test_a_cost_without_its_number_is_refused(results):
    put(results / "pretrain/proseco/cost.json", COST | {"seconds": None})
    with pytest.raises(InputError, match=r"cost\.json' has no number under 'seconds', but None"):
        build(results)


def test_without_the_paper(results):
    assert not any(
        figure.printed for line in build(results, compare_with_paper=False).values() for figure in line.figures
    )


def test_memory_that_the_system_does_not_tell(results):
    put(results / "pretrain/proseco/cost.json", COST | {"peak_memory": None})
    assert build(results)["proseco"].figures[6].text("ours") == "-"
