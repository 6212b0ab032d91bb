"""Results of single finetunings -> mean and deviation -> Markdown, CSV and the DVC metric.

A *cell* is one finetuning: a method on a benchmark with a seed. APs are percentages, 0..100. The *gain* of a method is
taken against the reference (``supervised`` where it was run, else the first method) seed by seed, because both start
from the same labelled images: the deviation of the differences leaves out what only the choice of images moved.

``paper.csv`` beside this file holds the paper's figures, a line a cell of Tables 1-3 and 6-11. ``variant`` is empty
where the line is a method's own result and says the setting where it belongs to an ablation. Which EMA rate belongs
to which line of Table 3 is deduced from the text of Section 4.3; ``pretrain_data`` is empty where the paper is silent.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas

from proseco.base.errors import InputError
from proseco.base.files import read_json

METRICS = ("AP", "AP50", "AP75")
#: Columns of figures in one Markdown table; further benchmarks go into a table of their own, or readers must scroll.
WIDTH = 10
NOT_RUN, NO_FIGURE = "not run", "-"


def collect(
    results_dir: str | Path, methods: dict[str, str], benchmarks: dict[str, str], seeds: Iterable[int]
) -> pandas.DataFrame:
    """Read ``<results_dir>/finetune/<method>/<benchmark>/<seed>/metrics.json`` of exactly the cells asked for.

    :param results_dir: folder of one scale; its name is the scale (``results/demo``).
    :param methods: name -> title, in the order of the rows; ``benchmarks`` likewise, of the columns.
    :returns: a row a cell: method, method_title, benchmark, benchmark_title, seed, labels, AP, AP50, AP75.
    :raises InputError: a cell is missing, is not what its folder says, or differs in the number of labelled images
        from the first method's.
    """
    results_dir, seeds = Path(results_dir), list(dict.fromkeys(map(int, seeds)))
    rows = []
    for benchmark, benchmark_title in benchmarks.items():
        for seed in seeds:
            for method, method_title in methods.items():
                path = results_dir / "finetune" / method / benchmark / str(seed) / "metrics.json"
                names = {"method": method, "benchmark": benchmark, "seed": seed}
                titles = {"method_title": method_title, "benchmark_title": benchmark_title}
                rows.append({**names, **titles, **_read_cell(path, results_dir.name, names)})
    if not rows:
        raise InputError(f"nothing to tabulate: methods {[*methods]}, benchmarks {[*benchmarks]}, seeds {seeds}")
    frame = pandas.DataFrame(rows)
    for (benchmark, seed), cells in frame.groupby(["benchmark", "seed"], sort=False):
        if cells["labels"].nunique() > 1:
            counts = ", ".join(f"{cell.method} {cell.labels}" for cell in cells.itertuples())
            raise InputError(f"{benchmark}, seed {seed}: not the same number of labelled images: {counts}")
    return frame


def _read_cell(path: Path, scale: str, names: dict) -> dict:
    """The figures of one cell, checked against the folder that it stands in."""
    if not path.is_file():
        item = "-".join(str(part) for part in (scale, *names.values()))
        raise InputError(f"no result {path.as_posix()!r}; `dvc repro finetune@{item}` makes it")
    record = read_json(path)
    for key, value in names.items():
        if (said := record.get(key)) != value:
            raise InputError(f"{path.as_posix()!r} says {key} {said!r}, but stands in the place of {value!r}")
    for key in ("labels", *METRICS):
        if not isinstance(figure := record.get(key), int | float) or not np.isfinite(figure):
            raise InputError(f"{path.as_posix()!r} has no number under {key!r}, but {figure!r}")
    return {"labels": int(record["labels"]), **{metric: float(record[metric]) for metric in METRICS}}


def summarise(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Mean and deviation over seeds.

    :param frame: as from :func:`collect`; order of first appearance is kept.
    :returns: a row a method and benchmark: names, titles, ``n``, ``seeds`` and ``labels`` (tuples, by seed); for each
        metric ``AP`` (mean), ``AP_std`` (n-1 in the denominator; NaN for one seed), ``AP_values`` (tuple, by seed),
        ``AP_gain``, ``AP_gain_std`` (differences to the reference, seed by seed; NaN in the reference's own row) and
        ``n_gain``, the number of seeds that both have.
    """
    reference = _reference(frame)
    partner = frame.loc[frame["method"] == reference, ["benchmark", "seed", *METRICS]]
    frame = frame.merge(partner, on=["benchmark", "seed"], how="left", suffixes=("", "_reference"))
    rows = []
    for (benchmark, method), cells in frame.groupby(["benchmark", "method"], sort=False):
        cells = cells.sort_values("seed")
        row = {
            "method": method,
            "method_title": cells["method_title"].iloc[0],
            "benchmark": benchmark,
            "benchmark_title": cells["benchmark_title"].iloc[0],
            "n": len(cells),
            "seeds": tuple(cells["seed"].tolist()),
            "labels": tuple(cells["labels"].tolist()),
        }
        for metric in METRICS:
            gains = (cells[metric] - cells[f"{metric}_reference"]).dropna()
            if method == reference:
                gains = gains[:0]
            row[metric], row[f"{metric}_std"] = _mean_std(cells[metric])
            row[f"{metric}_values"] = tuple(cells[metric].tolist())
            row[f"{metric}_gain"], row[f"{metric}_gain_std"] = _mean_std(gains)
            row["n_gain"] = len(gains)
        rows.append(row)
    return pandas.DataFrame(rows)


