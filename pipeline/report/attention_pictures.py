"""Pictures of attention maps and of gates: SVG, PNG and CSV beside each other, and what the report shows of them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.cache.atomic import publish, replacing
from pipeline.pages.charts import COLOURS, INK, MUTED, RULE, SERIES, STYLE, Chart, embedded

FOLDER = "maps"
"""The folder of a run's pictures, in its own."""
WORDS = 24
"""The most steps of which each has a label, in a picture of an utterance."""
TICKS = 4
"""The labels of an axis with more steps, and of a small one."""
VECTORS = 600
"""The most cells of a map that are drawn one by one; a larger map is an image."""

_SERIES = ("#3b6ea5", "#d08a3e", "#5b9a7d", "#8f6aa8", "#8a8f96")
PRINT = {INK: "#1d2125", MUTED: "#626a73", RULE: "#e1e3e6"} | dict(zip(SERIES, _SERIES, strict=True))
"""The colours of the files, by those that the page replaces: those of the page on paper."""
FILE_STYLE = {name: PRINT.get(value, value) if isinstance(value, str) else value for name, value in STYLE.items()}


@dataclass(frozen=True)
class Side:
    """One side of a map: what it is called, and a label for each of its steps."""

    name: str
    labels: Sequence[str]


@dataclass(frozen=True)
class Heat:
    """A map of weights [T, S] with T steps of the target and S of the source."""

    title: str
    weights: NDArray[np.float64]
    target: Side
    source: Side


@dataclass(frozen=True)
class Picture:
    """A picture on disk. name: of its three files, without an ending. inline: whether the report shows it."""

    name: str
    caption: str
    alt: str
    inline: bool = False


def write_heats(
    stem: Path, caption: str, heats: Sequence[Heat], columns: int, side_in: float, *, inline: bool = False
) -> Picture:
    """Draws maps in this many columns, each this many inches wide, and writes their weights as CSV.

    stem: the path of the files, without an ending. The steps are counted from 1 in the CSV.
    """
    rows = math.ceil(len(heats) / columns)
    with mpl.rc_context(FILE_STYLE):
        figure = Figure(figsize=(side_in * columns, side_in * rows), layout="constrained")
        places = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, heat in zip(places, heats, strict=False):
            _draw(axes, heat, WORDS if side_in > 3 else TICKS)
        for axes in places[len(heats) :]:
            axes.set_visible(False)
        _save(stem, figure)
    header = ("map", "target_step", "target", "source_step", "source", "weight")
    _write_csv(stem, header, ((heat.title, *cell) for heat in heats for cell in _cells(heat)))
    return Picture(stem.name, caption, f"Heat maps. {' '.join(map(_told, heats))}", inline)


def write_shares(stem: Path, caption: str, shares: Mapping[str, Mapping[str, float]]) -> Picture:
    """Draws a bar for each class that is divided into the shares of the modalities, and writes them as CSV."""
    modalities = list(next(iter(shares.values())))
    with mpl.rc_context(FILE_STYLE):
        figure = Figure(figsize=(3.6, 0.8 + 0.28 * len(shares)), layout="constrained")
        axes, begin = figure.subplots(), np.zeros(len(shares))
        for modality, colour in zip(modalities, _SERIES, strict=False):
            widths = np.array([of[modality] for of in shares.values()])
            axes.barh(range(len(shares)), widths, 0.7, begin, color=colour, label=modality)
            begin = begin + widths
        axes.set_yticks(range(len(shares)), list(shares))
        axes.set(xlim=(0, 1), ylim=(len(shares) - 0.5, -0.5), xlabel="mean share in the gate")
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        figure.legend(loc="outside upper right", ncols=len(modalities))
        _save(stem, figure)
    rows = [(group, modality, share) for group, of in shares.items() for modality, share in of.items()]
    _write_csv(stem, ("class", "modality", "share"), rows)
    told = ", ".join(f"{group} {modality} {share:.2f}" for group, modality, share in rows)
    return Picture(stem.name, caption, f"Stacked bars. {told}.", inline=True)


