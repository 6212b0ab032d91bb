"""The tables of a run that is not over."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from proseco.base import params
from proseco.base.errors import InputError
from proseco.commands import so_far
from tests import params_file
from tests.tables.html import Page
from tests.tables.trees import write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two methods and an ablation, of whose ten finetunings three have ended."""
    monkeypatch.chdir(tmp_path)
    settings = params_file.parameters()
    settings["run"] |= {"ablations": ["sce"], "ablation_benchmarks": ["mini_coco_5"]}
    YAML().dump(settings, Path("params.yaml"))
    values = {("supervised", "mini_coco_5"): {42: 5.0, 43: 6.0}, ("sce", "mini_coco_5"): {43: 9.0}}
    write(tmp_path / "results/demo", values)
    return tmp_path


def test_what_is_done_is_shown_and_what_is_not_is_said(folder, capsys):
    so_far.main()
    said = capsys.readouterr().out
    assert "| Supervised | 5.5 ± 0.7 |" in said and "| SCE | 9.0‡ |" in said and "| ProSeCo | not run |" in said
    assert "\n3 of 10 finetunings have a result" in said and "‡ fewer seeds than" in said.replace("`", "")


def test_nothing_is_done(folder, capsys):
    shutil.rmtree("results")
    so_far.main()
    assert "\n0 of 10 finetunings" in capsys.readouterr().out


def test_the_page_of_nothing_and_at_paper_scale(folder):
    shutil.rmtree("results")
    so_far.main(page_file=Path("nothing.html"))
    page = Page(Path("nothing.html").read_text())
    assert "Table results" not in page.text and "Table 1a." in page.text and "stand beside" not in page.text
    settings = params.load()
    YAML().dump(settings | {"scale": "paper"}, Path("params.yaml"))
    so_far.main(page_file=Path("paper.html"))
    page = Page(Path("paper.html").read_text())
    assert "below it the paper's figure" in page.text and {"results", "table-1a", "table-10"} <= page.ids


def test_the_page(folder):
    so_far.main(page_file=Path("deep/page.html"))
    page = Page(Path("deep/page.html").read_text())
    assert "3 of 10 finetunings" in page.text and {"results", "table-6"} <= page.ids
    with pytest.raises(InputError, match=r"--page-file is 'tables'; it must end in \.html"):
        so_far.main(page_file=Path("tables"))
