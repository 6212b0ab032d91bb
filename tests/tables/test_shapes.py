"""The paper's tables: their shape, their figures, and that nothing but a result file fills a cell."""

from itertools import product
from pathlib import Path

import pytest

from proseco.experiment import wording
from proseco.tables import paper, shapes
from proseco.tables.layout import NOT_RUN
from tests import params_file
from tests.tables.trees import write

PARAMS = params_file.parameters()
TITLES = {name: entry["title"] for name, entry in PARAMS["benchmarks"].items()}
RUN = [*product(["supervised", "proseco", "proseco_swav"], ["mini_coco_5", "mini_voc_10"]), ("sce", "mini_coco_5")]


def build(results, scale="paper", *, selected=RUN, seeds=(0, 1), alias=None, rows=None, **changes):
    rows = wording.describe_all(PARAMS, scale) if rows is None else rows
    alias = wording.alias(PARAMS, scale) if alias is None else alias
    options = {
        "benchmarks": TITLES,
        "selected": selected,
        "seeds": seeds,
        "compare_with_paper": scale == "paper",
    } | changes
    return {table.name: table for table in shapes.build(results, rows=rows, alias=alias, **options)}


def figure(tables, table, row, benchmark, metric="AP"):
    lines = [line for line in tables[table].lines if line.row == row]
    (found,) = [f for f in lines[0].figures if (f.benchmark, f.metric) == (benchmark, metric)]
    return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return build(tmp_path_factory.mktemp("paper"))


@pytest.fixture
def results(tmp_path):
    return write(tmp_path / "paper", {cell: {0: 20.0, 1: 22.0} for cell in RUN})


def test_every_line_of_the_paper_is_in_one_cell(empty):
    found = [(t.name, line.row, f.benchmark, f.metric, f.paper) for t in empty.values() for line, f in cells_of(t)]
    printed = {cell[:4]: cell[4] for cell in found if cell[4] == cell[4]}
    assert len(found) == len({cell[:4] for cell in found})
    wanted = {
        (line["table"], line["row"], line["benchmark"], metric): line[metric]
        for line in paper.read().to_dict("records")
        for metric in paper.METRICS
        if line[metric] == line[metric]
    }
    assert printed == wanted
    # 98 lines, two of them dashes; AP50 and AP75 beside AP in 18 of them.
    assert len(printed) == 98 - 2 + 2 * 18
    deviations = [f.paper_std for t in empty.values() for f in t.figures if f.paper_std == f.paper_std]
    assert len(deviations) == 12


def cells_of(table):
    return [(line, figure) for line in table.lines for figure in line.figures]


def test_figures_of_the_paper_read_off_by_hand(empty):
    assert figure(empty, "1a", "detreg_coco", "mini_coco_5").paper == 26.7
    assert figure(empty, "1b", "proseco", "fsod_train").paper == 47.2
    assert figure(empty, "3", "ema_0p99", "mini_coco_5").paper == 26.3
    assert figure(empty, "7", "detreg", "mini_voc_5", "AP75").paper == 46.1
    assert figure(empty, "8", "supervised", "fsod_test", "AP50").paper == 57.7
    assert figure(empty, "10", "proseco", "coco_1x", "AP75").paper == 42.4
    found = figure(empty, "11", "faster_rcnn", "mini_coco_10")
    assert (found.paper, found.paper_std, found.text("paper")) == (23.86, 0.81, "23.86 ± 0.81")


def test_the_shapes_are_the_papers(empty):
    sizes = {name: (len(table.lines), len(table.heads)) for name, table in empty.items()}
    assert sizes == {
        **{"1a": (8, 3), "1b": (3, 5), "2a": (4, 1), "2b": (4, 1), "3": (7, 1), "6": (6, 1)},
        **{"7": (3, 9), "8": (3, 6), "9": (8, 1), "10": (3, 3), "11": (3, 4)},
    }
    assert all(f.text("ours") == NOT_RUN for table in empty.values() for f in table.figures)
    assert [head.name for head in empty["7"].heads[:3]] == ["AP", "AP50", "AP75"]
    assert {head.group for head in empty["7"].heads[:3]} == {"VOC 07+12"}


