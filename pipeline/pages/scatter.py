"""Charts of many points: scatters of groups, and the spread of many dimensions side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from pipeline.pages.charts import INK, SERIES, STYLE, Chart, drawing, shortened

GROUPS = 4
"""The most groups that have a colour of their own; all others share one."""
BANDS = ((0.0, 1.0, 0.18), (0.05, 0.95, 0.35), (0.25, 0.75, 0.6))
"""Pairs of quantiles, and how dense the band between them is drawn."""
COLUMNS = 256
"""The most columns that `spread` draws; with more dimensions, neighbours share one."""


def scatter(caption: str, points: NDArray[np.float64], panels: Mapping[str, Sequence[str]]) -> Chart:
    """Draws the points [N, 2] once for each of `panels`, which name the group of each point."""
    with mpl.rc_context(STYLE | {"path.simplify": False}):  # which would drop points
        figure = Figure(figsize=(5.1 * len(panels), 3.5), layout="constrained")
        for axes, (title, groups) in zip(
            figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True
        ):
            largest = [name for name, _ in Counter(groups).most_common(GROUPS)]
            others = "others" if len(set(groups)) > GROUPS else ""
            for i, name in enumerate([*filter(None, [others]), *largest]):
                of = np.array([(group not in largest) if name == others else group == name for group in groups])
                colour = SERIES[4] if name == others else SERIES[i - bool(others)]
                axes.add_patch(_dots(points[of], colour))
                axes.plot([], [], "o", color=colour, markersize=2.6, label=shortened(name, 14))
            axes.autoscale_view()
            axes.set_title(title)
            axes.set(xticks=[], yticks=[])
            axes.legend(loc="upper left", bbox_to_anchor=(0, 0), ncols=3, markerscale=1.6, handletextpad=0.1)
        return Chart(drawing(figure), f"Scatter of {len(points)} points, by {' and by '.join(panels)}.", caption)


def _dots(points: NDArray[np.float64], colour: str) -> PathPatch:
    """Points [N, 2] as one path of lines without length, which takes a tenth of the bytes of N markers."""
    codes = [Path.MOVETO, Path.LINETO] * len(points)
    path = Path(points.repeat(2, axis=0), codes)
    return PathPatch(path, fill=False, edgecolor=colour, linewidth=2.6, capstyle="round", alpha=0.75)


def spread(caption: str, quantiles: NDArray[np.float64], unit: str) -> Chart:
    """Draws, for each of D dimensions side by side, bands between quantiles. quantiles: [7, D] as `levels` orders.

    Dimensions that share a column show the widest of their bands.
    """
    dims, quantiles = quantiles.shape[1], _columns(quantiles)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.2, 1.9), layout="constrained")
        axes = figure.subplots()
        edges = np.linspace(0, dims, quantiles.shape[1] + 1) - 0.5
        known = levels()
        for low, high, alpha in BANDS:
            below, above = (quantiles[known.index(level)] for level in (low, high))
            axes.stairs(above, edges, baseline=below, fill=True, color=SERIES[0], alpha=alpha, linewidth=0)
        axes.hlines(quantiles[known.index(0.5)], edges[:-1], edges[1:], color=INK, linewidth=1)
        axes.set_yscale("symlog", linthresh=1.0)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="dimension", ylabel=unit, xlim=(edges[0], edges[-1]))
        axes.tick_params(length=0)
        axes.grid(axis="y")
        low, high = quantiles[0].min(), quantiles[-1].max()
        alt = f"Spread of {dims} dimensions: all values are between {low:.3g} and {high:.3g}."
        return Chart(drawing(figure), alt, caption)


def _columns(quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """[7, D] to [7, at most COLUMNS]: the least of each lower quantile, the median of medians, the greatest of each
    upper one."""
    groups = np.array_split(quantiles, min(quantiles.shape[1], COLUMNS), axis=1)
    middle = len(quantiles) // 2
    parts = [
        (rows[:middle].min(1), np.median(rows[middle : middle + 1], 1), rows[middle + 1 :].max(1)) for rows in groups
    ]
    return np.stack([np.concatenate(part) for part in parts], axis=1)


def levels() -> list[float]:
    """The quantiles that `spread` draws, ascending."""
    return sorted({0.5, *(level for low, high, _ in BANDS for level in (low, high))})
