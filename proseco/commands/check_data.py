"""``check-data``: what the data sets of a run hold, and what is wrong with them, before anything is trained."""

import sys
from pathlib import Path

from proseco.base import params, plugins
from proseco.base.errors import InputError
from proseco.data import verify


def main(*, scale: str | None = None, benchmark: str | None = None, images: str = "all") -> None:
    """Report the data sets of run.benchmarks, or of one benchmark, in a table; exit code 1 if a training would fail.

    :param scale: whose roots to look in; that of params.yaml if not given.
    :param images: of how many images of each subset, evenly spaced, to look at the files; or ``all``.
    """
    if images != "all" and not (images.isdecimal() and int(images) > 0):
        raise InputError(f"--images is {images!r}; it must be a whole number above 0, or all")
    settings = params.load()
    names = settings["run"]["benchmarks"] if benchmark is None else [benchmark]
    entries = [params.get(settings, "benchmarks", name) for name in names]
    subsets = {  # Mini-COCO 5 % and 10 % have the same
        f"{entry['root']} {subset}": (entry, subset)
        for entry in entries
        for subset in (entry["train"], entry["test"])
        if subset is not None
    }
    columns, notes, errors = {}, [], []
    for title, (entry, subset) in subsets.items():
        try:
            root = params.root(settings, scale or settings["scale"], entry["root"])
            columns[title], more, wrong = _describe(title, entry, root, subset, images)
        except InputError as error:
            more, wrong = [], [str(error)]
        notes, errors = notes + more, errors + wrong
    if columns:
        print(_table(columns))
    print(*(f"note: {note}" for note in notes), sep="\n", end="\n" if notes else "")
    if errors:
        print(*(f"error: {error}" for error in errors), sep="\n", file=sys.stderr)
        raise SystemExit(1)


def _describe(title: str, entry: dict, root: Path, subset: str, images: str) -> tuple[dict, list[str], list[str]]:
    content = plugins.load("benchmarks", entry["name"])(root, subset, **plugins.options("benchmarks", entry))
    return verify.describe(
        content,
        root,
        source=title,
        limit=None if images == "all" else int(images),
        drop_other_sizes=entry.get("drop_other_sizes", False),
    )


def _table(columns: dict[str, dict]) -> str:
    """Markdown: a row a fact, a column a subset."""
    facts = next(iter(columns.values()))
    rows = [["", *columns], *([title, *(f"{column[title]:,}" for column in columns.values())] for title in facts)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.rjust(w) if place else cell.ljust(w) for place, (cell, w) in enumerate(pairs)) + " |"
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    rule = "|" + "|".join("-" * (width + 1) + (":" if place else "-") for place, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