def _reference(frame: pandas.DataFrame) -> str:
    """The method that gains are taken against."""
    return "supervised" if "supervised" in set(frame["method"]) else frame["method"].iloc[0]


def _mean_std(values: pandas.Series) -> tuple[float, float]:
    mean = float(np.mean(values)) if len(values) else np.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def read_paper(path: str | Path | None = None) -> pandas.DataFrame:
    """The paper's figures; ``table`` and ``variant`` are text, ``variant`` "" for a method's own result."""
    paper = pandas.read_csv(path or Path(__file__).with_name("paper.csv"), dtype={"table": str, "variant": str})
    return paper.fillna({"variant": "", "pretrain_data": ""})


def paper_figure(paper: pandas.DataFrame | None, method: str, benchmark: str, metric: str = "AP") -> float:
    """The paper's figure for a method's own result, from the first table that has it; NaN where none has."""
    if paper is None:
        return np.nan
    chosen = (paper["method"] == method) & (paper["benchmark"] == benchmark) & (paper["variant"] == "")
    found = paper.loc[chosen, metric].dropna()
    return float(found.iloc[0]) if len(found) else np.nan


def metrics(summary: pandas.DataFrame) -> dict:
    """``{benchmark: {method: {"AP", "AP_std", "AP50", "AP75"}}, "gain": {benchmark: {method: ...}}}``, two decimals.

    What one seed cannot tell (a deviation) is left out, and so is everything that a rerun would change.
    """
    found: dict = {"gain": {}}
    for row in summary.to_dict("records"):
        for place, kind in ((found, ""), (found["gain"], "_gain")):
            figures = {"AP": row[f"AP{kind}"], "AP_std": row[f"AP{kind}_std"]}
            figures |= {metric: row[f"{metric}{kind}"] for metric in ("AP50", "AP75")}
            figures = {key: round(value, 2) + 0.0 for key, value in figures.items() if not np.isnan(value)}
            if figures:
                place.setdefault(row["benchmark"], {})[row["method"]] = figures
    return found


def csv(summary: pandas.DataFrame) -> str:
    """The summary as CSV, four decimals; values of single seeds are separated by blanks, unknown ones are empty."""
    flat = summary.copy()
    for column in ("seeds", "labels"):
        flat[column] = [" ".join(map(str, values)) for values in flat[column]]
    for column in (f"{metric}_values" for metric in METRICS):
        flat[column] = [" ".join(f"{value:.4f}" for value in values) for values in flat[column]]
    return flat.to_csv(index=False, float_format="%.4f", lineterminator="\n")


