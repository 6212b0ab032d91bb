"""The tables of the paper that hold APs: which rows and columns each has, filled from the results of the runs.

Rows, columns and their order are those of ``paper.csv``; the words of a line are those of its settings.
"""

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pandas

from proseco.tables import cells, paper
from proseco.tables.cells import Cell
from proseco.tables.layout import FEWER, MIXED, OWN, Figure, Head, Line, Table, labels_text


@dataclass(frozen=True)
class Shape:
    """What ``paper.csv`` does not say of a table."""

    title: str
    #: Columns of words: the setting that a column prints -> its head. Of ``checks`` each value is a column.
    texts: dict[str, str]
    checks: tuple[str, ...] = ()
    #: Whether further methods of the run belong below the paper's, and further benchmarks of the ablations beside.
    more_rows: bool = False
    more_columns: bool = False
    decimals: int = 1


_METHOD = {"title": "Method"}
_LOSS = {"loss": "Loss", "delta": "δ"}
SHAPES = {
    "1a": Shape(
        "AP (%) on Mini-COCO after finetuning",
        {**_METHOD, "detector": "Detector", "data": "Pretraining data"},
        more_rows=True,
    ),
    "1b": Shape("AP (%) on FSOD, PASCAL VOC and Mini-VOC after finetuning", _METHOD, more_rows=True),
    "2a": Shape("Backbone and pretraining data, AP (%)", {"title": "Pretraining", "data": "Data"}, more_columns=True),
    "2b": Shape("IoU from which a proposal is a positive, AP (%)", _LOSS, more_columns=True),
    "3": Shape(
        "Hyperparameters, AP (%)",
        {"title": "Variant"},
        checks=("batch", "scale", "tau_t", "ema_rate"),
        more_columns=True,
    ),
    "6": Shape("Contrastive losses, AP (%)", _LOSS, more_columns=True),
    "7": Shape("All metrics on PASCAL VOC and Mini-VOC, %", _METHOD, more_rows=True),
    "8": Shape("All metrics on FSOD, %", _METHOD, more_rows=True),
    "9": Shape("Number of queries, AP (%)", {"method": "Method", "queries": "N"}, more_columns=True),
    "10": Shape("Finetuning on the whole of COCO, 1x schedule, %", _METHOD, more_rows=True),
    "11": Shape("Detectors with few labels, none of them pretrained, AP (%)", {"detector": "Detector"}, decimals=2),
}
CHECKS = {"batch": "Batch size", "scale": "Images scale", "tau_t": "Temperature τ_t", "ema_rate": "EMA"}
CHECK = "✓"
#: The paper's words for values of settings.
WORDS = {
    "detector": {
        "deformable_detr": "Def. DETR",
        "mask_rcnn": "Mask R-CNN",
        "faster_rcnn": "Faster R-CNN",
        "fcos": "FCOS",
    },
    "data": {"imagenet": "IN", "coco": "COCO"},
    "loss": {"sce": "SCE", "locsce": "LocSCE", "infonce": "InfoNCE", "locnce": "LocNCE"},
    "scale": {"320-480": "Mid", "480-800": "Large"},  # Table 4: the short edge in pixels
}


def build(
    results: Path,
    *,
    rows: dict[str, dict],
    benchmarks: dict[str, str],
    selected: Collection[tuple[str, str]],
    seeds: Iterable[int],
    alias: dict[str, str],
    compare_with_paper: bool,
) -> list[Table]:
    """All tables of APs, in the paper's order.

    :param results: folder of one scale.
    :param rows: row of the parameters -> what is said of it, as from :func:`proseco.experiment.wording.describe`.
    :param benchmarks: name -> title.
    :param selected: (row, benchmark) of all cells that the run selects; others are not run, whatever files there are.
    :param alias: row -> the row whose results serve, where two are the same.
    :param compare_with_paper: whether the paper's figures belong beside ours.
    :raises InputError: see :func:`proseco.tables.cells.read`.
    """
    lines, seeds, selected = paper.read(), list(seeds), set(selected)
    wanted = dict.fromkeys([*zip(lines["row"], lines["benchmark"], strict=True), *selected])
    filled_cells: dict[tuple[str, str], Cell] = {}
    read = cache(partial(cells.read, results, seeds=tuple(seeds)))
    for row, benchmark in wanted:
        serving = next((name for name in (alias.get(row, row), row) if (name, benchmark) in selected), None)
        if serving is not None and (cell := read(serving, benchmark)) is not None:
            filled_cells[row, benchmark] = cell
    filling = _Filling(filled_cells, lines, rows, benchmarks, len(set(seeds)), compare_with_paper)
    return [filling.table(name) for name in SHAPES]


def own(
    results: Path,
    *,
    rows: dict[str, dict],
    benchmarks: dict[str, str],
    selected: Collection[tuple[str, str]],
    seeds: Iterable[int],
    compare_with_paper: bool,
) -> Table:
    """All that the run selects, whether the paper has it or not: its rows, on its benchmarks, in its order.

    Arguments and errors: see :func:`build`.
    """
    seeds = list(seeds)
    read = {(row, benchmark): cells.read(results, row, benchmark, seeds) for row, benchmark in selected}
    filled_cells = {key: cell for key, cell in read.items() if cell is not None}
    filling = _Filling(filled_cells, paper.read(), rows, benchmarks, len(set(seeds)), compare_with_paper)
    columns = [(name, metric) for name in dict.fromkeys(b for _, b in selected) for metric in paper.METRICS]
    shape = Shape("All that was run, %", {"title": "Row"})
    return filling.filled(OWN, shape, list(dict.fromkeys(row for row, _ in selected)), columns)


