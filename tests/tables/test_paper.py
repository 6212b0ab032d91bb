"""``paper.csv`` against itself: the paper prints many figures twice, and says differences in its text."""

import math

import pytest

from proseco.tables import paper

PAPER = paper.read()


def figure(table, row, benchmark, metric="AP"):
    (value,) = PAPER.loc[(PAPER[["table", "row", "benchmark"]] == [table, row, benchmark]).all(axis=1), metric]
    return value


def test_every_cell_is_there_once():
    sizes = {"1a": 24, "1b": 15, "2a": 4, "2b": 4, "3": 7, "6": 6, "7": 9, "8": 6, "9": 8, "10": 3, "11": 12}
    assert PAPER["table"].value_counts().to_dict() == sizes
    assert not PAPER.duplicated(["table", "row", "benchmark"]).any()
    assert PAPER[["AP", "AP50", "AP75"]].stack().dropna().between(5, 85).all()
    # Two dashes in Table 1a: the convolutional detectors on 1 %.
    assert set(PAPER.loc[PAPER["AP"].isna(), "row"]) == {"mask_rcnn", "soco"}
    assert PAPER["AP"].isna().sum() == 2


def test_tables_agree_where_they_repeat_each_other():
    for table in ("7", "8"):
        for line in PAPER[PAPER["table"] == table].itertuples():
            assert line.AP75 < line.AP50 > line.AP == figure("1b", line.row, line.benchmark)
    for line in PAPER[PAPER["table"] == "2b"].itertuples():
        assert figure("6", line.row, line.benchmark) == line.AP
    for benchmark in ("mini_coco_1", "mini_coco_5", "mini_coco_10"):
        exact = figure("11", "supervised", benchmark)
        assert abs(exact - figure("1a", "supervised", benchmark)) <= 0.0501
    best = {
        figure("2a", "proseco_swav", "mini_coco_5"),
        figure("2b", "best", "mini_coco_5"),
        figure("9", "best", "mini_coco_5"),
        PAPER.loc[PAPER["table"] == "3", "AP"].max(),
    }
    assert best == {27.8}
    assert figure("2a", "proseco", "mini_coco_5") == figure("1a", "proseco", "mini_coco_5")


def test_differences_are_those_of_the_text():
    five = {m: paper.figure(PAPER, m, "mini_coco_5") for m in set(PAPER["row"])}
    assert five["proseco"] - five["supervised"] == pytest.approx(5.2)  # Section 4.2
    assert five["proseco"] - five["soco"] == pytest.approx(2.0)  # "over both overall pretraining methods"
    assert five["proseco"] - five["proseco_swav"] == pytest.approx(1.0)  # Section 4.3
    assert five["proseco_swav"] - five["detreg"] == pytest.approx(1.7)
    assert five["proseco_swav"] - five["proseco_coco"] == pytest.approx(0.4)
    table = PAPER[PAPER["table"] == "3"].set_index("variant")["AP"]
    base = "batch=64 scale=320-480 tau_t=0.05 ema_rate=0.996"
    gains = [("64", "192", -0.2), ("320-480", "480-800", 0.7), ("0.05", "0.07", 0.3), ("0.996", "0.999", 0.1)]
    for old, new, gain in gains:
        assert table[base.replace(f"={old}", f"={new}")] - table[base] == pytest.approx(gain)


def test_an_ablation_is_no_method_of_its_own():
    assert paper.figure(PAPER, "proseco_swav", "mini_coco_5") == 27.8
    assert paper.figure(PAPER, "supervised", "mini_coco_0p5") == 8.95
    assert paper.figure(PAPER, "proseco", "voc_0712", "AP75") == 73.0
    assert math.isnan(paper.figure(PAPER, "soco", "mini_coco_1"))
    methods = paper.methods(PAPER, ["mini_coco_5"])
    assert len(methods) == 13 and not {"base", "best", "sce", "queries_100", "supervised_100"} & set(methods)
