"""Shared by CH-SIMS and CH-SIMS v2.0: sentiment from -1 to 1, one for all modalities and one for each, by table."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path, PurePosixPath

from manifests._cells import check
from manifests._mmsa import clip_of, table_rows
from manifests._sentiment import files, release_folders
from pipeline.reader import Labels
from pipeline.utterance import Utterance

LAYOUT = (
    "label.csv or meta.csv (columns video_id, clip_id, text, label, label_T, label_A, label_V, mode)\n"
    "Raw/<video>/<clip>.mp4"
)
_TABLES = ("label.csv", "meta.csv")
_CLASSES: Mapping[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "sentiment2": (("nonpositive", "positive"), (0.0,)),
    "sentiment3": (("negative", "neutral", "positive"), (-0.1, 0.1)),
    "sentiment5": (("negative", "weakly negative", "neutral", "weakly positive", "positive"), (-0.7, -0.1, 0.1, 0.7)),
}
"""label protocol -> its classes, and the largest sentiment of each but the last, as MMSA scores Acc-2, Acc-3, Acc-5."""


# --- labels ----------------------------------------------------------------------------------------------------


def _number(annotation: str) -> Callable[[Utterance], float | None]:
    def label(row: Utterance) -> float | None:
        value = row.labels.get(annotation)
        return None if value is None else float(value)

    return label


def _graded(bounds: Sequence[float]) -> Callable[[Utterance], int | None]:
    def label(row: Utterance) -> int | None:
        value = row.labels.get("sentiment")
        return None if value is None else bisect_left(bounds, float(value))

    return label


def _why_not(row: Utterance) -> str:
    return "no sentiment"


PROTOCOLS: Mapping[str, Labels] = {
    "sentiment": Labels("regression", (), _number("sentiment"), _why_not),
    **{name: Labels("multiclass", classes, _graded(ends), _why_not) for name, (classes, ends) in _CLASSES.items()},
    "text_sentiment": Labels("regression", (), _number("label_T"), _why_not),
    "audio_sentiment": Labels("regression", (), _number("label_A"), _why_not),
    "visual_sentiment": Labels("regression", (), _number("label_V"), _why_not),
}


# --- rows and folds --------------------------------------------------------------------------------------------


def scan(root: Path, name: str, encoding: str) -> list[Utterance] | None:
    """Every row of the first table in the root or in a folder of it named after the corpus; None if there is none.

    name: a regular expression of the folder's name in lower case, without hyphens and blanks. The session is the video.
    So is the dialogue, but a video that the split cuts through becomes a dialogue in each part. Raises one InputError
    that lists the malformed rows.
    """
    places = [folder / table for folder in release_folders(root, name) for table in _TABLES]
    found = next((path for path in places if path in files(root, path.parent, path.name)), None)
    return None if found is None else _read(root, found, encoding)


def _read(root: Path, table: PurePosixPath, encoding: str) -> list[Utterance]:
    rows = table_rows(root, table, encoding)
    utterances = [clip_of(row, table.parent, 1.0, digits=4) for row in rows]
    check(rows)
    parts: dict[str, set[str | None]] = defaultdict(set)
    for row in utterances:
        parts[row.dialogue].add(row.split)
    cut = {video for video, found in parts.items() if len(found) > 1}
    return [replace(row, session=row.dialogue, dialogue=_dialogue(row, cut)) for row in utterances]


def _dialogue(row: Utterance, cut: Set[str]) -> str:
    return f"{row.dialogue}_{row.split}" if row.dialogue in cut else row.dialogue


def expected(parts: Mapping[str, int], by_class: Mapping[str, Sequence[int]]) -> dict[str, dict[str, int]]:
    """The published counts of every label protocol. by_class: part -> those of the classes of `sentiment5`."""
    counts = {name: dict(parts) for name in PROTOCOLS}
    for name, (classes, _) in _CLASSES.items():
        for part, five in by_class.items():
            graded = zip(classes, _merged(five, len(classes)), strict=True)
            counts[name] |= {f"{part}/{label}": count for label, count in graded}
    return counts


def _merged(five: Sequence[int], classes: int) -> list[int]:
    """The counts of two or three classes from those of five."""
    if classes == 2:
        return [sum(five[:3]), sum(five[3:])]
    return list(five) if classes == 5 else [sum(five[:2]), five[2], sum(five[3:])]
