"""``check-data``: what the data sets of a run hold, and what is wrong with them, before anything is trained."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from proseco import splits
from proseco.base import files, params, plugins
from proseco.base.errors import InputError
from proseco.commands import _pictures
from proseco.data import id_files, verify
from proseco.data import images as pixels
from proseco.data.annotations import check_classes, check_objects
from proseco.data.sample import evenly_spaced
from proseco.experiment import needs, plan, schema
from proseco.weights import wanted

OWN = Path("splits", "own")  # id files that users bring; stage split reads them there
_SHEET = 3, 5  # rows and columns of images


def main(
    *,
    scale: str | None = None,
    benchmark: str | None = None,
    images: str = "all",
    decode: bool = False,
    pictures: Path | None = None,
) -> None:
    """Report the data sets of run.benchmarks, or of one benchmark, in a table; exit code 1 if a training would fail.

    :param scale: whose roots, counts and checkpoints; that of params.yaml if not given.
    :param benchmark: a key of ``benchmarks`` in params.yaml, alone; it need not be among those of the run.
    :param images: of how many images of each subset, evenly spaced, to look at the files; or ``all``.
    :param decode: decode these files too, which finds what a decoder stumbles on; else their first and last bytes are
        read, which finds files that were cut.
    :param pictures: a new folder, for a sheet of images with their boxes for each subset.
    """
    if images != "all" and not (images.isdecimal() and int(images) > 0):
        raise InputError(f"--images is {images!r}; it must be a whole number above 0, or all")
    _pictures.refuse_used(pictures)
    settings = params.load()
    scale = scale or settings["scale"]
    params.get(settings, "scales", scale)
    names = settings["run"]["benchmarks"] if benchmark is None else [benchmark]
    for name in names:
        schema.benchmark(params.get(settings, "benchmarks", name), f"benchmarks.{name}")
    if benchmark is not None:
        settings["run"] = _alone(settings["run"], benchmark)
    how = {"limit": None if images == "all" else int(images), "decode": decode}
    titles, labels, columns, notes, errors = {}, {}, {}, [], []  # the first two by all that a subset is read by
    valid = _valid(settings, scale, errors)
    for name in names:
        entry = settings["benchmarks"][name]
        options, drop = plugins.options("benchmarks", entry), entry.get("drop_other_sizes", False)
        load = plugins.bind("benchmarks", entry)
        subsets = [subset for subset in (entry["train"], entry["test"]) if subset is not None]
        keys = [json.dumps([entry["name"], options, entry["root"], subset, drop], sort_keys=True) for subset in subsets]
        for key, subset in zip(keys, subsets, strict=True):
            if key not in labels:  # Mini-COCO 5 % and 10 % have the same
                title = f"{entry['root']} {subset}"
                titles[key] = title = f"{title} ({name})" if title in titles.values() else title
                labels[key] = None
                with _collected(errors):
                    root = params.root(settings, scale, entry["root"])
                    report = verify.describe(load(root, subset), root, source=title, drop=drop, **how)
                    columns[title], labels[key] = report.facts, report.labels
                    notes += report.notes
                    errors += report.errors
                    if pictures:
                        slug = "_".join(re.findall(r"\w+", title))
                        _draw(pictures / f"{len(columns)}_{slug}.png", report.labels, root)
            with _collected(errors):
                if labels[key] is not None:
                    check_objects(labels[key], source=titles[key], scored=subset == entry["test"])
        readable = [labels[key] for key in keys if labels[key] is not None]
        with _collected(errors):
            if len(readable) == 2:
                check_classes(*readable, source=name)
        if valid and len(readable) == len(keys):
            wrong, said = _split(settings, scale, name, *readable)
            errors += wrong
            notes += said
    if valid and benchmark is None:
        for root, archive in needs.roots(settings, scale).items():
            with _collected(errors):
                params.root(settings, scale, root, archive=archive)
        errors += wanted.missing(plan.chosen_backbones(settings, scale)[1], scale=scale)
    if columns:
        print(_table(columns))
    print(*(f"note: {note}" for note in notes), sep="\n", end="\n" if notes else "")
    if errors:
        print(*(f"error: {error}" for error in dict.fromkeys(errors)), sep="\n", file=sys.stderr)
        raise SystemExit(1)


def _alone(run: dict, benchmark: str) -> dict:
    """The run, of one benchmark, which need not be among its own."""
    ablated = run.get("ablation_benchmarks")
    if isinstance(ablated, list):  # else schema.check says what is wrong with it
        there = [name for name in ablated if name == benchmark]
        run = run | {"ablation_benchmarks": there} | ({} if there else {"ablations": []})
    return run | {"benchmarks": [benchmark]}


def _valid(settings: dict, scale: str, errors: list[str]) -> bool:
    """Whether stage plan would pass, but for roots that are null: those are named with the others that are missing."""
    section = settings["scales"][scale]
    if isinstance(section.get("roots"), dict):
        section = section | {"roots": {name: where or "." for name, where in section["roots"].items()}}
    with _collected(errors):
        schema.check(settings | {"scale": scale, "scales": settings["scales"] | {scale: section}})
        return True
    return False


def _split(settings: dict, scale: str, name: str, train: dict, test: dict | None = None) -> tuple[list[str], list[str]]:
    """What stage split, and a finetuning after it, would refuse for the number of images; and what it would note."""
    entry, errors, notes, counts = settings["benchmarks"][name], [], [], []
    rule, validation = splits.rule_of(entry, OWN), settings["scales"][scale]["split"]["validation"]
    for seed in settings["run"]["seeds"]:
        with _collected(errors):
            drawn = splits.draw(train, test, **rule, seed=seed, validation=validation)
            for key in (key for keys in drawn.keys.values() for key in keys):
                id_files.check_key(key, name)
            counts.append(len(drawn.keys["train"]))
            notes += [f"{name}, seed {seed}: {note}" for note in drawn.notes]
    errors = [f"{name}: {error}".replace("<scale>", scale) for error in errors]
    return errors + (needs.batches(settings, scale, name, min(counts)) if counts else []), notes


def _draw(path: Path, labels: dict, root: Path) -> None:
    """A sheet of images with their boxes, evenly spaced among those that have any; every class has its colour."""
    from proseco.pictures import cell_side, colors, contact_sheet, draw_boxes

    rows, columns = _SHEET
    objects: dict[int, list] = {}
    for record in labels["annotations"]:
        objects.setdefault(record["image_id"], []).append(record)
    names = [category["name"] for category in labels["categories"]]
    palette, tiles = colors(len(names)), []
    records = [record for record in labels["images"] if record["id"] in objects]
    for record in (records[place] for place in evenly_spaced(len(records), rows * columns)):
        with suppress(InputError):  # a file that is missing or broken, which the report names
            image, there = pixels.read(root / record["file_name"]), objects[record["id"]]
            boxes = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in there)]
            words = [names[entry["category_id"]] + _kind(entry) for entry in there]
            shades = [palette[entry["category_id"]] for entry in there]
            tiles.append(draw_boxes(image, boxes, color=shades, labels=words, at_most=cell_side(columns)))
    if tiles:
        with files.explaining_write_errors(path, 0, "name another folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet([tiles[start : start + columns] for start in range(0, len(tiles), columns)], path)


def _kind(record: dict) -> str:
    """What training and scoring treat in another way is marked."""
    return " (crowd)" if record["iscrowd"] else " (difficult)" if record["difficult"] else ""


@contextmanager
def _collected(errors: list[str]) -> Iterator[None]:
    """Go on after an error, so that one call names them all."""
    try:
        yield
    except InputError as error:
        errors.append(str(error))


def _table(columns: dict[str, dict]) -> str:
    """Markdown: one row per fact, one column per subset."""
    facts = next(iter(columns.values()))
    rows = [["", *columns], *([title, *(f"{column[title]:,}" for column in columns.values())] for title in facts)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.rjust(w) if place else cell.ljust(w) for place, (cell, w) in enumerate(pairs)) + " |"
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    rule = "|" + "|".join("-" * (width + 1) + (":" if place else "-") for place, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
