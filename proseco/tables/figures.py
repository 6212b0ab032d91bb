"""Charts of results: bars of AP, loss curves, recall of proposals.

Equal inputs give equal PNG bytes on one machine. Widths aim at a README, about 850 pixels, at twice the resolution.
"""

import itertools
import math
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from proseco.base.errors import InputError
from proseco.base.files import replacing
from proseco.pictures import INK
from proseco.pictures import PALETTE as OKABE_ITO
from proseco.tables.layout import labels_text

#: Grey, for the reference, before colours that colour-blind eyes tell apart too.
PALETTE = ("#8c8c8c", *OKABE_ITO)
LINES = PALETTE[1:7]  # no grey, which raw values fade into, and no yellow, which white swallows
FAINT = "#dddddd"
#: What tells methods apart whose colours have come round again.
_HATCHES, _DASHES = (None, "////", "...."), ("-", "--", ":", "-.")

WIDTH_IN, _DPI = 8.5, 200  # 1,700 pixels
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "legend.frameon": False,
}
#: Columns of a log that are no curve of what was learnt.
_NOT_SHOWN = ("step", "epoch", "lr")
#: Panels of columns whose names say too little.
_PANELS = {
    "coord": "coord (L1)",
    "grad_norm": "gradient norm",
    "matched_iou": "IoU of matched boxes",
    "positives": "positives of an anchor",
    "ema_distance": "teacher to student, relative",
}


def ap_bars(summary: pandas.DataFrame, path: str | Path, title: str) -> None:
    """One group of bars per benchmark, one bar per method: mean AP, its deviation, and each seed as a point.

    :param summary: as from :func:`proseco.tables.summary.summarise`.
    """
    methods = dict(zip(summary["method"], summary["method_title"], strict=True))
    benchmarks = list(dict.fromkeys(summary["benchmark"]))
    per_row = max(1, 16 // len(methods))  # more bars in a row leave no room for their figures
    chunks = [benchmarks[i : i + per_row] for i in range(0, len(benchmarks), per_row)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.9 + 2.9 * len(chunks)), layout="constrained")
        panels = figure.subplots(len(chunks), squeeze=False)[:, 0]
        for panel, chunk in zip(panels, chunks, strict=True):
            _bars(panel, summary[summary["benchmark"].isin(chunk)], list(methods), chunk)
            panel.set_xlim(-0.6, len(chunks[0]) - 0.4)  # bars of one width in all rows
        if (seeds := summary["n"].max()) > 1:
            legend = f"bars: mean over {seeds} seeds; whiskers: ± standard deviation; points: single seeds"
            panels[-1].set_xlabel(legend, fontsize=8)
        patches = [Patch(**_bar(index)) for index in range(len(methods))]
        figure.legend(
            patches,
            list(methods.values()),
            loc="outside upper center",
            ncols=columns_of(methods.values(), 10, at_most=5),
            title=title,
            title_fontproperties={"size": 12, "weight": "bold"},
        )
        save(figure, path)