def markdown(summary: pandas.DataFrame, *, paper: pandas.DataFrame | None = None, caption: str) -> str:
    """GitHub tables: rows are methods and their gains, column groups are benchmarks; then the verdict.

    :param paper: as from :func:`read_paper`; adds the paper's figures and ours minus those, and rows for the paper's
        methods that were not run, under the names that they have in the parameters.
    """
    reference = _reference(summary)
    methods = dict(zip(summary["method"], summary["method_title"], strict=True))
    benchmarks = dict(zip(summary["benchmark"], summary["benchmark_title"], strict=True))
    cells = {(row["method"], row["benchmark"]): row for row in summary.to_dict("records")}

    def text(method: str, kind: str, benchmark: str, metric: str, column: str) -> str:
        cell = cells.get((method, benchmark))
        ours = cell[metric + kind] if cell else np.nan
        theirs = paper_figure(paper, method, benchmark, metric)
        if kind:
            theirs -= paper_figure(paper, reference, benchmark, metric)
        if column == "paper":
            return number(theirs, signed=bool(kind))
        if column == "difference":
            return number(ours - theirs, signed=True)
        return number(ours, cell[f"{metric}{kind}_std"], signed=bool(kind)) if cell else NOT_RUN

    parts = [caption, _conditions(summary, methods[reference])]
    for group in _column_groups(benchmarks, paper):
        shown = {benchmark for benchmark, _, _ in group}
        rows = [(method, "") for method in methods]
        rows += [(method, "") for method in _paper_methods(paper, shown) if method not in methods]
        rows += [(method, "_gain") for method in methods if method != reference]
        heads = [f"{benchmarks[name]}<br>{metric}" if metric == "AP" else metric for name, metric, _ in group]
        heads = [column or head for head, (_, _, column) in zip(heads, group, strict=True)]
        lines = [["Method", *heads], ["---", *["---:"] * len(heads)]]
        for method, kind in rows:
            title = methods.get(method, f"`{method}`")
            lines.append([f"gain of {title}" if kind else title, *(text(method, kind, *column) for column in group)])
        parts.append("\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines))
    return "\n\n".join([*parts, verdict(summary)]) + "\n"


def number(value: float, std: float = np.nan, *, signed: bool = False) -> str:
    """``12.3``, ``12.3 ± 0.4`` or, signed, ``+3.1``, one decimal; "-" where there is nothing to print."""
    if np.isnan(value):
        return NO_FIGURE
    value = round(value, 1) + 0.0  # no "-0.0"
    return f"{value:{'+' * signed}.1f}" + ("" if np.isnan(std) else f" ± {std:.1f}")


def labels_text(labels: Iterable[int]) -> str:
    """Numbers of labelled images, one a seed, as ``5,914`` or ``41,880-41,902``."""
    return "-".join(f"{count:,}" for count in sorted({min(labels), max(labels)}))


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
            if paper is not None and (metric == "AP" or _paper_methods(paper, {benchmark}, metric)):
                columns += [(benchmark, metric, "paper"), (benchmark, metric, "difference")]
        if groups[-1] and len(groups[-1]) + len(columns) > WIDTH:
            groups.append([])
        groups[-1] += columns
    return groups


def _paper_methods(paper: pandas.DataFrame | None, benchmarks: set[str], metric: str = "AP") -> list[str]:
    """Methods for which the paper prints a figure of its own on one of the benchmarks."""
    if paper is None:
        return []
    chosen = paper["benchmark"].isin(benchmarks) & (paper["variant"] == "") & paper[metric].notna()
    return list(dict.fromkeys(paper.loc[chosen, "method"]))


def verdict(summary: pandas.DataFrame) -> str:
    """A sentence a method: on which benchmarks its gain in AP is larger than the deviation of that gain over seeds."""
    reference = _reference(summary)
    against = summary.loc[summary["method"] == reference, "method_title"].iloc[0]
    sentences = []
    for _, cells in summary[summary["method"] != reference].groupby("method", sort=False):
        found: dict[str, list[str]] = {}
        for cell in cells[cells["n_gain"] > 0].to_dict("records"):
            gain, std = cell["AP_gain"], cell["AP_gain_std"]
            if gain <= 0:
                outcome = "no gain"
            elif np.isnan(std):
                outcome = "a gain of unknown deviation (one seed)"
            else:
                size = "larger" if gain > std else "not larger"
                outcome = f"a gain {size} than its deviation over {cell['n_gain']} seeds"
            found.setdefault(outcome, []).append(f"{cell['benchmark_title']} ({number(gain, std, signed=True)})")
        outcomes = "; ".join(f"{outcome} on {', '.join(places)}" for outcome, places in found.items())
        sentences.append(f"AP of {cells['method_title'].iloc[0]} against {against}: {outcomes or 'no seed in common'}.")
    if not sentences:
        return f"Only {against} was run: there is no gain to speak of."
    return sentences[0] if len(sentences) == 1 else "\n".join(f"- {sentence}" for sentence in sentences)