def write_index(folder: Path, part: str, pictures: Sequence[Picture]) -> None:
    """Writes which pictures there are of a part of the corpus, for the report."""
    publish(folder / f"{part}.json", json.dumps([asdict(picture) for picture in pictures], indent=1))


@dataclass(frozen=True)
class Linked:
    """A picture as the report has it. links: "SVG", "PNG" and "CSV" -> the address from the report. chart: if shown."""

    caption: str
    links: Mapping[str, str]
    chart: Chart | None


def read_pictures(run: Path, reports: Path) -> list[Linked]:
    """The pictures of a run for a report in the folder `reports`. What is damaged or gone is left out."""
    found: list[Linked] = []
    for index in sorted((run / FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, TypeError):
            pictures = [Picture(**entry) for entry in json.loads(index.read_text())]
            found += [_linked(index.parent, picture, reports) for picture in pictures]
    return found


def _linked(folder: Path, picture: Picture, reports: Path) -> Linked:
    path = Path(os.path.relpath(folder / picture.name, reports)).as_posix()
    links = {ending.upper(): quote(f"{path}.{ending}") for ending in ("svg", "png", "csv")}
    svg = (folder / f"{picture.name}.svg").read_text() if picture.inline else ""
    colours = {PRINT[colour]: variable for colour, variable in COLOURS.items()}
    chart = Chart(embedded(svg, colours), picture.alt, picture.caption) if svg else None
    return Linked(picture.caption, links, chart)


def file_name(text: str) -> str:
    """A text as the name of a file: what is no letter, digit, dot or hyphen becomes an underscore."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".") or "_"


# --- drawing ---------------------------------------------------------------------------------------------------


def _draw(axes: Axes, heat: Heat, most: int) -> None:
    """Draws a map from its lowest weight to its highest; a side of more than `most` steps has a few labels."""
    colours = LinearSegmentedColormap.from_list("weight", [(*mpl.colors.to_rgb(_SERIES[0]), a) for a in (0.0, 1.0)])
    image = heat.weights.size > VECTORS
    shown = heat.weights.round(6)  # as in the CSV, so that rounding is no pattern
    axes.pcolormesh(shown, cmap=colours, rasterized=image, edgecolors="none")
    axes.set_ylim(len(heat.weights), 0)  # time goes down and to the right
    axes.set_title(f"{heat.title}\n{heat.weights.min():.3f} to {heat.weights.max():.3f}", fontsize=8)
    _ticks(axes, "x", heat.source, most)
    _ticks(axes, "y", heat.target, most)
    axes.tick_params(length=0, labelsize=7)


def _ticks(axes: Axes, which: str, side: Side, most: int) -> None:
    count = len(side.labels)
    places = np.arange(count) if count <= most else np.linspace(0, count - 1, TICKS).round().astype(int)
    labels = [side.labels[i] for i in places]
    turned = which == "x" and max(map(len, labels)) * len(labels) > WORDS
    setting = axes.set_xticks if which == "x" else axes.set_yticks
    setting(places + 0.5, labels, rotation=90 if turned else 0)
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(side.name, fontsize=7.5)


def _save(stem: Path, figure: Figure) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        for ending in ("svg", "png"):
            with replacing(stem.with_name(f"{stem.name}.{ending}")) as partial:
                figure.savefig(partial, format=ending, dpi=160, transparent=ending == "svg")


def _cells(heat: Heat) -> Iterator[tuple[int, str, int, str, float]]:
    for t, (target, row) in enumerate(zip(heat.target.labels, heat.weights, strict=True), 1):
        for s, (source, weight) in enumerate(zip(heat.source.labels, row, strict=True), 1):
            yield t, target, s, source, round(float(weight), 6)


def _write_csv(stem: Path, header: Sequence[str], rows: Any) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    publish(stem.with_name(f"{stem.name}.csv"), text.getvalue())


def _told(heat: Heat) -> str:
    target, source = divmod(int(heat.weights.argmax()), heat.weights.shape[1])
    strongest = f"{heat.target.labels[target]} to {heat.source.labels[source]}"
    return f"{heat.title}: {heat.weights.shape[0]} by {heat.weights.shape[1]} steps, most from {strongest}."
