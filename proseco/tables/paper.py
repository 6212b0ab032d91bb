"""What the paper prints. ``paper.csv`` holds one line per cell of Tables 1-3 and 6-11, ``paper_cost.csv`` Table 5.

``row`` is the row of ``params.yaml`` (a key of ``methods`` or ``ablations``) that a line is compared with. ``variant``
is empty where the line is a method's own result and says the setting where it belongs to an ablation. Which EMA rate
belongs to which line of Table 3 is deduced from the text of Section 4.3; ``pretrain_data`` is empty where the paper is
silent.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas

METRICS = ("AP", "AP50", "AP75")


def read() -> pandas.DataFrame:
    """The figures of all tables but Table 5; ``table`` and ``variant`` are text."""
    paper = pandas.read_csv(Path(__file__).with_name("paper.csv"), dtype={"table": str, "variant": str})
    return paper.fillna({"variant": "", "pretrain_data": ""})


def read_cost() -> pandas.DataFrame:
    """Table 5, one line per row of ``params.yaml``; hours are those of the whole pretraining."""
    return pandas.read_csv(Path(__file__).with_name("paper_cost.csv")).set_index("row")


def figure(paper: pandas.DataFrame | None, row: str, benchmark: str, metric: str = "AP") -> float:
    """The paper's figure for a row, from the first table that has it; NaN where none has."""
    if paper is None:
        return np.nan
    figures = paper.loc[(paper["row"] == row) & (paper["benchmark"] == benchmark), metric].dropna()
    return float(figures.iloc[0]) if len(figures) else np.nan


def methods(paper: pandas.DataFrame | None, benchmarks: Iterable[str], metric: str = "AP") -> list[str]:
    """Methods for which the paper prints a figure of their own on one of the benchmarks."""
    if paper is None:
        return []
    chosen = paper["benchmark"].isin(set(benchmarks)) & (paper["variant"] == "") & paper[metric].notna()
    return list(dict.fromkeys(paper.loc[chosen, "row"]))
