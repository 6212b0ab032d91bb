"""The user's own grid, ``run.methods`` x ``run.benchmarks``, as Markdown with a verdict."""

import math
from collections.abc import Iterable

import numpy as np
import pandas
from scipy import special

from proseco.tables import paper as printed
from proseco.tables.layout import NOT_RUN, labels_text, number
from proseco.tables.summary import METRICS, reference_of

#: Columns of figures in one table; further benchmarks go into a table of their own, or readers must scroll.
WIDTH = 10


def markdown(summary: pandas.DataFrame, *, paper: pandas.DataFrame | None = None, caption: str) -> str:
    """GitHub tables: rows are methods and their gains, column groups are benchmarks; then the verdict.

    :param paper: as from :func:`proseco.tables.paper.read`; adds the paper's figures and ours minus those, and rows
        for the paper's methods that were not run, under the names that they have in the parameters.
    """
    reference = reference_of(summary)
    methods = dict(zip(summary["method"], summary["method_title"], strict=True))
    benchmarks = dict(zip(summary["benchmark"], summary["benchmark_title"], strict=True))
    cells = {(row["method"], row["benchmark"]): row for row in summary.to_dict("records")}

    def text(method: str, kind: str, benchmark: str, metric: str, column: str) -> str:
        cell = cells.get((method, benchmark))
        ours = cell[metric + kind] if cell else np.nan
        theirs = printed.figure(paper, method, benchmark, metric)
        if kind:
            theirs -= printed.figure(paper, reference, benchmark, metric)
        if column == "paper":
            return number(theirs, signed=bool(kind))
        if column == "difference":
            return number(ours - theirs, signed=True)
        return number(ours, cell[f"{metric}{kind}_std"], signed=bool(kind)) if cell else NOT_RUN

    parts = [caption, _conditions(summary, methods[reference])]
    for group in _column_groups(benchmarks, paper):
        shown = {benchmark for benchmark, _, _ in group}
        rows = [(method, "") for method in methods]
        rows += [(method, "") for method in printed.methods(paper, shown) if method not in methods]
        rows += [(method, "_gain") for method in methods if method != reference]
        heads = [f"{benchmarks[name]}<br>{metric}" if metric == "AP" else metric for name, metric, _ in group]
        heads = [column or head for head, (_, _, column) in zip(heads, group, strict=True)]
        lines = [["Method", *heads], ["---", *["---:"] * len(heads)]]
        for method, kind in rows:
            title = methods.get(method, f"`{method}`")
            lines.append([f"gain of {title}" if kind else title, *(text(method, kind, *column) for column in group)])
        parts.append("\n".join(map(_line, lines)))
    return "\n\n".join([*parts, verdict(summary)]) + "\n"


def ablations(
    summary: pandas.DataFrame, reference_title: str, *, method_titles: dict[str, str], steps: dict[str, int]
) -> str:
    """A GitHub table of the run's ablations, one line each; it stands below that of the methods.

    :param summary: of the ablations, with gains against the methods' reference.
    :param method_titles: ablation -> title of its method.
    :param steps: ablation -> those of its pretraining, which may be fewer than the method's.
    """
    benchmarks = dict(zip(summary["benchmark"], summary["benchmark_title"], strict=True))
    cells = {(cell["method"], cell["benchmark"]): cell for cell in summary.to_dict("records")}
    titles, tables = dict(zip(summary["method"], summary["method_title"], strict=True)), []
    names, at_once = list(benchmarks), WIDTH // (len(METRICS) + 1)
    for group in (names[start : start + at_once] for start in range(0, len(names), at_once)):
        heads = ["Ablation", "of", "steps of pretraining"]
        for benchmark in group:
            heads += [f"{benchmarks[benchmark]}<br>AP", *METRICS[1:], f"gain of AP over {reference_title}"]
        lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)]]
        for name, title in titles.items():
            line = [title, method_titles[name], f"{steps[name]:,}"]
            for benchmark in group:
                cell = cells[name, benchmark]
                line += [number(cell[metric], cell[f"{metric}_std"]) for metric in METRICS]
                line.append(number(cell["AP_gain"], cell["AP_gain_std"], signed=True))
            lines.append(line)
        tables.append("\n".join(map(_line, lines)))
    return "\n\n".join(tables) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _conditions(summary: pandas.DataFrame, reference_title: str) -> str:
    """What the figures rest on: labelled images, seeds, unit."""
    first = summary.drop_duplicates("benchmark").to_dict("records")
    labels = ", ".join(f"{labels_text(row['labels'])} ({row['benchmark_title']})" for row in first)
    seeds = sorted({seed for seeds in summary["seeds"] for seed in seeds})
    names = ", ".join(map(str, seeds))
    spread = f"mean ± standard deviation over seeds {names}" if len(seeds) > 1 else f"one seed ({names}), no deviation"
    gain = f"; gain: over {reference_title}, seed by seed" if summary["method"].nunique() > 1 else ""
    return f"Labelled images: {labels}. In %, {spread}{gain}."


def _column_groups(benchmarks: Iterable[str], paper: pandas.DataFrame | None) -> list[list[tuple[str, str, str]]]:
    """Columns (benchmark, metric, "" for ours or "paper" or "difference") of each table, WIDTH at most if possible."""
    groups: list[list[tuple[str, str, str]]] = [[]]
    for benchmark in benchmarks:
        columns = []
        for metric in METRICS:
            columns.append((benchmark, metric, ""))
            if paper is not None and (metric == "AP" or printed.methods(paper, {benchmark}, metric)):
                columns += [(benchmark, metric, "paper"), (benchmark, metric, "difference")]
        if groups[-1] and len(groups[-1]) + len(columns) > WIDTH:
            groups.append([])
        groups[-1] += columns
    return groups


def _chance(seeds: int) -> str:
    """How often normal gains of mean 0 have a mean larger than their deviation."""
    return f"{100 * special.stdtr(seeds - 1, -math.sqrt(seeds)):.2g} %"  # of Student's distribution


def verdict(summary: pandas.DataFrame) -> str:
    """The sentences as Markdown: a list, if there are several."""
    lines = sentences(summary)
    return lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)


def sentences(summary: pandas.DataFrame) -> list[str]:
    """One sentence per method: on which benchmarks its gain in AP is larger than that gain's deviation over seeds."""
    reference = reference_of(summary)
    against = summary.loc[summary["method"] == reference, "method_title"].iloc[0]
    verdicts = []
    for _, cells in summary[summary["method"] != reference].groupby("method", sort=False):
        benchmarks: dict[str, list[str]] = {}  # outcome -> titles, with the gains
        for cell in cells[cells["n_gain"] > 0].to_dict("records"):
            gain, std = cell["AP_gain"], cell["AP_gain_std"]
            if gain <= 0:
                outcome = "no gain"
            elif np.isnan(std):
                outcome = "a gain of unknown deviation (one seed)"
            else:
                size = "larger" if gain > std else "not larger"
                outcome = f"a gain {size} than its deviation over {cell['n_gain']} seeds"
                if gain > std:
                    outcome += f" (by chance alone in {_chance(cell['n_gain'])} of cases)"
            benchmarks.setdefault(outcome, []).append(f"{cell['benchmark_title']} ({number(gain, std, signed=True)})")
        outcomes = "; ".join(f"{outcome} on {', '.join(titles)}" for outcome, titles in benchmarks.items())
        verdicts.append(f"AP of {cells['method_title'].iloc[0]} against {against}: {outcomes or 'no seed in common'}.")
    return verdicts or [f"Only {against} was run: there is no gain to speak of."]
