"""AP against the share of labelled images, a line a method."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from proseco.figures import INK, PALETTE, STYLE, WIDTH_IN, save

_MARKERS = "os^Dv"
#: Method -> benchmark -> mean and deviation of AP; NaN where there is no deviation.
Points = dict[str, dict[str, tuple[float, float]]]


def draw(
    path: Path, families: dict[str, dict[str, float]], ours: Points, printed: Points, labels: dict[str, str]
) -> bool:
    """A panel a family, if a method has AP for two of its benchmarks, and one of ours for any.

    :param families: title -> benchmark -> percentage of the training images that is labelled.
    :param ours: by titles; ``printed`` likewise what the paper has, drawn pale behind.
    :param labels: benchmark -> number of labelled images, as text, where it is known.
    :returns: whether there was anything to draw; if not, no file is written.
    """
    shown = {}
    for title, shares in families.items():
        counts = [len(set(shares) & set(points)) for points in (*ours.values(), *printed.values())]
        if max(counts, default=0) > 1 and any(set(shares) & set(points) for points in ours.values()):
            shown[title] = dict(sorted(shares.items(), key=lambda pair: pair[1]))
    if not shown:
        return False
    methods = list(dict.fromkeys([*ours, *printed]))
    looks = {
        method: {"color": PALETTE[i % len(PALETTE)], "marker": _MARKERS[i // len(PALETTE) % len(_MARKERS)]}
        for i, method in enumerate(methods)
    }
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(WIDTH_IN, 4.6), layout="constrained")
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for panel, (title, shares) in zip(panels, shown.items(), strict=True):
            for method, points in printed.items():
                _line(panel, shares, points, **looks[method], linestyle="--", alpha=0.35, zorder=2)
            for method, points in ours.items():
                _line(panel, shares, points, **looks[method], linestyle="-", zorder=3)
            panel.set_xscale("log")
            panel.set_xticks(
                list(shares.values()),
                [f"{share:g} %\n{labels.get(name, '')}" for name, share in shares.items()],
            )
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_title(title, fontsize=11)
            panel.set_xlabel("labelled share of the training images, and their number")
        panels[0].set_ylabel("AP (%)")
        handles = [Line2D([], [], **looks[m], alpha=1 if m in ours else 0.35) for m in methods]
        names = list(methods)
        if printed:
            handles.append(Line2D([], [], color=INK, linestyle="--", alpha=0.35))
            names.append("the paper")
        figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize=9)
        save(figure, path)
    return True


def _line(panel, shares: dict[str, float], points: dict[str, tuple[float, float]], **look) -> None:
    """One method: its APs and, as whiskers, their deviations."""
    names = [name for name in shares if name in points]
    if not names:
        return
    xs = np.array([shares[name] for name in names])
    means, deviations = np.array([points[name] for name in names]).T
    panel.plot(xs, means, linewidth=1.8, markersize=5, **look)
    known = ~np.isnan(deviations)
    whiskers = {key: look[key] for key in ("color", "zorder", "alpha") if key in look}
    panel.errorbar(xs[known], means[known], deviations[known], fmt="none", capsize=4, linewidth=1.2, **whiskers)
