"""The charts of pages: SVG that takes its colours from the page, so that it follows light, dark and print."""

from __future__ import annotations

import io
import itertools
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.score.calibration import Calibration

INK, MUTED, RULE = "#010101", "#020202", "#030303"
SERIES = ("#0a0101", "#0a0102", "#0a0103", "#0a0104", "#0a0105")
COLOURS = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {c: f"--series-{i}" for i, c in enumerate(SERIES, 1)}
"""The colours that matplotlib draws with, and the variables of the page that replace them."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,  # names of classes are text, whatever they hold
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}

PANELS = 12
"""The largest number of panels in one chart."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Chart:
    """A drawing, its description for readers who do not see it, and its caption."""

    svg: Markup
    alt: str
    caption: str


def grouped(caption: str, names: Sequence[str], parts: Mapping[str, Sequence[float]], unit: str) -> Chart:
    """Draws bars for each of `names`, those of the parts side by side."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(7.2, 2.7)
        width = 0.8 / max(len(parts), 1)
        for i, (part, values) in enumerate(parts.items()):
            places = np.arange(len(names)) + (i - (len(parts) - 1) / 2) * width
            axes.bar(places, values, width * 0.92, color=_series(i), label=part)
        axes.set_xticks(range(len(names)), [shortened(name) for name in names])
        axes.tick_params(length=0)
        axes.set_ylabel(unit)
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        _legend(axes, len(parts))
        texts = [f"{part}: " + ", ".join(map("{} {:g}".format, names, values)) for part, values in parts.items()]
        return Chart(drawing(figure), f"Bar chart. {'; '.join(texts)}.", caption)


def histogram(caption: str, values: Sequence[float], unit: str) -> Chart:
    """Draws how often values occur. The highest 1 % of the values are counted in the last bin."""
    data = np.asarray(values, float)
    top = float(np.percentile(data, 99))
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.5, 2.3)
        axes.hist(np.minimum(data, top), bins=min(24, max(5, math.isqrt(len(data)))), color=SERIES[0], rwidth=0.94)
        axes.set_xlabel(unit)
        axes.set_ylabel("utterances")
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        low, middle = float(data.min()), float(np.median(data))
        alt = f"Histogram of {len(data)} values in {unit}: from {low:.3g} to {data.max():.3g}, median {middle:.3g}."
        return Chart(drawing(figure), alt, caption)


Curves = Mapping[str, Sequence[float]]


def curves(caption: str, panels: Mapping[str, Curves], best: Mapping[str, int | None]) -> Chart:
    """Draws a small panel of lines by epoch for each of `panels`, and marks the epoch that is kept (from 0)."""
    shown = dict(itertools.islice(panels.items(), PANELS))
    columns = min(len(shown), 3)
    rows = math.ceil(len(shown) / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 2.6 * columns, 0.5 + 1.75 * rows), layout="constrained")
        grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
        for axes, (name, lines) in zip(grid, shown.items(), strict=False):
            _panel(axes, name, lines, best.get(name))
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        names = list(dict.fromkeys(line for lines in shown.values() for line in lines))
        handles, labels = _handles(figure, names)
        figure.legend(handles, labels, loc="outside upper right", ncols=len(names))
        alt = " ".join(_described(name, lines, best.get(name)) for name, lines in shown.items())
        left = f" The first {PANELS} of {len(panels)}." if len(panels) > PANELS else ""
        return Chart(drawing(figure), f"Line charts. {alt}", caption + left)


Points = Sequence[tuple[float, float]]


def trends(caption: str, lines: Mapping[str, Points], across: str, unit: str, level: float | None) -> Chart:
    """Draws a line through the points (x, y) of each of `lines`, and a dashed one at the level of the majority."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(5.2, 2.7)
        for i, (name, points) in enumerate(lines.items()):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "o-", color=_series(i), markersize=3.5, label=name)
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=1, linestyle="--", label="majority")
        axes.set_xlabel(across)
        axes.set_ylabel(unit)
        axes.grid(axis="y")
        axes.tick_params(length=0)
        _legend(axes, len(lines) + 1)
        texts = [f"{name}: " + ", ".join(f"{y:.3f} at {x:g}" for x, y in points) for name, points in lines.items()]
        return Chart(drawing(figure), f"Line chart of {unit} by {across}. {'; '.join(texts)}.", caption)


@dataclass(frozen=True)
class Mark:
    """A score, that of the majority and the known bound; None if one is not known."""

    name: str
    score: float
    majority: float | None
    bound: float | None


