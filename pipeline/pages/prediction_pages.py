"""The pages of predicted clips: what was predicted of each utterance beside its clip, and an index of many clips."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from pipeline.bundle.bundle import Bundle
from pipeline.bundle.clips import Clip
from pipeline.bundle.predict import Predicted
from pipeline.bundle.results import Written
from pipeline.cache.atomic import publish
from pipeline.console import bar
from pipeline.corpus.recipe import random_weights
from pipeline.pages.charts import Chart
from pipeline.pages.clip_chart import MOST_SPANS, Spans, clip_chart
from pipeline.pages.clip_look import ClipLook, look, looking_child
from pipeline.pages.table import NONE, render
from pipeline.score.metrics import scalars

INDEX = "index.html"
FOLDER = "clips"
"""The folder of the pages of single clips, beside the index of several."""
PLAYABLE = (
    ".mp4",
    ".m4v",
    ".mov",
    ".webm",
    ".mkv",
    ".ogv",
    ".wav",
    ".mp3",
    ".m4a",
    ".aac",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
)
"""The endings of files that browsers may play; others are linked."""
MOST_PAGES = 200
"""The most clips that have a page of their own."""
MOST_CLIPS = 5000
"""The most clips that the index lists."""
MOST_ROWS = 1000
"""The most utterances in the table of a page."""


@dataclass(frozen=True)
class Pages:
    """The pages of a call. about: facts of the model. names: class or number -> its column in the table of results."""

    folder: Path
    model: str
    about: Mapping[str, str]
    names: Mapping[str, str]
    regression: bool
    when: str

    def write(self, clips: Sequence[Clip], rows: Mapping[int, Sequence[Mapping[str, Any]]]) -> Path:
        """Writes the page of one clip, or an index and the pages of several. rows: of each clip, by its number."""
        index = self.folder / INDEX
        with looking_child() as child, bar("pages", "clips", min(len(clips), MOST_PAGES)) as advance:
            for number, clip in islice(enumerate(clips), MOST_PAGES):
                path = index if len(clips) == 1 else self.folder / FOLDER / f"{number:05d}.html"
                found = look(child, clip.video, clip.audio or clip.video)
                _publish(path, self.clip_page(path, clip, found, rows[number]))
                advance(1)
        if len(clips) > 1:
            _publish(index, self.index_page(clips, rows))
        return index

    def clip_page(self, path: Path, clip: Clip, found: ClipLook, rows: Sequence[Mapping[str, Any]]) -> str:
        """The page of one clip. path: where it will be, which its links to media start from."""
        media = _link(path, clip.media)
        return render(
            __package__,
            "clip.html",
            name=clip.name,
            when=self.when,
            model=self.model,
            index="" if path.name == INDEX else f"../{INDEX}",
            problems=[*found.problems, *_problems(rows)],
            media=media,
            player=_player(clip),
            stills=found.stills,
            drawn=self._chart(found, rows),
            regression=self.regression,
            texts=any(row["text"] for row in rows),
            reasons=any(row["reason"] for row in rows),
            names=[] if self.regression and len(self.names) == 1 else list(self.names),
            rows=[self._row(row, media) for row in rows[:MOST_ROWS]],
            left=max(0, len(rows) - MOST_ROWS),
            facts=self.about,
        )

    def index_page(self, clips: Sequence[Clip], rows: Mapping[int, Sequence[Mapping[str, Any]]]) -> str:
        """The page that lists the clips."""
        return render(
            __package__,
            "clips.html",
            clips=len(clips),
            pages=MOST_PAGES,
            when=self.when,
            model=self.model,
            facts=self.about,
            regression=self.regression,
            rows=[
                {
                    "name": clip.name,
                    "page": f"{FOLDER}/{number:05d}.html" if number < MOST_PAGES else "",
                    "utterances": len(rows[number]),
                    "summary": self._summary(rows[number]),
                    "missing": sum(self._values(row) is None for row in rows[number]),
                }
                for number, clip in islice(enumerate(clips), MOST_CLIPS)
            ],
        )

    def _values(self, row: Mapping[str, Any]) -> list[float] | None:
        values = [row[column] for column in self.names.values()]
        return None if values[0] is None else values

    def _summary(self, rows: Sequence[Mapping[str, Any]]) -> str:
        known = [values for row in rows if (values := self._values(row))]
        if not known:
            return NONE
        if self.regression:
            return ", ".join(f"{name} {mean:.2f}" for name, mean in zip(self.names, np.mean(known, 0), strict=True))
        counts = Counter(row["label"] or "none" for row in rows if self._values(row)).most_common(4)
        return ", ".join(label if len(known) == 1 else f"{label} {count:,}" for label, count in counts)

    def _row(self, row: Mapping[str, Any], media: str) -> dict[str, Any]:
        values = self._values(row)
        start_s, end_s = row["start_s"], row["end_s"]
        timed = start_s is not None and end_s is not None
        numbers = NONE if values is None else ", ".join(f"{value:.2f}".replace("-", "−") for value in values)
        shown = [(None, NONE)] * len(self.names) if values is None else [self._share(value) for value in values]
        return {
            "stretch": f"{start_s:.2f}–{end_s:.2f}" if timed else "all",
            "link": f"{media}#t={start_s:.2f},{end_s:.2f}" if timed else "",
            "prediction": numbers if self.regression else NONE if values is None else row["label"] or "none of them",
            "text": row["text"] or "",
            "shares": [] if self.regression and len(self.names) == 1 else shown,
            "reason": row["reason"],
        }

    def _share(self, value: float) -> tuple[float | None, str]:
        return (None if self.regression else value), f"{value:.2f}".replace("-", "−")

    def _chart(self, found: ClipLook, rows: Sequence[Mapping[str, Any]]) -> Chart | None:
        """The chart over time; None if it is not known how long the clip is."""
        length = found.length_s or max((row["end_s"] or 0.0 for row in rows), default=0.0)
        known = [(row, values) for row in rows if (values := self._values(row))]
        if not length or not known:
            return None
        spans = Spans(
            np.array([row["start_s"] or 0.0 for row, _ in known]),
            np.array([length if row["end_s"] is None else row["end_s"] for row, _ in known]),
            np.array([values for _, values in known]),
        )
        what = "The predicted numbers" if self.regression else "The probability of each class, blue where it is chosen"
        several = f", of {len(known):,} utterances as means over neighbours" if len(known) > MOST_SPANS else ""
        return clip_chart(
            f"{what}, over the clip{several}.", list(self.names), spans, found.peaks, length, shares=not self.regression
        )


def write_pages(folder: Path, path: Path, bundle: Bundle, clips: Sequence[Clip], given: Predicted, to: Written) -> Path:
    """Writes the page of predictions beside their table, and returns it. path: of the bundle. given, to: what was
    predicted, and the table of it.
    """
    contents, target = bundle.contents, given.target
    about = {
        "Model": f"{contents.name}, class {bundle.kind.__name__}",
        "Bundle": str(path),
        "Learned from": f"{contents.dataset}, fold {contents.fold}",
        "Features": f"{contents.features}: {', '.join(map(str, bundle.selections))}",
        "Predicts": f"{target.task}: {', '.join(to.columns)}",
        "Scores on its test rows": _scores(bundle.metrics["test"]),
    }
    if random := random_weights(part for selection in bundle.selections.values() for part in selection.parts):
        about["Random weights"] = f"{', '.join(random)}, so what it says of real recordings means nothing"
    pages = Pages(
        folder, contents.name, about, to.columns, target.task == "regression", time.strftime("%Y-%m-%d %H:%M")
    )
    return pages.write(clips, _by_clip(given, to))


def _by_clip(given: Predicted, to: Written) -> dict[int, list[Mapping[str, Any]]]:
    """The rows of the table by the number of their clip."""
    pairs = zip((int(row.dialogue) for row in given.rows), to.table.to_pylist(), strict=True)
    return {number: [row for _, row in group] for number, group in groupby(pairs, key=lambda pair: pair[0])}


def _scores(metrics: Mapping[str, Any]) -> str:
    shown = ((name, value) for name, value in scalars(metrics).items() if not name.startswith("majority_"))
    return ", ".join(f"{name} {value:.3f}" for name, value in islice(shown, 4) if value is not None)


def _problems(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each reason why something was not read, and of how many utterances."""
    for reason, count in Counter(row["reason"] for row in rows if row["reason"]).most_common(8):
        yield f"{reason} ({count:,} of {len(rows):,} utterances)"


def _player(clip: Clip) -> str:
    """The element that plays a clip; "" if browsers do not know its format."""
    if clip.media.suffix.lower() not in PLAYABLE:
        return ""
    return "video" if clip.video else "audio"


def _link(page: Path, media: Path) -> str:
    """The address of a file, from a page."""
    return quote(
        os.path.relpath(os.path.realpath(media), os.path.realpath(page.parent)), safe="/", errors="surrogateescape"
    )


def _publish(path: Path, page: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, page, errors="backslashreplace")
