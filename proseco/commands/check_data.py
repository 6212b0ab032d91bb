"""``check-data``: what the data sets of a run hold, and what is wrong with them, before anything is trained."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from proseco import schema
from proseco.base import params, plugins
from proseco.base.errors import InputError
from proseco.data import verify
from proseco.data.annotations import check, check_classes, check_objects


def main(*, scale: str | None = None, benchmark: str | None = None, images: str = "all", decode: bool = False) -> None:
    """Report the data sets of run.benchmarks, or of one benchmark, in a table; exit code 1 if a training would fail.

    :param scale: whose roots to look in; that of params.yaml if not given.
    :param images: of how many images of each subset, evenly spaced, to look at the files; or ``all``.
    :param decode: decode these files too, which finds all that is wrong with them; else their first and last bytes are
        read, which finds files that were cut.
    """
    if images != "all" and not (images.isdecimal() and int(images) > 0):
        raise InputError(f"--images is {images!r}; it must be a whole number above 0, or all")
    limit = None if images == "all" else int(images)
    settings = params.load()
    scale = scale or settings["scale"]
    params.get(settings, "scales", scale)
    labels, columns, notes, errors = {}, {}, [], []  # the first two by title of a subset
    for name in settings["run"]["benchmarks"] if benchmark is None else [benchmark]:
        entry = params.get(settings, "benchmarks", name)
        schema.benchmark(entry, f"benchmarks.{name}")
        load = partial(plugins.load("benchmarks", entry["name"]), **plugins.options("benchmarks", entry))
        drop = entry.get("drop_other_sizes", False)
        subsets = [subset for subset in (entry["train"], entry["test"]) if subset is not None]
        titles = [f"{entry['root']} {subset}" for subset in subsets]
        for title, subset in zip(titles, subsets, strict=True):
            if title in labels:  # Mini-COCO 5 % and 10 % have the same
                continue
            labels[title] = None
            with _collected(errors):
                root = params.root(settings, scale, entry["root"])
                labels[title] = load(root, subset)
                how = {"limit": limit, "drop_other_sizes": drop, "decode": decode}
                described = verify.describe(labels[title], root, source=title, **how)
                columns[title] = described[0]
                notes += described[1]
                errors += described[2]
                checked, _ = check(labels[title], source=title)
                check_objects(checked, source=title, scored=subset == entry["test"])
        readable = [labels[title] for title in titles if labels[title] is not None]
        with _collected(errors):
            if len(readable) == 2:
                check_classes(*readable, source=name)
    if columns:
        print(_table(columns))
    print(*(f"note: {note}" for note in notes), sep="\n", end="\n" if notes else "")
    if errors:
        print(*(f"error: {error}" for error in dict.fromkeys(errors)), sep="\n", file=sys.stderr)
        raise SystemExit(1)


@contextmanager
def _collected(errors: list[str]) -> Iterator[None]:
    """Go on after an error, so that one call names them all."""
    try:
        yield
    except InputError as error:
        errors.append(str(error))


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