def ranking(caption: str, marks: Sequence[Mark], unit: str) -> Chart:
    """Draws a bar for each score, with ticks at the score of the majority and at the known bound."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(7.2, 0.75 + 0.3 * len(marks))
        places = list(range(len(marks)))[::-1]
        axes.barh(places, [mark.score for mark in marks], 0.52, color=SERIES[0])
        for kind, colour in (("majority", MUTED), ("bound", SERIES[1])):
            known = [(getattr(m, kind), y) for m, y in zip(marks, places, strict=True) if getattr(m, kind) is not None]
            label = {"majority": "majority", "bound": "known bound"}[kind]
            for value, y in known:
                axes.plot([value, value], [y - 0.4, y + 0.4], color=colour, linewidth=2.2, label=label)
                label = "_"
        axes.set_yticks(places, [shortened(mark.name, 34) for mark in marks])
        axes.tick_params(length=0)
        axes.set_xlim(min(0.0, *(mark.score for mark in marks)), 1)
        axes.grid(axis="x")
        axes.spines[["left", "bottom"]].set_visible(False)
        _legend(axes, 2)
        texts = "; ".join(f"{m.name} {m.score:.3f}" for m in marks)
        return Chart(drawing(figure), f"Bar chart of {unit}. {texts}.", caption)


def reliability(caption: str, parts: Mapping[str, Calibration]) -> Chart:
    """Draws the share of right predictions by confidence for each part, with an area by their number, and the line
    of perfect calibration."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.5, 3.3)
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1.2, linestyle="--")
        for i, (part, bins) in enumerate(parts.items()):
            label, areas = f"{part}, error {bins.error:.3f}", 8 + 120 * bins.predictions / bins.predictions.sum()
            axes.plot(bins.confidence, bins.accuracy, color=_series(i), linewidth=1.5, label=label)
            axes.scatter(bins.confidence, bins.accuracy, areas, color=_series(i), zorder=3)
        axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), xlabel="confidence", ylabel="share that is right")
        axes.tick_params(length=0)
        axes.grid()
        axes.legend(loc="lower right")
        return Chart(drawing(figure), f"Reliability diagram. {' '.join(map(_binned, parts, parts.values()))}", caption)


@dataclass(frozen=True)
class Difference:
    """A named difference of scores, and the ends of its interval."""

    name: str
    mean: float
    low: float
    high: float


def differences(caption: str, shown: Sequence[Difference], unit: str) -> Chart:
    """Draws a bar with its interval for each difference, from a line at 0. An end that few dialogues put on the other
    side of the mean is drawn at the mean."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.7, 0.85 + 0.3 * len(shown))
        places = list(range(len(shown)))[::-1]
        mean = np.array([one.mean for one in shown])
        ends = np.array([[one.mean - one.low for one in shown], [one.high - one.mean for one in shown]]).clip(min=0)
        axes.barh(places, mean, 0.52, color=SERIES[0], xerr=ends, error_kw={"ecolor": MUTED, "elinewidth": 1.4})
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, [shortened(one.name, 26) for one in shown])
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(length=0)
        axes.grid(axis="x")
        axes.spines[["left", "bottom"]].set_visible(False)
        texts = "; ".join(f"{one.name} {one.mean:+.3f} from {one.low:+.3f} to {one.high:+.3f}" for one in shown)
        return Chart(drawing(figure), f"Bar chart of {unit}. {texts}.", caption)


def _binned(part: str, bins: Calibration) -> str:
    places = ", ".join(map("{:.0%} of {} at {:.0%}".format, bins.accuracy, bins.predictions, bins.confidence))
    return f"{part}: {places}."


def _panel(axes: Axes, name: str, lines: Curves, best: int | None) -> None:
    for i, (label, values) in enumerate(lines.items()):
        axes.plot(range(1, len(values) + 1), values, color=_series(i), linewidth=1.5, label=label)
    last = list(lines.values())[-1] if lines else []
    if best is not None and best < len(last):
        axes.plot(best + 1, last[best], "o", color=_series(len(lines) - 1), markersize=4.5)
    axes.set_title(shortened(name, 34))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(length=0)
    axes.grid(axis="y")


def _described(name: str, lines: Curves, best: int | None) -> str:
    ends = ", ".join(f"{line} from {v[0]:.3g} to {v[-1]:.3g}" for line, v in lines.items() if len(v))
    kept = "" if best is None else f", kept epoch {best + 1}"
    return f"{name}: {ends}{kept}."


def _handles(figure: Figure, names: Sequence[str]) -> tuple[list[Any], list[str]]:
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    drawn = [name for name in names if name in handles]
    return [handles[name] for name in drawn], drawn


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _legend(axes: Axes, entries: int) -> None:
    if entries > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=min(entries, 5), borderaxespad=0.2)


def _series(i: int) -> str:
    return SERIES[i % len(SERIES)]


def shortened(name: str, longest: int = 18) -> str:
    """A name of at most so many characters."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def drawing(figure: Figure) -> Markup:
    """The drawing as an element of the page, with ids that no other chart has and the colours of the page."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    return embedded(buffer.getvalue(), COLOURS)


def embedded(svg: str, colours: Mapping[str, str]) -> Markup:
    """A drawing of matplotlib as an element of the page. colours: colour -> the page's variable that replaces it."""
    svg = re.sub(r"<[^>]*>", _rounded, svg[svg.index("<svg") :])
    number = next(_numbers)
    svg = re.sub(r'(\bid="|\burl\(#|href="#)', rf"\g<1>chart-{number}-", svg)
    for colour, variable in colours.items():
        svg = svg.replace(colour, f"var({variable})")
    return Markup(svg)  # noqa: S704 - matplotlib escapes its texts


def _rounded(tag: re.Match[str]) -> str:
    """A tag with its coordinates cut to hundredths of a point, which is finer than a screen."""
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0])
