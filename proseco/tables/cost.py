"""Table 5: what a pretraining cost, as the runs measured it themselves. Two runs differ in it."""

import math
from collections.abc import Iterable
from pathlib import Path

from proseco.base.errors import InputError
from proseco.base.files import read_json
from proseco.tables import paper
from proseco.tables.layout import NO_FIGURE, Figure, Head, Line, Table

#: Column -> its head and decimals; the last is a text.
_COLUMNS = {
    "epochs": ("Epochs", 1),
    "batch": ("Batch size", 0),
    "iterations": ("Iterations", 0),
    "hours": ("Time (h)", 2),
    "iterations_per_second": ("It. / s", 2),
    "images_per_second": ("Images / s", 1),
    "memory": ("Peak memory (GiB)", 2),
    "hardware": ("Hardware", 0),
}


def build(
    results: Path, *, rows: dict[str, dict], selected: Iterable[str], alias: dict[str, str], compare_with_paper: bool
) -> Table:
    """Methods of which the paper says the cost, then all others of the run that were pretrained.

    :param results: folder of one scale, with ``pretrain/<row>/cost.json`` (:mod:`proseco.training.usage`).
    :param selected: rows of the run; for the others see :func:`proseco.tables.shapes.build`.
    :raises InputError: a ``cost.json`` lacks a number.
    """
    printed, selected = paper.read_cost(), set(selected)
    lines = []
    for row in dict.fromkeys([*printed.index, *rows]):
        serving = alias.get(row, row)
        measured = _measured(results / "pretrain" / serving) if selected & {row, serving} else {}
        if row not in printed.index and (not measured or serving != row):
            continue
        theirs = printed.loc[row].to_dict() if compare_with_paper and row in printed.index else {}
        figures = tuple(_figure(key, measured, theirs) for key in _COLUMNS)
        lines.append(Line(row, (rows.get(row, {}).get("title", row),), figures))
    heads = tuple(Head(head) for head, _ in _COLUMNS.values())
    return Table("5", "Cost of the pretraining", (Head("Method"),), heads, tuple(lines))


def _figure(key: str, measured: dict, theirs: dict) -> Figure:
    nothing = "" if key == "hardware" else math.nan
    ours, paper_ = measured.get(key, nothing), theirs.get(key, nothing)
    return Figure(ours, paper=paper_, decimals=_COLUMNS[key][1], metric=key)


def _measured(folder: Path) -> dict:
    """What the ``cost.json`` of a pretraining says; nothing where it was not measured."""
    path = folder / "cost.json"
    if not path.is_file():
        return {}
    cost = read_json(path)
    for key in ("epochs", "batch", "steps", "seconds", "images_per_second"):
        if not isinstance(cost.get(key), int | float):
            raise InputError(f"{path.as_posix()!r} has no number under {key!r}, but {cost.get(key)!r}")
    memory = cost["peak_memory"]  # null where the system does not tell it
    return {
        "epochs": cost["epochs"],
        "batch": cost["batch"],
        "iterations": cost["steps"],
        "hours": cost["seconds"] / 3600,
        "iterations_per_second": cost["steps"] / cost["seconds"],
        "images_per_second": cost["images_per_second"],
        "memory": NO_FIGURE if memory is None else memory / 2**30,
        "hardware": cost["hardware"],
    }
