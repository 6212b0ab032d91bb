"""Boxes drawn on images, and sheets of images.

Equal inputs give equal PNG bytes on one machine. A sheet is up to 1,700 pixels wide: a README, at twice the resolution.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from proseco.base.errors import InputError
from proseco.base.files import replacing

#: Okabe and Ito's colours, told apart by colour-blind eyes too.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
TRUTH, DETECTION = "#009e73", "#d55e00"
INK = "#222222"

_WIDTH = 1700  # pixels
_GAP = 8  # pixels between the pictures of a sheet
_PAGE = 4 / 3  # width to height that a montage aims at


def colors(count: int) -> list[str]:
    """One colour per box, in turn, so that boxes across each other can be told apart."""
    return [PALETTE[index % len(PALETTE)] for index in range(count)]


def cell_side(columns: int) -> int:
    """Pixels of the side of a cell where that many fill the width of a page."""
    return _WIDTH // columns - _GAP


def draw_boxes(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    *,
    color: str | Sequence[str],
    labels: Sequence[str] | None = None,
    scores: Sequence[float] | None = None,
    long_edge: int = 480,
    at_most: int | None = None,
) -> np.ndarray:
    """Boxes with their names on a copy of an image.

    :param image: H x W x 3, RGB, uint8.
    :param boxes_xyxy: K x 4, pixels of ``image``.
    :param color: a matplotlib colour, or one per box.
    :param labels: one name per box; ``scores`` a number 0..1 per box. The surest box is drawn last, on top.
    :param long_edge: an image whose long edge is shorter is enlarged by a whole factor, so that names are legible.
    :param at_most: an image whose long edge is longer is shrunk to it before the boxes are drawn, so that their lines
        do not shrink with it.
    :returns: fH x fW x 3, RGB, uint8, with f that factor.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    factor = max(1, math.ceil(long_edge / max(image.shape[:2])))
    if at_most is not None:
        factor = min(factor, at_most / max(image.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    canvas = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA)
    names = [color] * len(boxes) if isinstance(color, str) else list(color)
    order = range(len(boxes)) if scores is None else np.argsort(np.asarray(scores), kind="stable")
    line = max(2, round(max(canvas.shape[:2]) / 240))
    corners = np.rint(boxes * factor).astype(int).tolist()
    fills = [_rgb(name) for name in names]
    for i in order:
        x1, y1, x2, y2 = corners[i]
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), _rgb(INK), line + 2)  # a rim, on any ground
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), fills[i], line)
    for i in order:  # after all boxes, so that none runs through a name
        words = ([labels[i]] if labels is not None else []) + ([f"{scores[i]:.2f}"] if scores is not None else [])
        if words:
            _tag(canvas, " ".join(words), *corners[i][:2], fills[i])
    return canvas


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(round(255 * channel) for channel in matplotlib.colors.to_rgb(color))


def _tag(canvas: np.ndarray, text: str, x: int, y: int, rgb: tuple[int, ...]) -> None:
    """Text on a plate of the box's colour, above the corner (x, y) or, at the upper edge, below it; in place."""
    scale = max(0.45, max(canvas.shape[:2]) / 850)  # smaller letters run together
    face, weight = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale * 2))
    (width, height), base = cv2.getTextSize(text, face, scale, weight)
    x = min(max(x, 0), max(0, canvas.shape[1] - width - 4))
    top = y - height - base if y >= height + base else y
    top = min(max(top, 0), canvas.shape[0] - height - base)
    cv2.rectangle(canvas, (x, top), (x + width + 3, top + height + base - 1), rgb, cv2.FILLED)
    dark = np.dot(rgb, (0.299, 0.587, 0.114)) < 140
    ink = (255, 255, 255) if dark else (0, 0, 0)
    cv2.putText(canvas, text, (x + 2, top + height + base // 3), face, scale, ink, weight, cv2.LINE_AA)


def contact_sheet(rows: list[list[np.ndarray]], path: str | Path, row_titles: Sequence[str] = ()) -> None:
    """Images in a grid, such as detections beside ground truth.

    :param rows: RGB uint8 images of any sizes, fitted into equal squares.
    """
    side = _cell_width([image for row in rows for image in row], max(map(len, rows)))
    fitted = [[_fit(image, side, side) for image in row] for row in rows]
    _save_picture(_grid(fitted, side, [()] * len(rows), row_titles), path)


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
    return min(max(image.shape[1] for image in images), cell_side(columns))


def _fit(image: np.ndarray, width: int, height: int | None) -> np.ndarray:
    """The image scaled to the width, or to the height where that is less."""
    scale = min(width / image.shape[1], math.inf if height is None else height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _grid(
    rows: list[list[np.ndarray]], width: int, titles: Sequence[Sequence[str]], row_titles: Sequence[str]
) -> Image.Image:
    """Fitted images on white, titles above the cells of a row, row titles upright at the left."""
    columns = max(map(len, rows))
    size = int(np.clip(width * columns / 50, 14, 30))
    line, gap = round(size * 1.6), _GAP
    left = line if row_titles else 0
    heights = [max((image.shape[0] for image in row), default=0) for row in rows]
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


def _save_picture(picture: Image.Image, path: str | Path) -> None:
    with replacing(path) as part:
        picture.save(part, format="PNG", optimize=True)