@dataclass(frozen=True)
class _Filling:
    """What all tables are filled from; see :func:`build`."""

    cells: dict[tuple[str, str], Cell]
    lines: pandas.DataFrame
    rows: dict[str, dict]
    benchmarks: dict[str, str]
    seeds: int
    compare_with_paper: bool

    def table(self, name: str) -> Table:
        shape, lines = SHAPES[name], self.lines[self.lines["table"] == name]
        rows, columns = list(dict.fromkeys(lines["row"])), self._columns(shape, lines)
        if shape.more_rows:
            ran = [row for row, benchmark in self.cells if benchmark in {b for b, _ in columns}]
            methods = [row for row in self.rows if row in ran and "of" not in self.rows[row]]
            rows += [row for row in methods if row not in rows]
        return self.filled(name, shape, rows, columns)

    def filled(self, name: str, shape: Shape, rows: list[str], columns: list[tuple[str, str]]) -> Table:
        """:param columns: (benchmark, metric)."""
        lines = self.lines if name == OWN else self.lines[self.lines["table"] == name]
        settings = {row: self._settings(row, lines) for row in rows}
        heads, words = _texts(shape, settings)
        filled = tuple(
            Line(row, words[row], tuple(self._figure(shape, lines, row, *column) for column in columns)) for row in rows
        )
        several = len({metric for _, metric in columns}) > 1
        figures = tuple(self._head(rows, *column, several=several) for column in columns)
        return Table(name, shape.title, heads, figures, filled)

    def _columns(self, shape: Shape, lines: pandas.DataFrame) -> list[tuple[str, str]]:
        """(benchmark, metric), the paper's first."""
        metrics = [metric for metric in paper.METRICS if lines[metric].notna().any()]
        names = list(dict.fromkeys(lines["benchmark"]))
        if shape.more_columns:
            rows = {row for row in lines["row"] if "of" in self.rows.get(row, {})}
            names += [b for row, b in self.cells if row in rows and b not in names]
        return [(name, metric) for name in dict.fromkeys(names) for metric in metrics]

    def _head(self, rows: list[str], benchmark: str, metric: str, *, several: bool) -> Head:
        """With the number of labelled images, where it was run; the metric is in the title if there is only one."""
        labels = [n for row in rows if (row, benchmark) in self.cells for n in self.cells[row, benchmark].labels]
        count = f" ({labels_text(labels)})" if labels else ""
        title = self.benchmarks.get(benchmark, benchmark) + count
        return Head(metric, title) if several else Head(title)

    def _settings(self, row: str, lines: pandas.DataFrame) -> dict:
        """Of a row that the parameters lack: what the paper says of it."""
        if row in self.rows:
            return self.rows[row]
        line = lines[lines["row"] == row].iloc[0]
        variant = dict(pair.split("=") for pair in line["variant"].split())
        return {"title": row, "method": row, "detector": line["detector"], "data": line["pretrain_data"], **variant}

    def _figure(self, shape: Shape, lines: pandas.DataFrame, row: str, benchmark: str, metric: str) -> Figure:
        cell = self.cells.get((row, benchmark))
        ours, std = cell.figure(metric) if cell else (math.nan, math.nan)
        marks = (MIXED if cell.mixed else "") + (FEWER if len(cell.seeds) < self.seeds else "") if cell else ""
        line = lines[(lines["row"] == row) & (lines["benchmark"] == benchmark)]
        theirs, deviation = math.nan, math.nan
        line = line[line[metric].notna()]  # of a row in several tables only some may have AP50
        if self.compare_with_paper and len(line):
            theirs = float(line[metric].iloc[0])
            deviation = float(line["AP_std"].iloc[0]) if metric == "AP" else math.nan
        return Figure(ours, std, theirs, deviation, shape.decimals, marks, benchmark, metric, cell)


def _texts(shape: Shape, settings: dict[str, dict]) -> tuple[tuple[Head, ...], dict[str, tuple[str, ...]]]:
    """Heads of the columns of words, and row -> its words."""
    heads = [Head(head) for head in shape.texts.values()]
    words = {row: [_word(key, own.get(key)) for key in shape.texts] for row, own in settings.items()}
    for key in shape.checks:
        values = {str(own[key]) for own in settings.values() if own.get(key) is not None}
        for value in sorted(values, key=_order):
            heads.append(Head(_word(key, value), CHECKS[key]))
            for row, own in settings.items():
                words[row].append(CHECK if str(own.get(key)) == value else "")
    return tuple(heads), {row: tuple(texts) for row, texts in words.items()}


def _word(key: str, value) -> str:
    if key == "delta" and value is None:
        value = 1.0  # a loss that knows none: only the proposal itself is positive (Section 4.3)
    return WORDS.get(key, {}).get(str(value), "" if value is None else str(value))


def _order(value: str) -> tuple[float, ...]:
    """Numbers by size, ranges by both ends."""
    return tuple(map(float, re.findall(r"[\d.]+(?:e[-+]?\d+)?", value)))
