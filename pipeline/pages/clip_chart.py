"""The chart of a clip: its waveform, and below it what is predicted of each utterance, over the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from pipeline.pages.charts import INK, MUTED, RULE, SERIES, STYLE, Chart, drawing, shortened

MOST_SPANS = 400
"""The most stretches that are drawn: more utterances are drawn as means over neighbours."""
_TALLEST = 0.86
"""How much of its row the area of a probability of 1 fills."""


@dataclass(frozen=True)
class Spans:
    """What is predicted when. start_s, end_s: [N]. values: [N, names], probabilities, or numbers of a regression."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    values: NDArray[np.float64]

    def thinned(self) -> Spans:
        """At most `MOST_SPANS` of them, each the mean over some neighbours."""
        count = len(self.start_s)
        if count <= MOST_SPANS:
            return self
        firsts = np.linspace(0, count, MOST_SPANS + 1).astype(int)[:-1]
        sizes = np.diff([*firsts, count])
        means = np.add.reduceat(self.values, firsts, axis=0) / sizes[:, None]
        return Spans(self.start_s[firsts], self.end_s[firsts + sizes - 1], means)


def clip_chart(
    caption: str,
    names: Sequence[str],
    spans: Spans,
    peaks: NDArray[np.float32] | None,
    length_s: float,
    *,
    shares: bool,
) -> Chart:
    """Draws the peaks of the waveform, then a row for each of `names` with an area as high as its probability.

    shares: whether the values are probabilities; else each is a line on a scale of its own.
    """
    shown = spans.thinned()
    with mpl.rc_context(STYLE):
        heights = [0.5 * (peaks is not None)] + [0.34 if shares else 0.8] * len(names)
        figure = Figure(figsize=(10.2, sum(heights) + 0.62), layout=ConstrainedLayoutEngine(h_pad=0.01, hspace=0.0))
        kept = [height for height in heights if height]
        panels = list(figure.subplots(len(kept), 1, sharex=True, squeeze=False, height_ratios=kept).flat)
        if peaks is not None:
            _draw_peaks(panels[0], peaks, length_s)
        top = shown.values.argmax(1) if len(names) > 1 and len(shown.values) else np.zeros(len(shown.values), int)
        for i, (axes, name) in enumerate(zip(panels[len(panels) - len(names) :], names, strict=True)):
            _draw_row(axes, shown, i, top == i if shares else np.ones(len(top), bool), shares=shares)
            axes.set_ylabel(shortened(name, 20), rotation=0, ha="right", va="center", color=INK)
        panels[-1].set(xlim=(0, length_s), xlabel="seconds")
        for axes in panels[:-1]:
            axes.tick_params(bottom=False)
        return Chart(drawing(figure), _alt(names, spans), caption)


def _draw_peaks(axes: Axes, peaks: NDArray[np.float32], length_s: float) -> None:
    loudest = float(peaks.max()) or 1.0
    time_s = (np.arange(len(peaks)) + 0.5) * length_s / len(peaks)
    axes.fill_between(time_s, -peaks / loudest, peaks / loudest, color=MUTED, linewidth=0)
    axes.set_yticks([])
    axes.set_ylabel("sound", rotation=0, ha="right", va="center", color=INK)
    axes.spines[["left", "bottom"]].set_visible(False)


def _draw_row(axes: Axes, spans: Spans, number: int, chosen: NDArray[np.bool_], *, shares: bool) -> None:
    values = spans.values[:, number]
    if shares:
        for mask, colour in ((~chosen, SERIES[4]), (chosen, SERIES[0])):
            x, y = _outline(spans.start_s[mask], spans.end_s[mask], values[mask] * _TALLEST)
            axes.fill(x, y, color=colour, linewidth=0)
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_color(RULE)
        return
    axes.hlines(values, spans.start_s, spans.end_s, color=SERIES[0], linewidth=2)
    axes.grid(axis="y")
    axes.tick_params(length=0)


def _outline(start_s: NDArray[Any], end_s: NDArray[Any], height: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The outline of boxes that stand on 0, in one line."""
    zero = np.zeros_like(height)
    return np.stack([start_s, start_s, end_s, end_s], 1).ravel(), np.stack([zero, height, height, zero], 1).ravel()


def _alt(names: Sequence[str], spans: Spans) -> str:
    means: Mapping[str, float] = dict(zip(names, spans.values.mean(0) if len(spans.values) else [], strict=False))
    said = ", ".join(f"{name} {value:.2f}" for name, value in means.items()) or "nothing was predicted"
    return f"Waveform and predictions of {len(spans.start_s)} utterances over time. Means: {said}."
