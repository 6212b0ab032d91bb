"""A table: heads, lines and figures, whatever it is written as. And the words and numbers of a figure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from proseco.tables.cells import Cell

NOT_RUN, NO_FIGURE = "not run", "-"
OWN = "results"  # name of the table that is none of the paper's
#: Marks beside our figures, and what they say.
MIXED, FEWER = "†", "‡"
NOTES = {MIXED: "seeds of different commits", FEWER: "fewer seeds than `run.seeds` asks for"}


def number(value: float, std: float = math.nan, *, decimals: int = 1, signed: bool = False) -> str:
    """``12.3``, ``12.3 ± 0.4`` or, signed, ``+3.1``; "-" where there is nothing to print."""
    if math.isnan(value):
        return NO_FIGURE
    value = round(value, decimals) + 0.0  # no "-0.0"
    return f"{value:{'+' if signed else ''},.{decimals}f}" + ("" if math.isnan(std) else f" ± {std:.{decimals}f}")


def labels_text(labels: Iterable[int]) -> str:
    """Numbers of labelled images, one a seed, as ``5,914`` or ``41,880-41,902``."""
    return "-".join(f"{count:,}" for count in sorted({min(labels), max(labels)}))


@dataclass(frozen=True)
class Figure:
    """Ours, the paper's, and their difference. What is not known is NaN, or "" where it is a text."""

    ours: float | str = math.nan
    std: float = math.nan
    paper: float | str = math.nan
    paper_std: float = math.nan
    decimals: int = 1
    marks: str = ""
    benchmark: str = ""
    metric: str = ""
    cell: Cell | None = None

    @property
    def run(self) -> bool:
        return self.ours != "" if isinstance(self.ours, str) else not math.isnan(self.ours)

    @property
    def printed(self) -> bool:
        """Whether the paper has it."""
        return self.paper != "" if isinstance(self.paper, str) else not math.isnan(self.paper)

    @property
    def difference(self) -> float:
        """Ours minus the paper's."""
        return math.nan if isinstance(self.ours, str) or isinstance(self.paper, str) else self.ours - self.paper

    def text(self, kind: str) -> str:
        """As it is printed. ``kind``: ours | paper | difference."""
        if kind == "difference":
            return number(self.difference, decimals=self.decimals, signed=True)
        if kind == "ours" and not self.run:
            return NOT_RUN
        value, std = (self.ours, self.std) if kind == "ours" else (self.paper, self.paper_std)
        text = (value or NO_FIGURE) if isinstance(value, str) else number(value, std, decimals=self.decimals)
        return text + (self.marks if kind == "ours" else "")


@dataclass(frozen=True)
class Head:
    """Head of a column; neighbours of one group stand under it."""

    name: str
    group: str = ""


@dataclass(frozen=True)
class Line:
    row: str
    texts: tuple[str, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Table:
    """Of each line first the texts, then the figures."""

    #: The paper's number, ``1a``; or ``OWN``.
    name: str
    title: str
    texts: tuple[Head, ...]
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    #: What its images are, where its heads do not say so.
    data: str = ""

    @property
    def figures(self) -> list[Figure]:
        return [figure for line in self.lines for figure in line.figures]

    @property
    def cells(self) -> list[Cell]:
        """What its figures come from, each once."""
        return list({(f.cell.row, f.cell.benchmark): f.cell for f in self.figures if f.cell}.values())

    @property
    def run(self) -> bool:
        """Whether any of its cells was run."""
        return any(figure.run for figure in self.figures)

    @property
    def notes(self) -> list[str]:
        """What the marks say that it bears."""
        return [f"{mark} {text}" for mark, text in NOTES.items() if any(mark in f.marks for f in self.figures)]

    @property
    def file(self) -> str:
        return self.name if self.name == OWN else f"table-{self.name}"

    @property
    def label(self) -> str:
        return "Results" if self.name == OWN else f"Table {self.name}"

    def kinds(self, line: Line) -> list[str]:
        """What of a line there is to print: ours always, the paper's where it has any, then the difference."""
        kinds = ["ours"]
        if any(figure.printed for figure in line.figures):
            kinds.append("paper")
        if any(not math.isnan(figure.difference) for figure in line.figures):
            kinds.append("difference")
        return kinds
