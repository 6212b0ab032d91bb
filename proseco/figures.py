"""Pictures of results: bars of AP, loss curves, boxes on images, sheets of images.

Equal inputs give equal PNG bytes on one machine. Widths aim at a README, about 850 pixels, at twice the resolution.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from PIL import Image, ImageDraw, ImageFont

from proseco.base.errors import InputError
from proseco.base.files import replacing

#: Okabe and Ito's colours, told apart by colour-blind eyes too; grey, for the reference, first.
PALETTE = ("#8c8c8c", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_LINES = PALETTE[1:7]  # no grey, which raw values fade into, and no yellow, which white swallows
TRUTH, DETECTION, PROPOSAL = "#009e73", "#e69f00", "#56b4e9"
INK, FAINT = "#222222", "#dddddd"

_WIDTH_IN, _DPI = 8.5, 200  # 1,700 pixels
_GAP = 8  # pixels between the pictures of a sheet
_PAGE = 4 / 3  # width to height that a montage aims at
_STYLE = {
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
#: Columns of a log that say nothing of what was learnt.
_NOT_SHOWN = ("step", "epoch", "lr", "grad_norm", "images_per_second")


def ap_bars(summary: pandas.DataFrame, path: str | Path, title: str) -> None:
    """A group of bars a benchmark, a bar a method: mean AP, its deviation, and each seed as a point.

    :param summary: as from :func:`proseco.tables.summarise`.
    """
    methods = dict(zip(summary["method"], summary["method_title"], strict=True))
    benchmarks = list(dict.fromkeys(summary["benchmark"]))
    per_row = max(1, 16 // len(methods))  # more bars in a row leave no room for their figures
    chunks = [benchmarks[i : i + per_row] for i in range(0, len(benchmarks), per_row)]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 0.9 + 2.9 * len(chunks)), layout="constrained")
        panels = figure.subplots(len(chunks), squeeze=False)[:, 0]
        for panel, chunk in zip(panels, chunks, strict=True):
            _bars(panel, summary[summary["benchmark"].isin(chunk)], list(methods), chunk)
            panel.set_xlim(-0.6, len(chunks[0]) - 0.4)  # bars of one width in all rows
        if (seeds := summary["n"].max()) > 1:
            legend = f"bars: mean over {seeds} seeds; whiskers: ± standard deviation; points: single seeds"
            panels[-1].set_xlabel(legend, fontsize=8)
        patches = [Patch(color=PALETTE[index % len(PALETTE)]) for index in range(len(methods))]
        figure.legend(
            patches,
            list(methods.values()),
            loc="outside upper center",
            ncols=min(len(methods), 5),
            title=title,
            title_fontproperties={"size": 12, "weight": "bold"},
        )
        _save(figure, path)


def _bars(panel, summary: pandas.DataFrame, methods: list[str], benchmarks: list[str]) -> None:
    """One row of groups."""
    cells = {(row["method"], row["benchmark"]): row for row in summary.to_dict("records")}
    width = 0.8 / len(methods)
    for index, method in enumerate(methods):
        found = [(x, cells[method, name]) for x, name in enumerate(benchmarks) if (method, name) in cells]
        xs = np.array([x + (index - (len(methods) - 1) / 2) * width for x, _ in found])
        means = np.array([row["AP"] for _, row in found])
        panel.bar(xs, means, width * 0.92, color=PALETTE[index % len(PALETTE)])
        for x, row in zip(xs, (row for _, row in found), strict=True):
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
        counts = sorted({min(row["labels"]), max(row["labels"])})
        names.append(f"{row['benchmark_title']}\n{'-'.join(f'{n:,}' for n in counts)} labelled images")
    panel.set_xticks(range(len(benchmarks)), names)
    panel.tick_params(axis="x", length=0)
    panel.set_ylabel("AP (%)")
    panel.margins(y=0.12)
    panel.set_ylim(bottom=0)


def loss_curves(logs: dict[str, str | Path], path: str | Path) -> None:
    """A small panel a column of the logs (the loss, its terms, what else was watched): raw values faint, over them
    a moving mean of a twentieth of the run.

    Runs with the same columns share panels (methods finetuned alike); runs with others (a pretraining) get their own,
    because equal names need not mean equal quantities there.

    :param logs: label -> ``log.csv``, with columns ``step``, ``loss`` and one a term.
    :raises InputError: a log is missing, has no line, or has no column ``step`` or ``loss``.
    """
    blocks: dict[tuple[str, ...], dict[str, pandas.DataFrame]] = {}
    for label, log in logs.items():
        frame = _read_log(log)
        terms = tuple(c for c in frame.columns if c not in _NOT_SHOWN and frame[c].notna().any())
        blocks.setdefault(terms, {})[label] = frame
    colors = {label: _LINES[index % len(_LINES)] for index, label in enumerate(logs)}
    columns = max(2, min(4, max(map(len, blocks))))
    heights = [0.55 + 1.65 * math.ceil(len(terms) / columns) for terms in blocks]
    with matplotlib.rc_context({**_STYLE, "font.size": 8, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(_WIDTH_IN, sum(heights)), layout="constrained")
        parts = figure.subfigures(len(blocks), height_ratios=heights, squeeze=False)[:, 0]
        for part, (terms, frames) in zip(parts, blocks.items(), strict=True):
            panels = part.subplots(math.ceil(len(terms) / columns), columns, squeeze=False).ravel()
            for panel, term in zip(panels, terms, strict=False):
                _curves(panel, {label: (frame["step"], frame[term]) for label, frame in frames.items()}, colors)
                scale = " (log scale)" * (panel.get_yscale() == "log")
                panel.set_title(term.replace("_", " ") + scale, fontsize=9)
            for index, panel in enumerate(panels):
                panel.set_visible(index < len(terms))
                if index + columns >= len(terms):
                    panel.set_xlabel("step")
            handles = [line for line in panels[0].get_lines() if line.get_label() in frames]
            part.legend(handles, list(frames), loc="outside upper left", ncols=4, fontsize=9)
        _save(figure, path)


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


def _curves(panel, curves: dict[str, tuple[pandas.Series, pandas.Series]], colors: dict[str, str]) -> None:
    """Raw and smoothed curves in one panel, on the scale that suits them."""
    low, high, positive = math.inf, -math.inf, True
    for label, (steps, values) in curves.items():
        smooth = values.rolling(max(1, len(values) // 20), center=True, min_periods=1).mean()
        panel.plot(steps, values, color=colors[label], linewidth=0.6, alpha=0.3)
        panel.plot(steps, smooth, color=colors[label], linewidth=1.4, label=label)
        # Single spikes may leave the panel: the axis shows what the run did, not its worst step.
        low = min(low, smooth.min(), values.quantile(0.01))
        high = max(high, smooth.max(), values.quantile(0.99))
        positive &= bool((values.dropna() > 0).all())
    if positive and high > 10 * low:
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_ylim(low / 1.1, high * 1.1)
    else:
        margin = 0.06 * (high - low) or 0.5
        panel.set_ylim(low - margin, high + margin)


def draw_boxes(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    *,
    color: str | Sequence[str],
    labels: Sequence[str] | None = None,
    scores: Sequence[float] | None = None,
    long_edge: int = 480,
) -> np.ndarray:
    """Boxes with their names on a copy of an image.

    :param image: H x W x 3, RGB, uint8.
    :param boxes_xyxy: K x 4, pixels of ``image``.
    :param color: a matplotlib colour, or one a box.
    :param labels: a name a box; ``scores`` a number 0..1 a box. The surest box is drawn last, on top.
    :param long_edge: an image whose long edge is shorter is enlarged by a whole factor, so that names are legible.
    :returns: fH x fW x 3, RGB, uint8, with f that factor.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    factor = max(1, math.ceil(long_edge / max(image.shape[:2])))
    canvas = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC if factor > 1 else 0)
    colors = [color] * len(boxes) if isinstance(color, str) else list(color)
    order = range(len(boxes)) if scores is None else np.argsort(np.asarray(scores), kind="stable")
    line = max(1, round(max(canvas.shape[:2]) / 240))
    corners = np.rint(boxes * factor).astype(int).tolist()
    fills = [tuple(round(255 * channel) for channel in matplotlib.colors.to_rgb(name)) for name in colors]
    for i in order:
        x1, y1, x2, y2 = corners[i]
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), (255, 255, 255), line + 2)  # a rim, on any ground
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), fills[i], line)
    for i in order:  # after all boxes, so that none runs through a name
        words = ([labels[i]] if labels is not None else []) + ([f"{scores[i]:.2f}"] if scores is not None else [])
        if words:
            _tag(canvas, " ".join(words), *corners[i][:2], fills[i])
    return canvas


