"""Figures: equal bytes twice, and pixels where they belong."""

import matplotlib
import numpy as np
import pandas
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.container import BarContainer
from PIL import Image

from proseco import figures, tables
from proseco.base.errors import InputError


def summary_of(values):
    """{(method, benchmark): AP by seed} -> summary."""
    rows = [
        {"method": m, "method_title": m.title(), "benchmark": b, "benchmark_title": b.upper(), "seed": seed}
        | {"labels": 24, "AP": ap, "AP50": ap, "AP75": ap}
        for (m, b), aps in values.items()
        for seed, ap in enumerate(aps)
    ]
    return tables.summarise(pandas.DataFrame(rows))


def write_log(path, *, steps=60, seed=0, **terms):
    """A log in which each term falls to its end value with some noise; the loss is their sum."""
    rng = np.random.default_rng(seed)
    step = np.arange(1, steps + 1)
    frame = pandas.DataFrame({"step": step, "epoch": step / 10, "lr": 1e-3, "images_per_second": 8.0, "loss": 0.0})
    for name, end in terms.items():
        frame[name] = end + np.exp(-step / 15) * rng.uniform(0.8, 1.2, steps)
        frame["loss"] += frame[name]
    frame["grad_norm"] = 0.1
    frame.to_csv(path, index=False)
    return path


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def share(image, color):
    """Part of the pixels that have a colour."""
    rgb = np.round(255 * np.array(matplotlib.colors.to_rgb(color)))
    return (np.abs(image - rgb).max(axis=-1) <= 2).mean()


@pytest.fixture
def panels(monkeypatch):
    """Axes of the figures drawn in a test, in the order of drawing."""
    drawn = []
    save = figures._save
    monkeypatch.setattr(figures, "_save", lambda figure, path: (drawn.extend(figure.axes), save(figure, path)))
    return drawn


FEW = {("supervised", "few"): [6, 8, 10], ("proseco", "few"): [9, 11, 13.0]}


def test_bars_show_means_deviations_and_seeds(tmp_path, panels):
    values = FEW | {("supervised", "many"): [20, 22], ("proseco", "many"): [21, 19.0]}
    figures.ap_bars(summary_of(values), tmp_path / "ap.png", "AP after finetuning")
    (panel,) = panels
    heights = [bar.get_height() for group in panel.containers if isinstance(group, BarContainer) for bar in group]
    assert heights == [8, 21, 11, 20]  # method by method
    dots = [dots.get_offsets()[:, 1].tolist() for dots in panel.collections if isinstance(dots, PathCollection)]
    assert dots == [[6, 8, 10], [20, 22], [9, 11, 13], [21, 19]]
    whiskers = [bar.get_segments()[0][:, 1] for bar in panel.collections if isinstance(bar, LineCollection)]
    assert np.allclose(whiskers, [[6, 10], [21 - 2**0.5, 21 + 2**0.5], [9, 13], [20 - 2**0.5, 20 + 2**0.5]])
    assert panel.get_ylabel() == "AP (%)"
    assert panel.get_ylim()[0] == 0
    assert [text.get_text() for text in panel.get_xticklabels()] == [
        "FEW\n24 labelled images",
        "MANY\n24 labelled images",
    ]
    assert pixels(tmp_path / "ap.png").shape[1] == 1700


def test_bars_of_one_seed_have_no_whiskers(tmp_path, panels):
    figures.ap_bars(summary_of({key: aps[:1] for key, aps in FEW.items()}), tmp_path / "ap.png", "one seed")
    assert not panels[0].collections
    assert panels[0].get_xlabel() == ""


def test_many_bars_go_into_rows(tmp_path, panels):
    values = {(m, b): [5.0, 6.0] for b in "pqrst" for m in ("supervised", *"abcdef")}
    figures.ap_bars(summary_of(values), tmp_path / "ap.png", "wide")
    assert [len(panel.get_xticks()) for panel in panels] == [2, 2, 1]