def _bar(index: int) -> dict:
    """The look of a method's bars."""
    color, hatch = PALETTE[index % len(PALETTE)], _HATCHES[index // len(PALETTE) % len(_HATCHES)]
    return {"color": color} if hatch is None else {"facecolor": color, "edgecolor": "white", "hatch": hatch}


def _bars(panel, summary: pandas.DataFrame, methods: list[str], benchmarks: list[str]) -> None:
    """One row of groups."""
    cells = {(row["method"], row["benchmark"]): row for row in summary.to_dict("records")}
    width = 0.8 / len(methods)
    for index, method in enumerate(methods):
        bars = [(x, cells[method, name]) for x, name in enumerate(benchmarks) if (method, name) in cells]
        xs = np.array([x + (index - (len(methods) - 1) / 2) * width for x, _ in bars])
        means = np.array([row["AP"] for _, row in bars])
        panel.bar(xs, means, width * 0.92, **_bar(index))
        for x, row in zip(xs, (row for _, row in bars), strict=True):
            values = np.array(row["AP_values"])
            top = max(values.max(), row["AP"])
            if not math.isnan(row["AP_std"]):
                panel.errorbar(x, row["AP"], row["AP_std"], color=INK, capsize=4, linewidth=1.2, zorder=3)
                spread = np.linspace(0.14, 0.38, len(values)) * width  # beside the whisker, equal points apart
                panel.scatter(
                    x + spread,
                    values,
                    s=16 if width > 0.15 else 6,
                    color="white",
                    edgecolor=INK,
                    linewidth=0.8,
                    zorder=4,
                )
                top = max(top, row["AP"] + row["AP_std"])
            panel.annotate(
                f"{row['AP']:.1f}", (x, top), (0, 4), textcoords="offset points", ha="center", va="bottom", fontsize=9
            )
    names = []
    for row in summary.drop_duplicates("benchmark").to_dict("records"):  # in the order of ``benchmarks``
        names.append(f"{row['benchmark_title']}\n{labels_text(row['labels'])} labelled images")
    panel.set_xticks(range(len(benchmarks)), names)
    panel.tick_params(axis="x", length=0)
    panel.set_ylabel("AP (%)")
    panel.margins(y=0.12)
    panel.set_ylim(bottom=0)


def loss_curves(
    logs: dict[str, str | Path],
    path: str | Path,
    validations: dict[str, list[dict]] | None = None,
    colors: dict[str, int] | None = None,
) -> None:
    """One small panel per column of the logs (the loss, its terms, what else was watched): raw values faint, over them
    a moving mean of a twentieth of the run. Where a run was validated, its AP last.

    Runs with the same columns share panels (methods finetuned alike); runs with others (a pretraining) get their own,
    because equal names need not mean equal quantities there.

    :param logs: label -> ``log.csv``, with columns ``step``, ``loss`` and one per term.
    :param validations: label -> ``step`` and ``AP`` (in %; None without an object to score) of each validation.
    :param colors: label -> number of its colour; None: each has its own.
    :raises InputError: a log is missing, has no line, or has no column ``step`` or ``loss``.
    """
    parts = _parts(logs, validations or {})
    numbers = colors or {label: i for i, label in enumerate(logs)}
    looks = {
        label: {
            "color": LINES[numbers[label] % len(LINES)],
            "linestyle": _DASHES[numbers[label] // len(LINES) % len(_DASHES)],
        }
        for label in logs
    }
    columns = max(2, min(3, max(len(curves) for curves, _ in parts)))
    legends = [columns_of(labels, 9, at_most=4) for _, labels in parts]
    heights = [
        0.38 + 0.17 * math.ceil(len(labels) / ncols) + 1.65 * math.ceil(len(curves) / columns)
        for (curves, labels), ncols in zip(parts, legends, strict=True)
    ]
    with matplotlib.rc_context({**STYLE, "font.size": 8, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(WIDTH_IN, sum(heights)), layout="constrained")
        subfigures = figure.subfigures(len(parts), height_ratios=heights, squeeze=False)[:, 0]
        for part, (curves, labels), ncols in zip(subfigures, parts, legends, strict=True):
            panels = part.subplots(math.ceil(len(curves) / columns), columns, squeeze=False).ravel()
            for panel, (title, lines) in zip(panels, curves.items(), strict=False):
                _curves(panel, lines, looks)
                scale = " (log scale)" if panel.get_yscale() == "log" else ""
                panel.set_title(title.replace("_", " ") + scale, fontsize=9)
                panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            for index, panel in enumerate(panels):
                panel.set_visible(index < len(curves))
                if index + columns >= len(curves):
                    panel.set_xlabel("step")
            handles = [line for line in panels[0].get_lines() if line.get_label() in labels]
            part.legend(handles, labels, loc="outside upper left", ncols=ncols, fontsize=9)
        save(figure, path)


def _parts(logs: dict[str, str | Path], validations: dict[str, list[dict]]) -> list[tuple[dict, list[str]]]:
    """Runs that share panels: (title -> label -> steps and values, labels) of each such group."""
    groups: dict[tuple[str, ...], dict[str, pandas.DataFrame]] = {}
    for label, log in logs.items():
        frame = _read_log(log)
        columns = tuple(c for c in frame.columns if c not in _NOT_SHOWN and frame[c].notna().any())
        groups.setdefault(columns, {})[label] = frame
    parts = []
    for columns, frames in groups.items():
        curves = {_PANELS.get(c, c): {label: (f["step"], f[c]) for label, f in frames.items()} for c in columns}
        scores = {label: pandas.DataFrame(validations[label]) for label in frames if label in validations}
        scores = {label: score for label, score in scores.items() if score["AP"].notna().any()}  # none: no object shown
        if scores:
            curves["validation AP (%)"] = {label: (score["step"], score["AP"]) for label, score in scores.items()}
        parts.append((curves, list(frames)))
    return parts


def _read_log(path: str | Path) -> pandas.DataFrame:
    try:
        frame = pandas.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"no log {str(path)!r}") from None
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        raise InputError(f"{str(path)!r} is no log: {error}") from None
    if missing := {"step", "loss"} - set(frame.columns) or (not len(frame) and {"a line"}):
        raise InputError(f"log {str(path)!r} lacks {', '.join(sorted(missing))}")
    return frame


def _curves(panel, curves: dict[str, tuple[pandas.Series, pandas.Series]], looks: dict[str, dict]) -> None:
    """Raw and smoothed curves in one panel, on the scale that suits them."""
    low, high, positive = math.inf, -math.inf, True
    for label, (steps, values) in curves.items():
        smooth = values.rolling(max(1, len(values) // 20), center=True, min_periods=1).mean()
        panel.plot(steps, values, color=looks[label]["color"], linewidth=0.6, alpha=0.3)
        dots = "o" if len(values) < 20 else None
        panel.plot(steps, smooth, linewidth=1.4, marker=dots, markersize=3, label=label, **looks[label])
        # Single spikes may leave the panel: the axis shows what the run did, not its worst step.
        first = values.dropna().iloc[:1]
        low = min(low, smooth.min(), values.quantile(0.01), *first)
        high = max(high, smooth.max(), values.quantile(0.99), *first)
        positive &= bool((values.dropna() > 0).all())
    if positive and high > 10 * low:
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_ylim(low / 1.1, high * 1.1)
    else:
        margin = 0.06 * (high - low) or 0.5
        panel.set_ylim(low - margin, high + margin)


def recall_curves(recall: pandas.DataFrame, path: str | Path, titles: dict[str, str], title: str) -> None:
    """One panel per benchmark, one colour per source of boxes, one line style per IoU: recall over the number of boxes.

    A line ends where an image has no more boxes, at the mean number of boxes of an image.

    :param recall: rows of ``recall.csv`` as text; see :func:`proseco.evaluation.recall.measure`.
    :param titles: name -> title of the benchmarks to show.
    """
    colors = dict(zip(dict.fromkeys(recall["source"]), itertools.cycle(LINES), strict=False))
    styles = dict(zip(sorted(set(recall["iou"])), ("-", "--", ":"), strict=False))
    columns = min(3, max(2, len(titles)))
    rows = math.ceil(len(titles) / columns)
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(WIDTH_IN, 0.8 + 2.7 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for panel, (name, text) in zip(panels, titles.items(), strict=False):
            shown = recall[recall["benchmark"] == name]
            for (source, iou), line in shown.groupby(["source", "iou"], sort=False):
                last = line["boxes_per_image"].astype(float).iloc[0]
                boxes = line["boxes"].replace("all", last).astype(float)
                drawn = (boxes < last) | (line["boxes"] == "all")
                style = {"color": colors[source], "linestyle": styles[iou], "linewidth": 1.6, "markersize": 3.5}
                panel.plot(boxes[drawn], 100 * line["recall"].astype(float)[drawn], marker="o", clip_on=False, **style)
            panel.set_xscale("log")
            most = shown["boxes_per_image"].astype(float).max()
            ticks = sorted({int(count) for count in shown["boxes"] if count != "all" and int(count) <= most})
            panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            panel.minorticks_off()
            panel.set_title(
                f"{text}\n{shown['objects'].iloc[0]} objects, {shown['images'].iloc[0]} images", fontsize=10
            )
            panel.set_xlabel("boxes of an image, best first; at the end all of them")
            panel.set_ylim(0, 100)
        for index, panel in enumerate(panels):
            panel.set_visible(index < len(titles))
            if index % columns == 0:
                panel.set_ylabel("objects covered (%)")
        handles = [Line2D([], [], color=color, linewidth=1.6) for color in colors.values()]
        handles += [Line2D([], [], color=INK, linestyle=style, linewidth=1.6) for style in styles.values()]
        labels = [*colors, *(f"IoU ≥ {iou}" for iou in styles)]
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=columns_of(labels, STYLE["font.size"], at_most=len(labels)),
            title=title,
            title_fontproperties={"size": 12, "weight": "bold"},
        )
        save(figure, path)


def columns_of(labels: Iterable[str], size: float, *, at_most: int) -> int:
    """Columns of a legend that is no wider than a figure.

    :param size: of the font, in points.
    """
    labels = list(labels)
    width = (max(map(len, labels)) * 0.58 + 4.5) * size / 72  # inches: letters, and the handle with its spaces
    return max(1, min(at_most, len(labels), int(WIDTH_IN / width)))


def save(figure: Figure, path: str | Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=_DPI, metadata={"Software": None})