def test_table_3_has_the_checks_of_the_paper(empty):
    table = empty["3"]
    heads = [(head.group, head.name) for head in table.texts[1:]]
    ticked = {line.row: [heads[i][1] for i, text in enumerate(line.texts[1:]) if text] for line in table.lines}
    assert ticked == {
        "base": ["64", "Mid", "0.05", "0.996"],
        "batch": ["192", "Mid", "0.05", "0.996"],
        "scale": ["64", "Large", "0.05", "0.996"],
        "temperature": ["64", "Mid", "0.07", "0.996"],
        "ema_0p99": ["64", "Mid", "0.05", "0.99"],
        "ema_0p999": ["64", "Mid", "0.05", "0.999"],
        "best": ["64", "Large", "0.07", "0.999"],
    }
    assert heads[:4] == [
        ("Batch size", "64"),
        ("Batch size", "192"),
        ("Images scale", "Mid"),
        ("Images scale", "Large"),
    ]


def test_the_words_of_lines_are_their_settings(empty):
    assert [line.texts for line in empty["2b"].lines] == [
        ("SCE", "1.0"), ("LocSCE", "0.2"), ("LocSCE", "0.7"), ("LocSCE", "0.5"),
    ]  # fmt: skip
    assert [line.texts[1] for line in empty["9"].lines] == ["100", "200", "300", "500"] * 2
    assert empty["1a"].lines[0].texts == ("Supervised", "Def. DETR", "IN")
    changed = wording.describe_all(PARAMS, "paper")
    changed["locsce_0p2"] |= {"delta": 0.25}
    tables = build(Path("none"), rows=changed)
    assert tables["2b"].lines[1].texts == tables["6"].lines[3].texts == ("LocSCE", "0.25")


def test_a_row_that_the_parameters_lack_has_the_papers_words(empty):
    tables = build(Path("none"), rows={})
    for name in ("2b", "3", "6"):
        assert [line.texts[1:] for line in tables[name].lines] == [line.texts[1:] for line in empty[name].lines], name
    assert [line.texts[1] for line in tables["9"].lines] == ["100", "200", "300", "500"] * 2
    assert tables["1a"].lines[6].texts == ("soco", "Mask R-CNN", "IN")


def test_ours_the_papers_and_the_difference(results):
    found = figure(build(results), "1a", "proseco", "mini_coco_5")
    assert (found.ours, found.paper) == (21.0, 28.8) and found.difference == pytest.approx(-7.8)
    assert [found.text(kind) for kind in ("ours", "paper", "difference")] == ["21.0 ± 1.4", "28.8", "-7.8"]
    assert figure(build(results), "1a", "proseco", "mini_coco_1").text("ours") == NOT_RUN


def test_a_cell_follows_its_file(results):
    write(results, {("proseco", "mini_coco_5"): {0: 30.0}})
    assert figure(build(results), "1a", "proseco", "mini_coco_5").ours == 26.0
    for seed in (0, 1):
        (results / f"finetune/proseco/mini_coco_5/{seed}/metrics.json").unlink()
    tables = build(results)
    assert figure(tables, "1a", "proseco", "mini_coco_5").text("ours") == NOT_RUN
    assert figure(tables, "2a", "proseco", "mini_coco_5").text("ours") == NOT_RUN
    assert figure(tables, "2a", "proseco_swav", "mini_coco_5").ours == 21.0


def test_what_the_run_does_not_select_is_not_run_whatever_files_there_are(results):
    write(results, {("detreg", "mini_coco_5"): {0: 50.0}, ("proseco", "mini_coco_10"): {0: 50.0}})
    tables = build(results)
    assert figure(tables, "1a", "detreg", "mini_coco_5").text("ours") == NOT_RUN
    assert figure(tables, "1a", "proseco", "mini_coco_10").text("ours") == NOT_RUN
    assert figure(build(results, seeds=[0]), "1a", "proseco", "mini_coco_5").ours == 20.0


