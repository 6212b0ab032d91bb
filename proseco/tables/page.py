"""All tables and pictures as one HTML file that needs no other file and no network."""

import base64
import io
import re
import shlex
from itertools import groupby
from pathlib import Path

import jinja2
from PIL import Image

from proseco.tables.cells import MADE
from proseco.tables.formats import joined
from proseco.tables.layout import OWN, Table

#: Heads of what made a cell, as ``cells.MADE``.
_MADE_HEADS = dict(zip(MADE, ("commit", "parameters", "labels", "start", "pretraining", "its data"), strict=True))
#: Of WebP: an eighth of the PNGs, and their text stays sharp.
_QUALITY = 70


def render(
    tables: list[Table],
    *,
    scale: str,
    lead: list[str],
    pictures: dict[str, Path],
    rows: dict[str, dict],
    compare_with_paper: bool,
    alone: bool = False,
) -> str:
    """The page.

    :param lead: paragraphs at the top.
    :param pictures: caption -> PNG.
    :param rows: as from :func:`proseco.experiment.wording.describe_all`.
    :param compare_with_paper: whether the paper's figures are in the tables; then those without any cell that was run
        are shown too, and else listed with the command that would fill them.
    :param alone: whether no other files of the tables stand beside the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"groups": _groups, "joined": joined, "key": _key, "short": _short}
    return environment.get_template("page.html").render(
        shown=[table for table in tables if compare_with_paper or table.run],
        left=[
            (table, command(table, rows))
            for table in tables
            if not (compare_with_paper or table.run or table.name == OWN)
        ],
        compare_with_paper=compare_with_paper,
        alone=alone,
        scale=scale,
        lead=lead,
        pictures={caption: _inline(path) for caption, path in pictures.items()},
        made=_MADE_HEADS,
    )


def command(table: Table, rows: dict[str, dict]) -> str:
    """What fills a table: an experiment that selects its rows and benchmarks, as far as the parameters have them."""
    there = [line.row for line in table.lines if line.row in rows]
    chosen = {"methods": [row for row in there if "of" not in rows[row]]}
    ablations = [row for row in there if "of" in rows[row]]
    chosen["methods"] = chosen["methods"] or list(dict.fromkeys(rows[row]["of"] for row in ablations))
    benchmarks = list(dict.fromkeys(figure.benchmark for figure in table.figures if figure.benchmark))
    chosen |= {"benchmarks": benchmarks} if benchmarks else {}
    chosen |= {"ablations": ablations, "ablation_benchmarks": benchmarks} if ablations else {}
    sources = list(dict.fromkeys(rows[row]["unlabelled"] for row in there if rows[row].get("unlabelled")))
    chosen |= {"unlabelled": list(dict.fromkeys(["main", *sources]))} if sources else {}
    lists = [f"run.{key}=[{','.join(names)}]" for key, names in chosen.items()]
    return " ".join(["dvc exp run", *(f"-S {shlex.quote(text)}" for text in lists)])


def _groups(table: Table) -> list[tuple[str, int]]:
    """Heads over heads: text and number of columns; none where no column stands in a group."""
    heads = [*table.texts, *table.heads]
    groups = [(group, len(list(members))) for group, members in groupby(heads, key=lambda head: head.group)]
    return groups if any(group for group, _ in groups) else []


def _key(value) -> str:
    """What a column is sorted by: a number in full, a text as it is, nothing where there is nothing."""
    return "" if value != value else repr(value) if isinstance(value, float) else str(value)


def _short(value: str) -> str:
    """The beginning of each digest (``name=digest``, or alone); the whole is in the CSV."""
    return re.sub(r"\b[0-9a-f]{12,}\b", lambda match: match[0][:10], value) or "unknown"


def _inline(path: Path) -> dict:
    """A picture in the page, smaller than its PNG: WebP as a data URI, with its size."""
    with Image.open(path) as image:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=6)
        size = image.size
    return {"uri": f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", "size": size}
