"""AP against the share of labelled images, one line per method."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from proseco.tables.figures import INK, LINES, PALETTE, STYLE, WIDTH_IN, columns_of, save

_COLORS = (PALETTE[0], *LINES)
_MARKERS = "os^Dv"
_DODGE = 1.012
_PALE = {"linestyle": "--", "alpha": 0.35}
#: Method -> benchmark -> mean and deviation of AP; NaN where there is no deviation.
Points = dict[str, dict[str, tuple[float, float]]]


def draw(
    path: Path, families: dict[str, dict[str, float]], ours: Points, printed: Points, labels: dict[str, str]
) -> None:
    """One panel per family in which some method has AP on at least two benchmarks and we ran at least one; without any
    such family no file is written.

    :param families: title -> benchmark -> percentage of the training images that is labelled.
    :param ours: by titles; ``printed`` likewise what the paper has, drawn pale behind.
    :param labels: benchmark -> number of labelled images, as text, where it is known.
    """
    lines, shown = [*ours.values(), *printed.values()], {}
    there = {name for line in lines for name in line}
    for title, shares in families.items():
        longest = max((len(set(shares) & set(line)) for line in lines), default=0)
        if longest > 1 and any(set(shares) & set(line) for line in ours.values()):
            by_share = sorted(shares.items(), key=lambda pair: pair[1])
            shown[title] = {name: share for name, share in by_share if name in there}
    if not shown:
        return
    printed = {m: line for m, line in printed.items() if any(len(set(line) & set(s)) > 1 for s in shown.values())}
    methods = list(dict.fromkeys([*ours, *printed]))
    looks = {method: _look(i) for i, method in enumerate(methods)}
    # Beside each other, where they would hide each other.
    dodge = {method: _DODGE ** (i - (len(methods) - 1) / 2) for i, method in enumerate(methods)}
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(WIDTH_IN, 4.6), layout="constrained")
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for panel, (title, shares) in zip(panels, shown.items(), strict=True):
            for method, points in printed.items():
                _line(panel, shares, points, dodge[method], **looks[method], **_PALE, zorder=2)
            for method, points in ours.items():
                _line(panel, shares, points, dodge[method], **looks[method], zorder=3)
            panel.set_xscale("log")
            panel.set_xticks(
                list(shares.values()),
                [f"{share:g} %\n{labels.get(name, '')}" for name, share in shares.items()],
                fontsize=9,
            )
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_title(title, fontsize=11)
            panel.set_xlabel("labelled share of the training images, and their number")
        panels[0].set_ylabel("AP (%)")
        handles = [Line2D([], [], **looks[m], **({} if m in ours else _PALE)) for m in methods]
        names = list(methods)
        if printed:
            handles.append(Line2D([], [], color=INK, **_PALE))
            names.append("the paper's")
        figure.legend(handles, names, loc="outside upper center", ncols=columns_of(names, 9, at_most=4), fontsize=9)
        save(figure, path)


def _look(number: int) -> dict:
    """Colour and marker of a method; hollow where a colour comes round again."""
    again, color = divmod(number, len(_COLORS))
    hollow = {"markerfacecolor": "white"} if again % 2 else {}
    return {"color": _COLORS[color], "marker": _MARKERS[again % len(_MARKERS)], **hollow}


def _line(panel, shares: dict[str, float], points: dict[str, tuple[float, float]], dodge: float, **look) -> None:
    """One method: its APs and, as whiskers, their deviations.

    :param dodge: factor on the shares.
    """
    names = [name for name in shares if name in points]
    if not names:
        return
    xs = dodge * np.array([shares[name] for name in names])
    means, deviations = np.array([points[name] for name in names]).T
    panel.plot(xs, means, linewidth=1.8, markersize=5, **look)
    known = ~np.isnan(deviations)
    whiskers = {key: look[key] for key in ("color", "zorder", "alpha") if key in look}
    panel.errorbar(xs[known], means[known], deviations[known], fmt="none", capsize=4, linewidth=1.2, **whiskers)
