"""AP against the share of labels."""

import math

import pytest
from matplotlib.axes import Axes
from PIL import Image

from proseco.tables import trend

FAMILIES = {"coco": {"c10": 10.0, "c1": 1.0, "c100": 100.0}, "voc": {"v5": 5.0, "v10": 10.0}}
OURS = {"Supervised": {"c1": (10.0, 0.5), "c10": (20.0, math.nan)}, "ProSeCo": {"c1": (15.0, 1.0), "v5": (30.0, 1.0)}}


@pytest.fixture
def drawn(monkeypatch):
    """Lines that were plotted: (xs, ys, whether pale)."""
    found, plot = [], Axes.plot

    def spy(panel, xs, ys, **look):
        if len(xs) and look.get("marker"):
            shares = [min((1.0, 5.0, 10.0), key=lambda share, x=x: abs(share - x)) for x in xs]
            assert list(xs) == pytest.approx(shares, rel=0.02)  # lines stand a little beside each other
            found.append((shares, list(ys), "alpha" in look))
        return plot(panel, xs, ys, **look)

    monkeypatch.setattr(Axes, "plot", spy)
    return found


def test_a_line_a_method_by_share(tmp_path, drawn):
    trend.draw(tmp_path / "a.png", FAMILIES, OURS, {}, {"c1": "12"})
    assert drawn == [([1.0, 10.0], [10.0, 20.0], False), ([1.0], [15.0], False)]  # voc has one share: no trend
    assert Image.open(tmp_path / "a.png").size[0] == 1700
    before = (tmp_path / "a.png").read_bytes()
    trend.draw(tmp_path / "a.png", FAMILIES, OURS, {}, {"c1": "12"})
    assert (tmp_path / "a.png").read_bytes() == before


def test_the_papers_lines_are_pale_and_behind(tmp_path, drawn):
    printed = {"ProSeCo": {"v5": (46.1, math.nan), "v10": (51.3, math.nan)}, "DETReg": {"c1": (15.9, math.nan)}}
    trend.draw(tmp_path / "a.png", FAMILIES, OURS, printed, {})
    assert (tmp_path / "a.png").is_file()
    assert ([5.0, 10.0], [46.1, 51.3], True) in drawn and ([5.0], [30.0], False) in drawn
    assert [15.9] not in [ys for _, ys, _ in drawn]  # a point is no trend
    pale = [is_pale for xs, _, is_pale in drawn if xs[0] == 5.0]
    assert pale == [True, False]


def test_no_two_of_many_methods_look_alike_and_none_is_yellow():
    looks = [tuple(sorted(trend._look(number).items())) for number in range(28)]
    assert len(set(looks)) == 28
    assert not {dict(look)["color"] for look in looks} & {"#F0E442", "#f0e442"}


def test_equal_points_do_not_hide_each_other(tmp_path, monkeypatch):
    places, plot = [], Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda panel, xs, ys, **look: places.append(xs[0]) or plot(panel, xs, ys, **look))
    equal = {f"m{number}": {"c1": (10.0, math.nan), "c10": (12.0, math.nan)} for number in range(14)}
    trend.draw(tmp_path / "a.png", FAMILIES, equal, {}, {})
    assert len(set(places)) == 14 and 0.9 < min(places) < 1 < max(places) < 1.1


@pytest.mark.parametrize("ours", [{}, {"ProSeCo": {"c1": (15.0, 1.0)}}, {"ProSeCo": {"other": (1.0, 1.0)}}])
def test_nothing_to_draw(tmp_path, ours):
    printed = {"ProSeCo": {"v5": (46.1, math.nan), "v10": (51.3, math.nan)}}
    trend.draw(tmp_path / "a.png", FAMILIES, ours, printed, {})
    assert not (tmp_path / "a.png").exists()
