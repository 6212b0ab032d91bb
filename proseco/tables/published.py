"""The paper's tables as files: each as Markdown, CSV and LaTeX, and all on one page."""

from dataclasses import replace
from itertools import product
from pathlib import Path

from proseco.base import files
from proseco.tables import cells, cost, formats, page, paper, shapes, trend
from proseco.tables.layout import Table

#: Pictures of the page, in order, and what they show.
CAPTIONS = {
    "trend.png": "AP against the labelled share of the training images",
    "ap.png": "AP of the methods and benchmarks that the run selects",
    "loss.png": "Logs of the pretrainings, and of the finetunings on the first benchmark and seed: moving means over a "
    "twentieth of a run, and pale what they are of",
    "detections.png": "Detections on the first benchmark and seed, below the ground truth",
    "boxes.png": "Boxes during the pretraining",
    "recall.png": "Labelled objects that the proposals cover",
    "proposals.png": "Proposals",
}


def write(
    out: Path,
    results: Path,
    *,
    run: dict[str, list],
    rows: dict[str, dict],
    benchmarks: dict[str, str],
    alias: dict[str, str],
    families: dict[str, dict[str, float]],
    compare_with_paper: bool,
    data: str,
    lead: list[str],
) -> None:
    """Write ``table-<number>.md``, ``.csv`` and ``.tex``, ``results.tex``, ``trend.png`` and ``index.html`` into the
    folder ``out``.

    Beside the paper's figures every table is written, else those of which a cell was run; the page names the others.
    It begins with all that was run.

    :param results: folder of one scale (``results/demo``).
    :param run: section ``run`` of the parameters.
    :param rows, benchmarks, alias, compare_with_paper, data: as for :func:`tables`.
    :param families: as for :func:`proseco.tables.trend.draw`.
    :param lead: paragraphs at the top of the page, which shows what there is of ``CAPTIONS`` in ``out``.
    """
    chosen = {"run": run, "rows": rows, "benchmarks": benchmarks, "alias": alias}
    own, *papers = tables(results, **chosen, compare_with_paper=compare_with_paper, data=data)
    files.write_text(out / f"{own.file}.tex", formats.latex(own))
    for table in papers:
        if compare_with_paper or table.run:
            for suffix, form in (("md", formats.markdown), ("csv", formats.csv), ("tex", formats.latex)):
                files.write_text(out / f"{table.file}.{suffix}", form(table))
    _trend(out / "trend.png", results, run, rows, families, compare_with_paper)
    pictures = {caption: out / name for name, caption in CAPTIONS.items() if (out / name).is_file()}
    html = page.render(
        [own, *papers],
        scale=results.name,
        lead=lead,
        pictures=pictures,
        rows=rows,
        compare_with_paper=compare_with_paper,
    )
    files.write_text(out / "index.html", html)


def selected(run: dict[str, list]) -> list[tuple[str, str]]:
    """(row, benchmark) of all cells that a run selects."""
    return [*product(run["methods"], run["benchmarks"]), *product(run["ablations"], run["ablation_benchmarks"])]


def tables(
    results: Path,
    *,
    run: dict[str, list],
    rows: dict[str, dict],
    benchmarks: dict[str, str],
    alias: dict[str, str],
    compare_with_paper: bool,
    data: str,
) -> list[Table]:
    """All that the run selects, then the paper's tables in its order; cells may be missing.

    :param rows, benchmarks, alias, compare_with_paper: as for :func:`proseco.tables.shapes.build`.
    :param data: as from :func:`proseco.experiment.wording.data`.
    """
    shared = {"rows": rows, "compare_with_paper": compare_with_paper}
    of_cells = {"benchmarks": benchmarks, "selected": selected(run), "seeds": run["seeds"]}
    papers = shapes.build(results, alias=alias, **of_cells, **shared)
    papers.append(cost.build(results, selected=[*run["methods"], *run["ablations"]], alias=alias, **shared))
    everything = [shapes.own(results, **of_cells, **shared), *sorted(papers, key=_order)]
    note = f"Scale {results.name}: {data}" if data else ""
    return [replace(table, data=note) for table in everything]


def _order(table: Table) -> tuple[int, str]:
    """1a, 1b, 2a, ... 10, 11."""
    return int(table.name.rstrip("ab")), table.name


def _trend(
    path: Path, results: Path, run: dict, rows: dict[str, dict], families: dict, compare_with_paper: bool
) -> None:
    ours: trend.Points = {}
    printed: trend.Points = {}
    labels: dict[str, str] = {}
    for method, benchmark in product(run["methods"], run["benchmarks"]):
        if cell := cells.read(results, method, benchmark, run["seeds"]):
            ours.setdefault(rows[method]["title"], {})[benchmark] = cell.figure("AP")
            labels[benchmark] = _short(max(cell.labels))
    if compare_with_paper:
        lines = paper.read().query("variant == '' and AP.notna()").drop_duplicates(["row", "benchmark"])
        for line in lines.itertuples():
            title = rows.get(line.row, {}).get("title", line.row)
            printed.setdefault(title, {})[line.benchmark] = (line.AP, line.AP_std)
    trend.draw(path, families, ours, printed, labels)


def _short(count: int) -> str:
    """``24``, ``5.9k``: as the paper writes numbers of images."""
    return str(count) if count < 1000 else f"{count / 1000:.1f}k"
