"""The files of the paper's tables, from a whole folder of results."""

import io

import pandas
import pytest

from proseco.experiment import wording
from proseco.tables import published
from tests import params_file
from tests.tables.html import Page
from tests.tables.trees import write

PARAMS = params_file.parameters()
NAMES = ["1a", "1b", "2a", "2b", "3", "5", "6", "7", "8", "9", "10", "11"]
RUN = {"methods": ["supervised", "proseco"], "benchmarks": ["mini_coco_1", "mini_coco_5"], "seeds": [42, 43]}
RUN |= {"ablations": ["sce"], "ablation_benchmarks": ["mini_coco_5"]}
VALUES = {(method, name): {42: 10.0, 43: 11.5} for method in RUN["methods"] for name in RUN["benchmarks"]}


def publish(folder, scale):
    results = write(folder / scale, VALUES | {("sce", "mini_coco_5"): {42: 7.0, 43: 7.5}})
    published.write(
        folder / "out",
        results,
        run=RUN,
        rows=wording.describe_all(PARAMS, scale),
        benchmarks={name: entry["title"] for name, entry in PARAMS["benchmarks"].items()},
        alias=wording.alias(PARAMS, scale),
        families=wording.families(PARAMS),
        compare_with_paper=scale == "paper",
        data=wording.data(PARAMS, scale),
        lead=["A paragraph."],
    )
    return folder / "out"


@pytest.mark.parametrize(("scale", "names"), [("paper", NAMES), ("demo", ["1a", "2a", "2b", "6", "9", "11"])])
def test_the_files(tmp_path, scale, names):
    out = publish(tmp_path, scale)
    wanted = {f"table-{name}.{suffix}" for name in names for suffix in ("md", "csv", "tex")}
    assert {path.name for path in out.iterdir()} == wanted | {"results.tex", "index.html", "trend.png"}
    page = Page((out / "index.html").read_text())
    assert "A paragraph." in page.text
    assert [identifier for name in names if (identifier := f"table-{name}") not in page.ids] == []
    for name in set(NAMES) - set(names):
        assert f"Table {name}. " in page.text and f"table-{name}" not in page.ids


def test_the_page_begins_with_all_that_was_run_rows_and_benchmarks_of_the_users_own_too(tmp_path):
    run = {"methods": ["supervised"], "benchmarks": ["harbour"], "seeds": [1, 2]}
    run |= {"ablations": ["huber"], "ablation_benchmarks": ["harbour"]}
    values = {("supervised", "harbour"): {1: 10.0, 2: 12.0}, ("huber", "harbour"): {1: 20.0, 2: 23.0}}
    own = {"supervised": {"title": "Supervised", "method": "Supervised"}}
    own |= {"huber": {"title": "Huber & Co", "method": "ProSeCo", "of": "proseco"}}
    published.write(
        tmp_path / "out",
        write(tmp_path / "demo", values),
        run=run,
        rows=wording.describe_all(PARAMS, "demo") | own,
        benchmarks={name: entry["title"] for name, entry in PARAMS["benchmarks"].items()} | {"harbour": "Harbour"},
        alias={},
        families={},
        compare_with_paper=False,
        data="",
        lead=[],
    )
    first = Page((tmp_path / "out/index.html").read_text()).tables[0]
    assert [line[:2] for line in first[2:]] == [["Supervised", "11.0 ± 1.4"], ["Huber & Co", "21.5 ± 2.1"]]
    assert any("Harbour" in cell for line in first[:2] for cell in line)
    said = (tmp_path / "out/results.tex").read_text()
    assert r"Huber \& Co & 21.5" in said and "of the paper" not in said


def test_tables_of_drawn_scenes_say_so_and_what_brackets_hold(tmp_path):
    drawn = "Scale demo: drawn scenes under the names of the data sets."
    for scale, said in (("demo", 1), ("paper", 0)):
        out = publish(tmp_path / scale, scale)
        for suffix in ("md", "tex"):
            text = (out / f"table-1a.{suffix}").read_text()
            assert text.count(drawn) == said and "In brackets: labelled images." in text
        assert "(as Table 1a of the paper)" in text
    whole = PARAMS | {"run": PARAMS["run"] | {"benchmarks": ["mini_coco_5", "mine"]}}
    own = {"mine": {"title": "Mine", "root": "../own/mine"}}
    whole["benchmarks"] = PARAMS["benchmarks"] | own
    title = PARAMS["benchmarks"]["mini_coco_5"]["title"]
    assert wording.data(whole, "demo") == f"{title}: drawn scenes under the names of the data sets"
    whole["run"]["benchmarks"] = ["mine"]
    assert wording.data(whole, "demo") == ""


def test_all_formats_say_the_same(tmp_path):
    out = publish(tmp_path, "paper")
    for name in NAMES:
        frame = pandas.read_csv(io.StringIO((out / f"table-{name}.csv").read_text()))
        decimals = 2 if name == "11" else 1
        if name == "5":
            continue  # of mixed units; see test_cost
        for figure in frame.to_dict("records"):
            for key in ("ours", "paper"):
                text = f"{figure[key]:.{decimals}f}"
                said = [(out / f"table-{name}.{suffix}").read_text() for suffix in ("md", "tex")]
                assert figure[key] != figure[key] or all(f" {text}" in one for one in said), (name, figure)


def test_equal_results_give_equal_bytes(tmp_path):
    first, second = publish(tmp_path / "a", "paper"), publish(tmp_path / "b", "paper")
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}