def _tag(canvas: np.ndarray, text: str, x: int, y: int, rgb: tuple[int, ...]) -> None:
    """Text on a plate of the box's colour, above the corner (x, y) or, at the upper edge, below it; in place."""
    scale = max(canvas.shape[:2]) / 850
    face, weight = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale * 2))
    (width, height), base = cv2.getTextSize(text, face, scale, weight)
    x = min(max(x, 0), max(0, canvas.shape[1] - width - 4))
    top = y - height - base if y >= height + base else y
    top = min(max(top, 0), canvas.shape[0] - height - base)
    cv2.rectangle(canvas, (x, top), (x + width + 3, top + height + base - 1), rgb, cv2.FILLED)
    dark = np.dot(rgb, (0.299, 0.587, 0.114)) < 140
    ink = (255, 255, 255) if dark else (0, 0, 0)
    cv2.putText(canvas, text, (x + 2, top + height + base // 3), face, scale, ink, weight, cv2.LINE_AA)


def contact_sheet(
    rows: list[list[np.ndarray | None]],
    path: str | Path,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
) -> None:
    """Images in a grid, such as detections beside ground truth.

    :param rows: RGB uint8 images of any sizes, fitted into equal squares; None leaves a place empty.
    """
    side = _cell_width([image for row in rows for image in row if image is not None], max(map(len, rows)))
    fitted = [[None if image is None else _fit(image, side, side) for image in row] for row in rows]
    _save_picture(_grid(fitted, side, [column_titles] + [()] * (len(rows) - 1), row_titles), path)


def montage(paths: dict[str, str | Path], path: str | Path) -> None:
    """Pictures under their titles, side by side as far as the shape of a page allows.

    :param paths: title -> PNG file.
    :raises InputError: a file is missing or is no picture.
    """
    images = {}
    for title, file in paths.items():
        try:
            images[title] = np.asarray(Image.open(file).convert("RGB"))
        except OSError as error:
            raise InputError(f"no picture {str(file)!r}: {error}") from None
    aspect = np.mean([image.shape[1] / image.shape[0] for image in images.values()])
    counts = range(1, len(images) + 1)
    columns = min(counts, key=lambda n: _misfit(n, len(images), aspect))
    width = _cell_width(list(images.values()), columns)
    titles, fitted = list(images), [_fit(image, width, None) for image in images.values()]
    starts = range(0, len(fitted), columns)
    rows, heads = ([items[i : i + columns] for i in starts] for items in (fitted, titles))
    # A montage goes into Git: 256 colours are a quarter of the bytes.
    sheet = _grid(rows, width, heads, ()).quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    _save_picture(sheet, path)


def _misfit(columns: int, count: int, aspect: float) -> float:
    """How far a grid is from the shape of a page, plus twice the part of it that stays empty."""
    rows = math.ceil(count / columns)
    return abs(math.log(columns * aspect / rows / _PAGE)) + 2 * (1 - count / (rows * columns))


def _cell_width(images: list[np.ndarray], columns: int) -> int:
    """Width in pixels of a grid's cells: that of the widest image, if the page holds it."""
    return min(max(image.shape[1] for image in images), int(_WIDTH_IN * _DPI) // columns - _GAP)


def _fit(image: np.ndarray, width: int, height: int | None) -> np.ndarray:
    """The image scaled to the width, or to the height where that is less."""
    scale = min(width / image.shape[1], math.inf if height is None else height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _grid(
    rows: list[list[np.ndarray | None]], width: int, titles: Sequence[Sequence[str]], row_titles: Sequence[str]
) -> Image.Image:
    """Fitted images on white, titles above the cells of a row, row titles upright at the left."""
    columns = max(map(len, rows))
    size = int(np.clip(width * columns / 50, 14, 30))
    line, gap = round(size * 1.6), _GAP
    left = line if row_titles else 0
    heights = [max((image.shape[0] for image in row if image is not None), default=0) for row in rows]
    total = sum(heights) + sum(line for names in titles if names) + gap * len(rows)
    sheet = Image.new("RGB", (left + columns * (width + gap), total), "white")
    top = 0
    for index, (row, names, height) in enumerate(zip(rows, titles, heights, strict=True)):
        for column, name in enumerate(names):
            sheet.paste(_text(name, (width, line), size), (left + column * (width + gap), top))
        top += line if names else 0
        if index < len(row_titles):
            sheet.paste(_text(row_titles[index], (height, line), size).transpose(Image.Transpose.ROTATE_90), (0, top))
        for column, image in enumerate(row):
            if image is not None:
                x = left + column * (width + gap) + (width - image.shape[1]) // 2
                sheet.paste(Image.fromarray(image), (x, top + (height - image.shape[0]) // 2))
        top += height + gap
    return sheet


def _text(text: str, size: tuple[int, int], points: int) -> Image.Image:
    """A line of text in the middle of a white plate (width, height), set smaller where it would not fit."""
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    while points > 8 and ImageFont.truetype(file, points).getlength(text) > size[0]:
        points -= 1
    plate = Image.new("RGB", size, "white")
    middle = (size[0] / 2, size[1] / 2)
    ImageDraw.Draw(plate).text(middle, text, fill=INK, font=ImageFont.truetype(file, points), anchor="mm")
    return plate


def _save(figure: Figure, path: str | Path) -> None:
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=_DPI, metadata={"Software": None})


def _save_picture(picture: Image.Image, path: str | Path) -> None:
    with replacing(path) as part:
        picture.save(part, format="PNG", optimize=True)