def test_losses_share_panels_where_the_terms_agree(tmp_path, panels):
    pre = write_log(tmp_path / "pre.csv", contrast=2, coord=0.3)
    one, two = (write_log(tmp_path / f"{i}.csv", seed=i, **{"class": 0.5, "coord": 0.3}) for i in (1, 2))
    figures.loss_curves({"pretraining": pre, "one": one, "two": two}, tmp_path / "loss.png")
    shown = [(p.get_title(), len(p.get_lines()) // 2) for p in panels if p.get_visible()]
    assert shown == [("loss", 1), ("contrast", 1), ("coord", 1), ("loss", 2), ("class", 2), ("coord", 2)]
    assert panels[0].get_xlabel() == "step"
    raw, smooth = panels[0].get_lines()
    assert np.abs(np.diff(smooth.get_ydata())).max() < np.abs(np.diff(raw.get_ydata())).max()
    assert raw.get_xdata()[[0, -1]].tolist() == [1, 60]


def test_the_scale_follows_the_range(tmp_path, panels):
    frame = pandas.DataFrame(
        {"step": range(200), "loss": np.geomspace(100, 0.1, 200), "cosine": np.linspace(-1, 1, 200)}
    )
    frame.to_csv(tmp_path / "log.csv", index=False)
    figures.loss_curves({"run": tmp_path / "log.csv"}, tmp_path / "loss.png")
    assert [(panel.get_title(), panel.get_yscale()) for panel in panels] == [
        ("loss (log scale)", "log"),
        ("cosine", "linear"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no log"), ("", "is no log"), ("step,lr\n1,2\n", "lacks loss"), ("step,loss\n", "lacks a line")],
)
def test_a_log_that_is_none_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "log.csv").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        figures.loss_curves({"run": tmp_path / "log.csv"}, tmp_path / "loss.png")
    assert "log.csv" in str(error.value)
    assert not (tmp_path / "loss.png").exists()


def test_boxes_lie_where_they_should():
    image = np.zeros((60, 80, 3), np.uint8)
    kept = image.copy()
    drawn = figures.draw_boxes(image, [[10, 20, 50, 40]], color="#ff0000", long_edge=240)
    assert drawn.shape == (180, 240, 3)  # three times as large
    assert drawn.dtype == np.uint8
    assert (image == kept).all()
    red = (drawn == [255, 0, 0]).all(axis=-1)
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (60, 119, 30, 149)
    assert not red[62:118, 32:148].any()  # a frame, not a plate
    assert (drawn[58, 30:150] == 255).all() or (drawn[59, 30:150] == 255).all()  # the white rim


def test_large_images_keep_their_size_and_no_box_is_none():
    image = np.full((500, 700, 3), 7, np.uint8)
    assert (figures.draw_boxes(image, np.zeros((0, 4)), color=figures.TRUTH, labels=[], scores=[]) == image).all()


def test_the_surest_box_is_on_top_and_names_do_not_leave_the_image():
    image = np.zeros((480, 480, 3), np.uint8)
    boxes = [[100, 100, 300, 300], [100, 100, 300, 300]]
    drawn = figures.draw_boxes(image, boxes, color=["#ff0000", "#0000ff"], scores=[0.9, 0.2])
    assert drawn[300 - 1, 200].tolist() == [255, 0, 0]
    plain = figures.draw_boxes(image, [[400, 0, 480, 60]], color="#00ff00")
    named = figures.draw_boxes(image, [[400, 0, 480, 60]], color="#00ff00", labels=["a longer name"])
    plate = (plain != named).any(axis=-1)
    assert plate[:40].sum() > 1000
    columns = np.nonzero(plate.any(axis=0))[0]
    assert columns.min() < 398  # moved to the left
    assert columns.max() < 479  # until it fits
    assert named.shape == image.shape


def test_a_contact_sheet_holds_every_image(tmp_path):
    red, green, blue = (np.full((*size, 3), 0, np.uint8) for size in ((40, 60), (60, 30), (50, 50)))
    red[..., 0], green[..., 1], blue[..., 2] = 255, 255, 255
    figures.contact_sheet([[red, green], [blue, None]], tmp_path / "sheet.png", ["truth", "found"], ["one", "two"])
    sheet = pixels(tmp_path / "sheet.png")
    area = sheet.shape[0] * sheet.shape[1]
    # All fitted into squares of 60: 60 x 40, 30 x 60, 60 x 60.
    assert [round(share(sheet, c) * area) for c in ("#ff0000", "#00ff00", "#0000ff")] == [2400, 1800, 3600]
    bare = tmp_path / "bare.png"
    figures.contact_sheet([[red, green], [blue, None]], bare)
    assert pixels(bare).shape[0] < sheet.shape[0]
    assert pixels(bare).shape[1] < sheet.shape[1]


def test_a_wide_sheet_fits_the_page(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (300, 900, 3), dtype=np.uint8)
    figures.contact_sheet([[image] * 4], tmp_path / "sheet.png")
    assert pixels(tmp_path / "sheet.png").shape[1] == 1700


def test_a_montage_puts_pictures_side_by_side(tmp_path):
    for name, color in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        Image.new("RGB", (300, 400), color).save(tmp_path / f"{name}.png")
    out = tmp_path / "montage.png"
    figures.montage({"Supervised": tmp_path / "a.png", "ProSeCo": tmp_path / "b.png"}, out)
    sheet = pixels(out)
    red, blue = ((sheet == color).all(axis=-1) for color in ([255, 0, 0], [0, 0, 255]))
    assert (red.sum(), blue.sum()) == (120_000, 120_000)
    assert np.nonzero(red)[1].max() < np.nonzero(blue)[1].min()
    assert np.nonzero(red)[0].min() == np.nonzero(blue)[0].min()
    assert (sheet[: np.nonzero(red)[0].min()] < 100).any()  # the titles
    with pytest.raises(InputError, match=r"no picture .*c\.png"):
        figures.montage({"c": tmp_path / "c.png"}, out)


def test_a_montage_leaves_no_row_almost_empty():
    def columns(count, aspect):
        return min(range(1, count + 1), key=lambda n: figures._misfit(n, count, aspect))

    assert [columns(4, 1), columns(2, 0.6), columns(3, 0.5), columns(3, 4)] == [2, 2, 3, 1]
    assert columns(5, 0.6) == 3


def test_equal_bytes_twice(tmp_path):
    log = write_log(tmp_path / "log.csv", coord=0.3)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    image = figures.draw_boxes(image, [[5, 6, 30, 40]], color=figures.DETECTION, labels=["cat"], scores=[0.5])
    written = []
    for turn in ("first", "second"):
        folder = tmp_path / turn
        figures.ap_bars(summary_of(FEW), folder / "ap.png", "title")
        figures.loss_curves({"run": log}, folder / "loss.png")
        figures.contact_sheet([[image]], folder / "sheet.png", ["ß ± é"], ["row"])
        figures.montage({"cell": folder / "sheet.png"}, folder / "montage.png")
        written.append({file.name: file.read_bytes() for file in sorted(folder.iterdir())})
    assert len(written[0]) == 4
    assert written[0] == written[1]
    assert not any(b"Software" in content or b"matplotlib" in content.lower() for content in written[0].values())
