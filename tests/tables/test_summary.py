"""Tables: figures worked out by hand from folders of results written here."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from proseco.base.errors import InputError
from proseco.tables import overview, paper
from proseco.tables.layout import number
from proseco.tables.overview import ablations, markdown, verdict
from proseco.tables.summary import collect, csv, metrics, summarise
from tests.tables.trees import write

METHODS = {"supervised": "Supervised", "proseco": "ProSeCo"}
BENCHMARKS = {"few": "Few", "many": "Many"}
#: (method, benchmark) -> AP by seed. Differences on few: 2, 3, 4 (mean 3, deviation 1); on many: 1, -2, 2.5 (mean .5).
AP = {
    ("supervised", "few"): {0: 6.0, 1: 8.0, 2: 10.0},
    ("proseco", "few"): {0: 8.0, 1: 11.0, 2: 14.0},
    ("supervised", "many"): {0: 20.0, 1: 24.0, 2: 20.5},
    ("proseco", "many"): {0: 21.0, 1: 22.0, 2: 23.0},
}


@pytest.fixture
def results(tmp_path):
    return write(tmp_path / "demo", AP)


@pytest.fixture
def summary(results):
    return summarise(collect(results, METHODS, BENCHMARKS, [0, 1, 2]))


def row(summary, method, benchmark):
    return summary[(summary["method"] == method) & (summary["benchmark"] == benchmark)].iloc[0]


def grids(text):
    """Markdown tables of a text: first cell of a line -> its other cells."""
    tables_ = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    lines = [[[cell.strip() for cell in line.strip("|").split("|")] for line in table] for table in tables_]
    return [{cells[0]: cells[1:] for cells in table} for table in lines]


def grid(text):
    (only,) = grids(text)
    return only


def test_collect_reads_the_selected_cells_and_no_others(results):
    write(results, {("detreg", "few"): {0: 50.0}})  # a left-over of an entry that was removed
    frame = collect(results, METHODS, {"few": "Few"}, [2, 0])
    assert list(zip(frame["method"], frame["seed"], frame["AP"], strict=True)) == [
        ("supervised", 2, 10.0),
        ("proseco", 2, 14.0),
        ("supervised", 0, 6.0),
        ("proseco", 0, 8.0),
    ]
    assert set(frame["labels"]) == {24}


def test_results_of_before_that_do_not_say_their_test_images(results):
    path = results / "finetune/proseco/few/1/metrics.json"
    record = json.loads(path.read_text())
    del record["test_images"]
    path.write_text(json.dumps(record))
    assert len(collect(results, METHODS, BENCHMARKS, [1])) == 4


def test_a_missing_cell_names_its_file_and_the_command(results):
    missing = results / "finetune/proseco/many/1/metrics.json"
    missing.unlink()
    with pytest.raises(InputError) as error:
        collect(results, METHODS, BENCHMARKS, [0, 1])
    assert missing.as_posix() in str(error.value)
    assert "`dvc repro finetune@demo-proseco-many-1`" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "detreg"}, "says method 'detreg', but stands in the place of 'proseco'"),
        ({"seed": 7}, "says seed 7"),
        ({"AP75": None}, "no number under 'AP75'"),
        ({"AP": float("nan")}, "no number under 'AP'"),
        ({"labels": 25}, "few, seed 1: not the same number of labelled images: supervised 24, proseco 25"),
        ({"test_images": 3}, "few, seed 1: not the same number of test images: supervised 50, proseco 3"),
        ({"scoring": "voc"}, "few, seed 1: not the same rule of scoring: supervised coco, proseco voc"),
        ({"AP50": 250.0}, r"metrics\.json' has AP50 250\.0; expected 0 to 100"),
        ({"AP": -3.0}, r"metrics\.json' has AP -3\.0; expected 0 to 100"),
    ],
)
def test_a_cell_that_is_not_what_it_should_be_is_refused(results, change, message):
    write(results, {("proseco", "few"): {1: 3.0}}, **change)
    with pytest.raises(InputError, match=message):
        collect(results, METHODS, BENCHMARKS, [0, 1])


def test_nothing_selected_is_refused(results):
    with pytest.raises(InputError, match="nothing to tabulate"):
        collect(results, METHODS, BENCHMARKS, [])


def test_mean_and_deviation_by_hand(summary):
    few = row(summary, "proseco", "few")
    assert (few["n"], few["seeds"], few["labels"]) == (3, (0, 1, 2), (24, 24, 24))
    assert (few["AP"], few["AP50"], few["AP75"]) == pytest.approx((11.0, 21.0, 5.5))
    assert (few["AP_std"], few["AP50_std"], few["AP75_std"]) == pytest.approx((3.0, 3.0, 1.5))
    assert few["AP_values"] == (8.0, 11.0, 14.0)


def test_the_gain_is_paired_by_seed(summary):
    few, many = row(summary, "proseco", "few"), row(summary, "proseco", "many")
    assert (few["AP_gain"], few["AP_gain_std"]) == pytest.approx((3.0, 1.0))
    # differences 1, -2, 2.5 about their mean .5: (.25 + 6.25 + 4) / 2 = 5.25
    assert (many["AP_gain"], many["AP_gain_std"]) == pytest.approx((0.5, math.sqrt(5.25)))
    assert (few["AP75_gain"], few["AP75_gain_std"]) == pytest.approx((1.5, 0.5))
    own = row(summary, "supervised", "few")
    assert own["n_gain"] == 0
    assert math.isnan(own["AP_gain"])


def test_a_seed_without_partner_stays_out_of_the_gain(results):
    frame = collect(results, METHODS, {"few": "Few"}, [0, 1, 2])
    summary = summarise(frame[~((frame["method"] == "supervised") & (frame["seed"] == 2))])
    few = row(summary, "proseco", "few")
    assert (few["n"], few["n_gain"], few["AP_gain"]) == (3, 2, 2.5)


def test_the_reference_is_supervised_else_the_first(results):
    write(results, {("scrl", "few"): {0: 7.0}})
    order = {"proseco": "ProSeCo", "scrl": "SCRL"}
    summary = summarise(collect(results, order, {"few": "Few"}, [0]))
    assert row(summary, "scrl", "few")["AP_gain"] == -1.0
    summary = summarise(collect(results, order | METHODS, {"few": "Few"}, [0]))
    assert row(summary, "scrl", "few")["AP_gain"] == 1.0


def test_markdown_by_hand(summary):
    text = markdown(summary, caption="Made scenes, 200 steps.")
    assert text.startswith("Made scenes, 200 steps.\n\nLabelled images: 24 (Few), 1,200 (Many).")
    assert "over seeds 0, 1, 2" in text
    table = grid(text)
    assert table["Method"] == ["Few<br>AP", "AP50", "AP75", "Many<br>AP", "AP50", "AP75"]
    assert table["ProSeCo"] == ["11.0 ± 3.0", "21.0 ± 3.0", "5.5 ± 1.5", "22.0 ± 1.0", "32.0 ± 1.0", "11.0 ± 0.5"]
    assert table["gain of ProSeCo"][:4] == ["+3.0 ± 1.0", "+3.0 ± 1.0", "+1.5 ± 0.5", "+0.5 ± 2.3"]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_verdict_follows_from_the_figures(summary, results):
    assert verdict(summary) == (
        "AP of ProSeCo against Supervised: a gain larger than its deviation over 3 seeds (by chance alone in "
        "11 % of cases) on Few (+3.0 ± 1.0); "
        "a gain not larger than its deviation over 3 seeds on Many (+0.5 ± 2.3)."
    )
    write(results, {("proseco", "few"): {0: 5.0, 1: 8.0, 2: 9.5}})
    worse = summarise(collect(results, METHODS, {"few": "Few"}, [0, 1, 2]))
    assert verdict(worse) == "AP of ProSeCo against Supervised: no gain on Few (-0.5 ± 0.5)."
    assert markdown(worse, caption="x").endswith("no gain on Few (-0.5 ± 0.5).\n")
    alone = summarise(collect(results, {"proseco": "ProSeCo"}, BENCHMARKS, [0]))
    assert verdict(alone) == "Only ProSeCo was run: there is no gain to speak of."


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((0.0, 1.0, 2.0), "a gain not larger than its deviation over 3 seeds on Few (+1.0 ± 1.0)"),
        ((-1.0, 0.0, 1.0), "no gain on Few (+0.0 ± 1.0)"),
    ],
)
def test_a_gain_as_large_as_its_deviation_is_none_larger_and_zero_is_none(results, gains, words):
    write(results, {("proseco", "few"): {seed: 6.0 + 2 * seed + gain for seed, gain in enumerate(gains)}})
    assert verdict(summarise(collect(results, METHODS, {"few": "Few"}, [0, 1, 2]))).endswith(f": {words}.")


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_how_often_chance_alone_gives_a_gain_larger_than_its_deviation(seeds):
    gains = np.random.default_rng(0).normal(size=(200_000, seeds))
    share = (gains.mean(1) > gains.std(1, ddof=1)).mean()
    assert float(overview._chance(seeds).removesuffix(" %")) == pytest.approx(100 * share, abs=0.6)


def test_one_seed_has_no_deviation(results):
    summary = summarise(collect(results, METHODS, {"few": "Few"}, [1]))
    text = markdown(summary, caption="x")
    assert grid(text)["ProSeCo"] == ["11.0", "21.0", "5.5"]
    assert "±" not in text
    assert "one seed (1), no deviation" in text
    assert "a gain of unknown deviation (one seed) on Few (+3.0)" in text
    assert "AP_std" not in metrics(summary)["few"]["proseco"]
    assert csv(summary).splitlines()[2].startswith("proseco,ProSeCo,few,Few,1,1,24,11.0000,,11.0000,3.0000,,1,")


def test_the_paper_stands_beside_ours(tmp_path):
    values = {("supervised", "mini_voc_5"): {0: 33.0}, ("proseco", "mini_voc_5"): {0: 46.5}}
    values |= {("supervised", "mini_coco_1"): {0: 13.5}, ("proseco", "mini_coco_1"): {0: 18.0}}
    write(tmp_path / "paper", values)
    benchmarks = {"mini_voc_5": "Mini-VOC 5 %", "mini_coco_1": "Mini-COCO 1 %"}
    summary = summarise(collect(tmp_path / "paper", METHODS, benchmarks, [0]))
    text = markdown(summary, paper=paper.read(), caption="x")
    voc, coco = grids(text)  # nine and five columns: too wide for one
    beside = ["paper", "difference"]
    assert voc["Method"] == ["Mini-VOC 5 %<br>AP", *beside, "AP50", *beside, "AP75", *beside]
    assert voc["ProSeCo"][:6] == ["46.5", "46.1", "+0.4", "56.5", "66.1", "-9.6"]
    assert voc["gain of ProSeCo"][:3] == ["+13.5", "+12.2", "+1.3"]
    assert voc["`detreg`"][:3] == ["not run", "43.1", "-"]
    assert "`soco`" not in voc
    assert coco["Method"] == ["Mini-COCO 1 %<br>AP", *beside, "AP50", "AP75"]
    assert coco["Supervised"] == ["13.5", "13.0", "+0.5", "23.5", "6.8"]
    assert coco["`scrl`"] == ["not run", "16.4", "-", "not run", "not run"]


def test_where_the_paper_has_no_figure_there_is_a_dash(summary):
    table = grid(markdown(summary, paper=paper.read(), caption="x"))
    assert table["ProSeCo"][:3] == ["11.0 ± 3.0", "-", "-"]


def test_ablations_have_a_line_each_with_their_gain(results):
    write(results, {("huber", "few"): {0: 7.0, 1: 8.0, 2: 12.0}, ("cosine", "few"): {0: 1.0, 1: 2.0, 2: 3.0}})
    methods = METHODS | {"huber": "Huber", "cosine": "Co|sine"}
    found = summarise(collect(results, methods, {"few": "Few"}, [0, 1, 2]))
    found = found[found["method"].isin(["huber", "cosine"])]
    text = ablations(
        found, "Supervised", method_titles={"huber": "ProSeCo", "cosine": "SoCo"}, steps={"huber": 1500, "cosine": 0}
    )
    said = grid(text.replace("\\|", "/"))
    assert said["Ablation"][2:] == ["Few<br>AP", "AP50", "AP75", "gain of AP over Supervised"]
    assert said["Huber"] == ["ProSeCo", "1,500", "9.0 ± 2.6", "19.0 ± 2.6", "4.5 ± 1.3", "+1.0 ± 1.0"]
    assert said["Co/sine"][:3] == ["SoCo", "0", "2.0 ± 1.0"]


def test_a_bar_in_a_title_does_not_break_the_table(results):
    summary = summarise(collect(results, {"proseco": "Pro|SeCo"}, {"few": "Few"}, [0]))
    assert "| Pro\\|SeCo | 8.0 |" in markdown(summary, caption="x")


def test_metrics_are_rounded_and_equal_on_a_rerun(summary, results):
    found = metrics(summary)
    assert found["few"]["proseco"] == {"AP": 11.0, "AP_std": 3.0, "AP50": 21.0, "AP75": 5.5}
    assert found["gain"]["many"] == {"proseco": {"AP": 0.5, "AP_std": 2.29, "AP50": 0.5, "AP75": 0.25}}
    before = json.dumps(found, sort_keys=True), csv(summary), markdown(summary, caption="x")
    write(results, AP, seconds=99.0)  # the machine was slower this time
    again = summarise(collect(results, METHODS, BENCHMARKS, [0, 1, 2]))
    after = json.dumps(metrics(again), sort_keys=True), csv(again), markdown(again, caption="x")
    assert before == after


@pytest.mark.parametrize(
    ("value", "std", "signed", "text"),
    [(12.34, 0.06, False, "12.3 ± 0.1"), (-0.04, math.nan, True, "+0.0"), (math.nan, math.nan, True, "-")],
)
def test_number(value, std, signed, text):
    assert number(value, std, signed=signed) == text


def test_no_torch():
    code = "import sys, proseco.tables.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
