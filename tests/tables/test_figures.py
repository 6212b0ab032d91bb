"""Figures: equal bytes twice, and pixels where they belong."""

import numpy as np
import pandas
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.container import BarContainer
from PIL import Image

from proseco import pictures
from proseco.base.errors import InputError
from proseco.tables import figures, summary


def summary_of(values):
    """{(method, benchmark): AP by seed} -> summary."""
    rows = [
        {"method": m, "method_title": m.title(), "benchmark": b, "benchmark_title": b.upper(), "seed": seed}
        | {"labels": 24, "AP": ap, "AP50": ap, "AP75": ap}
        for (m, b), aps in values.items()
        for seed, ap in enumerate(aps)
    ]
    return summary.summarise(pandas.DataFrame(rows))


def write_log(path, *, steps=60, seed=0, **terms):
    """A log in which each term falls to its end value with some noise; the loss is their sum."""
    rng = np.random.default_rng(seed)
    step = np.arange(1, steps + 1)
    frame = pandas.DataFrame({"step": step, "epoch": step / 10, "lr": 1e-3, "loss": 0.0})
    for name, end in terms.items():
        frame[name] = end + np.exp(-step / 15) * rng.uniform(0.8, 1.2, steps)
        frame["loss"] += frame[name]
    frame["grad_norm"] = 0.1
    frame.to_csv(path, index=False)
    return path


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.fixture
def panels(monkeypatch):
    """Axes of the figures drawn in a test, in the order of drawing."""
    drawn = []
    save = figures.save
    monkeypatch.setattr(figures, "save", lambda figure, path: (drawn.extend(figure.axes), save(figure, path)))
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


def test_methods_of_the_whole_demo_do_not_look_alike_and_fit_the_legend(tmp_path, panels):
    """Fourteen, eight of them pretrained."""
    names = [f"a method whose title is long {number}" for number in range(14)]
    figures.ap_bars(summary_of({(name, "few"): [5.0] for name in names}), tmp_path / "ap.png", "AP")
    bars = [bar for group in panels[0].containers if isinstance(group, BarContainer) for bar in group]
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == 14
    logs = {f"{name}, pretraining": write_log(tmp_path / f"{name} 1", coord=1) for name in names[:8]}
    logs |= {f"{name}, Mini": write_log(tmp_path / f"{name} 2", coord=1, giou=2) for name in names}
    figures.loss_curves(logs, tmp_path / "loss.png")
    lines = [line for panel in panels[1:] for line in panel.get_lines() if line.get_label() in logs]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(logs) == 22
    for figure in {panel.figure for panel in panels}:
        (legend,) = figure.legends
        assert figure.bbox.x0 <= legend.get_window_extent().x0 and legend.get_window_extent().x1 <= figure.bbox.x1