def test_a_row_under_another_name_has_its_results(results):
    """At paper scale the best setting of Table 3 is row proseco_swav."""
    tables = build(results)
    assert figure(tables, "3", "best", "mini_coco_5").cell.row == "proseco_swav"
    assert figure(tables, "9", "best", "mini_coco_5").ours == figure(tables, "2b", "best", "mini_coco_5").ours == 21.0
    assert not figure(build(results, alias={}), "3", "best", "mini_coco_5").run
    write(results, {("best", "mini_coco_5"): {0: 5.0}})
    own = build(results, selected=[("best", "mini_coco_5")])
    assert figure(own, "3", "best", "mini_coco_5").ours == 5.0


def test_marks_of_mixed_commits_and_of_missing_seeds(results):
    tables = build(results)
    assert tables["1a"].notes == []
    write(results, {("proseco", "mini_coco_5"): {1: 22.0}}, commit="f" * 40)
    (results / "finetune/sce/mini_coco_5/1/metrics.json").unlink()
    tables = build(results)
    assert figure(tables, "1a", "proseco", "mini_coco_5").text("ours") == "21.0 ± 1.4†"
    assert tables["1a"].notes == ["† seeds of different commits"]
    assert figure(tables, "2b", "sce", "mini_coco_5").text("ours") == "20.0‡"
    assert tables["2b"].notes == ["‡ fewer seeds than `run.seeds` asks for"]


def test_a_method_that_the_paper_lacks_stands_below(results):
    rows = wording.describe_all(PARAMS, "paper") | {"mine": {"title": "Mine", "detector": "new", "data": "imagenet"}}
    selected = [*RUN, ("mine", "mini_coco_5")]
    assert "mine" not in [line.row for line in build(results, rows=rows, selected=selected)["1a"].lines]
    write(results, {("mine", "mini_coco_5"): {0: 1.0}})
    tables = build(results, rows=rows, selected=selected)
    assert tables["1a"].lines[-1].texts == ("Mine", "new", "IN")
    assert "mine" not in [line.row for name in ("1b", "2a", "3", "10") for line in tables[name].lines]


def test_ablations_on_a_further_benchmark_stand_beside(results):
    write(results, {("sce", "mini_voc_10"): {0: 9.0}})
    tables = build(results, selected=[*RUN, ("sce", "mini_voc_10")])
    assert [head.name for head in tables["2b"].heads] == ["Mini-COCO 5 % (5)", "Mini-VOC 10 % (5)"]
    assert figure(tables, "6", "sce", "mini_voc_10").ours == 9.0
    assert len(tables["3"].heads) == 1


def test_the_demo_has_the_shape_without_the_papers_figures(results):
    tables = build(results, "demo")
    assert not any(f.printed for table in tables.values() for f in table.figures)
    assert tables["1a"].run and not tables["8"].run
    names = [line.texts[0] for line in tables["3"].lines]
    assert names[1] == "Abl. Batch (24)" and "24" in [head.name for head in tables["3"].texts]
    assert [line.texts[1] for line in tables["9"].lines] == ["14", "27", "40", "66"] * 2


def test_checks_are_in_the_order_of_their_values():
    rows = wording.describe_all(PARAMS, "paper")
    rows["base"] |= {"tau_t": 1e-05, "batch": 8, "scale": "96-480"}
    heads = [(head.group, head.name) for head in build(Path("none"), rows=rows)["3"].texts]
    assert heads[1:6] == [("Batch size", n) for n in ("8", "64", "192")] + [
        ("Images scale", "96-480"), ("Images scale", "Mid"),
    ]  # fmt: skip
    assert [name for group, name in heads if "τ" in group] == ["1e-05", "0.05", "0.07"]


def test_all_that_was_run_has_the_papers_figure_from_whichever_table_prints_it(tmp_path):
    """Table 1b has AP alone, Table 7 the other two."""
    rows, selected = wording.describe_all(PARAMS, "paper"), [("proseco", "voc_0712")]
    options = {"rows": rows, "benchmarks": TITLES, "selected": selected, "seeds": [0], "compare_with_paper": True}
    (line,) = shapes.own(write(tmp_path / "paper", {selected[0]: {0: 50.0}}), **options).lines
    wanted = [paper.figure(paper.read(), *selected[0], metric) for metric in paper.METRICS]
    assert [figure.paper for figure in line.figures] == wanted and wanted[2] == 73.0
