"""Every format of a table parses back to the same figures, whatever the titles hold."""

import io
import math
import re
import shutil
import subprocess

import pandas
import pytest
from PIL import Image

from proseco.tables import formats, page
from proseco.tables.cells import Cell
from proseco.tables.layout import NOT_RUN, Figure, Head, Line, Table
from tests.tables.html import Page

NASTY = "50 % of A&B_1 | <script>alert('x')</script> {#$~^\\} `c` *d*"
CELL = Cell(
    "proseco",
    "few",
    (0, 1),
    (24, 24),
    {"AP": (10.0, 12.25), "AP50": (20.0, 21.0), "AP75": (1.0, 2.0)},
    dict.fromkeys(("parameters", "annotations", "start", "pretrain_commit"), ("ab" * 16,))
    | {"commit": ("c" * 40, "d" * 40), "pretrain_data": ("backbone=" + "e" * 32,)},
)
OURS = Figure(11.125, 1.59, 10.5, 0.25, marks="†", benchmark="few", metric="AP", cell=CELL)
TABLE = Table(
    "7",
    NASTY,
    (Head("Method"), Head("N")),
    (Head("AP", "Few (24)"), Head("AP50", "Few (24)"), Head("AP", NASTY)),
    (
        Line("proseco", (NASTY, "300"), (OURS, Figure(1234.5, decimals=2), Figure(paper=33.9, metric="AP"))),
        Line("mine", ("Mine", "✓"), (Figure(), Figure(math.nan, paper=2.0), Figure(3.04))),
    ),
)
#: Of each line ours, then the paper's, then the difference.
PRINTED = [
    ["11.1 ± 1.6†", "1,234.50", NOT_RUN],
    ["10.5 ± 0.2", "-", "33.9"],
    ["+0.6", "-", "-"],
    [NOT_RUN, NOT_RUN, "3.0"],
    ["-", "2.0", "-"],
]


def test_markdown():
    text = formats.markdown(TABLE)
    head, rule, *lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert [row[2:] for row in cells] == PRINTED
    assert [row[0] for row in cells[1:]] == ["paper", "difference", "Mine", "paper"]
    assert len(re.split(r"(?<!\\)\|", head)) == len(rule.split("|")) == 7
    assert "<script" not in text and "\n† seeds of different commits.\n" in text
    assert "| Few (24)<br>AP |" in head


def test_latex():
    text = formats.latex(TABLE)
    bare = re.sub(r"\\[{}]", "", text)
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0 and len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    for command in ("toprule", "midrule", "bottomrule", "cmidrule(lr){3-4}", "cmidrule(lr){5-5}"):
        assert text.count(f"\\{command}") == 1
    assert r"\begin{tabular}{llrrr}" in text
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    rows = [line.removesuffix(r" \\") for line in body.splitlines() if line.endswith(r"\\")]
    cells = [re.split(r"(?<!\\)&", row) for row in rows]
    assert {len(row) for row in cells} == {5}
    plain = [[re.sub(r"\$\^\\dagger\$", "†", c).replace(r"$\pm$", "±").strip() for c in row[2:]] for row in cells]
    assert plain == PRINTED
    first = cells[0][0]
    assert first.startswith(r"50 \% of A\&B\_1 \textbar{} \textless{}script") and r"\{\#\$" in first
    assert not re.search(r"(?<!\\)[%#_~^]", re.sub(r"\$[^$]*\$", "", body.replace("\\$", "")))


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here")
def test_latex_compiles(tmp_path):
    begin = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    text = begin + formats.latex(TABLE) + "\\end{document}\n"
    (tmp_path / "table.tex").write_text(text)
    command = ["pdflatex", "-halt-on-error", "-interaction=batchmode", "-no-shell-escape", "table.tex"]
    assert subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert (tmp_path / "table.pdf").stat().st_size > 0


def test_csv():
    text = formats.csv(TABLE)
    frame = pandas.read_csv(io.StringIO(text))
    assert len(frame) == 6 and list(frame["state"]) == ["run", "run", NOT_RUN, NOT_RUN, NOT_RUN, "run"]
    ours = frame.iloc[0]
    assert (ours["ours"], ours["ours_std"], ours["paper"], ours["paper_std"]) == (11.125, 1.59, 10.5, 0.25)
    assert ours["difference"] == 0.625 and ours["text"] == f"{NASTY}, 300"
    assert (ours["seeds"], ours["labels"], ours["values"]) == ("0 1", "24 24", "10.0000 12.2500")
    assert ours["commit"] == f"{'c' * 40} {'d' * 40}" and ours["start"] == "ab" * 16
    assert frame["ours"].notna().tolist() == [True, True, False, False, False, True]
    assert frame["paper"].dropna().tolist() == [10.5, 33.9, 2.0]


@pytest.fixture
def rendered(tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
    empty = Table(
        "8", "Nothing", (Head("Method"),), (Head("AP"),), (Line("sce", ("SCE",), (Figure(benchmark="few"),)),)
    )
    rows = {"sce": {"title": "SCE", "of": "proseco", "unlabelled": "coco"}, "proseco": {"title": "ProSeCo"}}
    chosen = {"scale": "demo", "lead": [NASTY], "pictures": {"A & B": tmp_path / "a.png"}, "rows": rows}
    return lambda compare: page.render([TABLE, empty], compare_with_paper=compare, **chosen)


def test_the_page(rendered):
    parsed = Page(rendered(True))
    first, made, empty = parsed.tables
    assert first[0] == ["", "Few (24)", NASTY] and first[1] == ["Method", "N", "AP", "AP50", "AP"]
    assert first[2] == [NASTY, "300", "11.1 ± 1.6†10.5 ± 0.2 (+0.6)", "1,234.50", "not run33.9"]
    assert first[3] == ["Mine", "✓", "not run", "not run2.0", "3.0"]
    assert made[1][:4] == ["proseco", "few", "0 1", "10.00 12.25"]
    assert made[1][4] == f"{'c' * 10} {'d' * 10}" and made[1][9] == f"backbone={'e' * 10}"
    assert empty[1] == ["SCE", "not run"]
    assert parsed.keys[:3] == ["11.125", "1234.5", ""]
    assert NASTY in parsed.text and "† seeds of different commits" in parsed.text


def test_the_page_needs_no_other_file_and_no_network(rendered):
    parsed = Page(rendered(True))
    assert [address[:23] for address in parsed.addresses if not address.startswith("#")] == ["data:image/webp;base64,"]
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= parsed.ids
    assert "<script>alert" not in rendered(True)


def test_tables_without_a_cell_are_listed_with_the_command(rendered):
    parsed = Page(rendered(False))
    assert len(parsed.tables) == 2
    assert (
        "dvc exp run -S 'run.methods=[proseco]' -S 'run.benchmarks=[few]' -S 'run.ablations=[sce]' "
        "-S 'run.ablation_benchmarks=[few]' -S 'run.unlabelled=[main,coco]'"
    ) in parsed.text
