"""A table as Markdown, LaTeX and CSV."""

import math
import re
from collections.abc import Iterable
from itertools import groupby

import pandas

from proseco.tables.cells import MADE
from proseco.tables.layout import NOT_RUN, OWN, Line, Table

#: What LaTeX would read as a command, and the signs that the default encodings lack.
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "✓": r"$\surd$",
    "δ": r"$\delta$",
    "τ": r"$\tau$",
    "\n": " ",
}
#: What Markdown would read as markup.
_MARKDOWN = {**{sign: f"\\{sign}" for sign in "\\|*_`["}, "<": "&lt;", "&": "&amp;", "\n": " "}
_escape_latex, _escape_markdown = str.maketrans(_LATEX), str.maketrans(_MARKDOWN)


def lines(table: Table, line: Line) -> list[list[str]]:
    """A line as texts: ours, below it the paper's and the difference, where there are any."""
    rows = []
    for kind in table.kinds(line):
        texts = line.texts if kind == "ours" else (kind, *("" for _ in line.texts[1:]))
        rows.append([*texts, *(figure.text(kind) for figure in line.figures)])
    return rows


def _notes(table: Table) -> list[str]:
    """What the marks say, what stands in brackets in the heads, and what the images are."""
    counted = any(re.search(r"\(\d", text) for head in table.heads for text in (head.group, head.name))
    said = ["In brackets: labelled images"] if counted else []
    return [*table.notes, *said, *([table.data] if table.data else [])]


def markdown(table: Table) -> str:
    """A GitHub table under a heading."""

    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    def escaped(text: str) -> str:
        return text.translate(_escape_markdown)

    heads = ["<br>".join(escaped(part) for part in (h.group, h.name) if part) for h in (*table.texts, *table.heads)]
    rules = ["---"] * len(table.texts) + ["---:"] * len(table.heads)
    body = [row([escaped(cell) for cell in cells]) for line in table.lines for cells in lines(table, line)]
    parts = [f"**{table.label}.** {escaped(table.title)}.", "\n".join([row(heads), row(rules), *body])]
    parts += [f"{escaped(note)}." for note in _notes(table)]
    return "\n\n".join(parts) + "\n"


def latex(table: Table) -> str:
    """A floating table, no wider than a line; the document needs the packages booktabs and graphicx."""

    def escaped(text: str) -> str:
        return text.translate(_escape_latex)

    heads = [*table.texts, *table.heads]
    groups, rules, column = [], [], 1
    for group, members in groupby(heads, key=lambda head: head.group):
        width = len(list(members))
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    where = "" if table.name == OWN else f" (as {table.label} of the paper)"
    top = [" & ".join(groups) + r" \\", " ".join(rules)] if rules else []
    body = []
    for number, line in enumerate(table.lines):
        printed = lines(table, line)
        if number > 0 and len(printed) > 1:
            body.append(r"\addlinespace")
        body += [" & ".join(escaped(cell) for cell in cells) + r" \\" for cells in printed]
    notes = [rf"\par\footnotesize {escaped(note)}." for note in _notes(table)]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(table.title)}{where}.}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(table.texts)}{'r' * len(table.heads)}}}",
            r"\toprule",
            *top,
            " & ".join(escaped(head.name) for head in heads) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def csv(table: Table) -> str:
    """One line per figure, four decimals; what there is one of for each seed is separated by blanks.

    Columns: table, row, the table's own words, benchmark, metric, state (``run`` | ``not run``), ours, deviation,
    paper, its deviation, difference, seeds, labelled images, values, and what made them.
    """
    records = []
    for line in table.lines:
        for figure in line.figures:
            cell = figure.cell
            record = {"table": table.name, "row": line.row, "text": ", ".join(filter(None, line.texts))}
            record |= {"benchmark": figure.benchmark, "metric": figure.metric}
            record |= {"state": "run" if figure.run else NOT_RUN, "ours": figure.ours, "ours_std": figure.std}
            record |= {"paper": figure.paper, "paper_std": figure.paper_std, "difference": figure.difference}
            record |= {"seeds": joined(cell.seeds) if cell else "", "labels": joined(cell.labels) if cell else ""}
            record["values"] = joined(f"{value:.4f}" for value in cell.values[figure.metric]) if cell else ""
            records.append(record | {key: joined(cell.made[key]) if cell else "" for key in MADE})
    frame = pandas.DataFrame(records)
    for column in ("ours", "ours_std", "paper", "paper_std", "difference"):
        frame[column] = [v if isinstance(v, str) else "" if math.isnan(v) else f"{v:.4f}" for v in frame[column]]
    return frame.to_csv(index=False, lineterminator="\n")


def joined(values: Iterable) -> str:
    return " ".join(map(str, values))