def test_losses_share_panels_where_the_terms_agree(tmp_path, panels):
    pre = write_log(tmp_path / "pre.csv", contrast=2, coord=0.3)
    one, two = (write_log(tmp_path / f"{i}.csv", seed=i, **{"class": 0.5, "coord": 0.3}) for i in (1, 2))
    validations = {"two": [{"step": 30, "AP": 4.5}, {"step": 60, "AP": 6.5}], "one": [{"step": 9, "AP": None}]}
    figures.loss_curves({"pretraining": pre, "one": one, "two": two}, tmp_path / "loss.png", validations)
    shown = [(p.get_title(), len(p.get_lines()) // 2) for p in panels if p.get_visible()]
    first = [("loss", 1), ("contrast", 1), ("coord (L1)", 1), ("gradient norm", 1)]
    assert shown == [
        *first,
        *(("loss", 2), ("class", 2), ("coord (L1)", 2), ("gradient norm", 2), ("validation AP (%)", 1)),
    ]
    below = [panel for panel in panels if panel.get_visible()][-1].get_lines()[-1]
    assert below.get_xydata().tolist() == [[30, 4.5], [60, 6.5]] and below.get_label() == "two"
    assert below.get_color() == [p for p in panels if p.get_visible()][-2].get_lines()[-1].get_color()
    assert [panel.get_xlabel() for panel in panels[:4]] == ["", "step", "step", "step"]
    raw, smooth = panels[0].get_lines()
    assert np.abs(np.diff(smooth.get_ydata())).max() < np.abs(np.diff(raw.get_ydata())).max()
    assert raw.get_xdata()[[0, -1]].tolist() == [1, 60]


def test_colours_of_one_s_choice_and_the_first_value_in_view(tmp_path, panels):
    pre = write_log(tmp_path / "pre.csv", contrast=2)
    one, two = (write_log(tmp_path / f"{i}.csv", seed=i, coord=1) for i in (1, 2))
    frame = pandas.read_csv(one)
    frame.loc[0, "coord"] = 50.0
    frame.to_csv(one, index=False)
    logs = {"A, before": pre, "B, after": one, "A, after": two}
    figures.loss_curves(logs, tmp_path / "loss.png", None, {"A, before": 0, "A, after": 0, "B, after": 1})
    colors = {line.get_label(): line.get_color() for panel in panels for line in panel.get_lines()}
    assert colors["A, before"] == colors["A, after"] == figures.LINES[0] != colors["B, after"]
    (coord,) = (panel for panel in panels if panel.get_title().startswith("coord"))
    assert coord.get_ylim()[1] > 50


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


def test_equal_bytes_twice(tmp_path):
    log = write_log(tmp_path / "log.csv", coord=0.3)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    image = pictures.draw_boxes(image, [[5, 6, 30, 40]], color=pictures.DETECTION, labels=["cat"], scores=[0.5])
    written = []
    for turn in ("first", "second"):
        folder = tmp_path / turn
        figures.ap_bars(summary_of(FEW), folder / "ap.png", "title")
        figures.loss_curves({"run": log}, folder / "loss.png")
        pictures.contact_sheet([[image]], folder / "sheet.png", ["ß ± é"])
        pictures.montage({"cell": folder / "sheet.png"}, folder / "montage.png")
        written.append({file.name: file.read_bytes() for file in sorted(folder.iterdir())})
    assert len(written[0]) == 4
    assert written[0] == written[1]
    assert not any(b"Software" in content or b"matplotlib" in content.lower() for content in written[0].values())


def write_recall(path, counts=(1, 3, 10), sources=("search", "random")):
    """Two benchmarks, two IoUs; images have 6 boxes."""
    rows = [
        {"benchmark": b, "source": s, "iou": iou, "boxes": n, "recall": 0.1 * (1 + i), "objects": 40, "images": 9}
        for b in ("few", "many")
        for s in sources
        for iou in (0.5, 0.7)
        for i, n in enumerate((*counts, "all"))
    ]
    pandas.DataFrame([row | {"boxes_per_image": 6.5} for row in rows]).to_csv(path, index=False)
    return pandas.read_csv(path, dtype=str)


def test_recall_ends_where_the_boxes_do(tmp_path, panels):
    recall = write_recall(tmp_path / "recall.csv")
    figures.recall_curves(recall, tmp_path / "recall.png", {"many": "Many"}, "title")
    shown = [panel for panel in panels if panel.get_visible()]
    assert [panel.get_title() for panel in shown] == ["Many\n40 objects, 9 images"]
    (panel,) = shown
    lines = panel.get_lines()
    assert len(lines) == 4 and len({(line.get_color(), line.get_linestyle()) for line in lines}) == 4
    assert len({line.get_color() for line in lines}) == 2
    for line in lines:
        assert line.get_xdata().tolist() == [1, 3, 6.5]  # no point for 10 boxes, which no image has
        assert line.get_ydata().tolist() == pytest.approx([10, 20, 40])
    assert panel.get_xscale() == "log" and panel.get_xticks().tolist() == [1, 3]
    first = (tmp_path / "recall.png").read_bytes()
    figures.recall_curves(recall, tmp_path / "recall.png", {"many": "Many"}, "title")
    assert (tmp_path / "recall.png").read_bytes() == first


def test_many_sources_of_boxes_leave_the_legend_within_the_picture(tmp_path):
    """More than there are colours, with names as long as they are made."""
    sources = [f"some_images_{number}: selective_search" for number in range(8)]
    recall = write_recall(tmp_path / "recall.csv", sources=sources)
    figures.recall_curves(recall, tmp_path / "recall.png", {"few": "F", "many": "M"}, "title")
    found = pixels(tmp_path / "recall.png")
    assert found.shape[1] == 1700 and (found[:, :6] == 255).all() and (found[:, -6:] == 255).all()


def test_a_panel_a_benchmark(tmp_path, panels):
    recall = write_recall(tmp_path / "recall.csv")
    figures.recall_curves(recall, tmp_path / "recall.png", {"few": "F", "many": "M"}, "title")
    assert [panel.get_title()[0] for panel in panels if panel.get_visible()] == ["F", "M"]
    assert pixels(tmp_path / "recall.png").shape[1] == 1700
