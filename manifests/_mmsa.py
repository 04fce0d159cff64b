"""MOSI and MOSEI as the MMSA project hands them on: one table `label.csv`, and a clip with sound for each of its rows.

Columns are found by their names, since their order differs between corpora. `label` is the sentiment. `clip_id` keeps
its leading zeros, and `NA` is a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from manifests._cells import Row, whole
from manifests._cells import read as read_table
from manifests._sentiment import check, files, identifier, score
from pipeline.errors import InputError
from pipeline.utterance import Audio, Utterance, Video

LAYOUT = "label.csv (columns video_id, clip_id, text, label, mode)\nRaw/<video>/<clip>.mp4"

_TABLE = "label.csv"
_REQUIRED = ("video_id", "clip_id", "text", "label", "mode")
_SINGLE = ("label_T", "label_A", "label_V")
_MODES = {"train": "train", "valid": "valid", "validation": "valid", "test": "test"}


def is_at(root: Path, place: PurePosixPath) -> bool:
    """Whether the table is there. Raises InputError for a link that leads outside the root."""
    return place / _TABLE in files(root, place, _TABLE)


def scan(root: Path, place: PurePosixPath, parts: Mapping[str, str]) -> list[Utterance]:
    """Every row of the table, wherever its clip is.

    parts: of the published split, by video. Raises one InputError that lists the malformed rows, and those whose
    `mode` is another part than that of their video, which is the published one or else that of its first row.
    """
    columns, cells = read_table(root / place / _TABLE)
    name = place / _TABLE
    if absent := [column for column in _REQUIRED if column not in columns]:
        raise InputError("\n".join(f"{name}:1: no column {column!r}" for column in absent))
    rows = [Row(root, f"{name}:{line}", row) for line, row in cells]
    utterances = [_utterance(row, place) for row in rows]
    first: dict[str, str] = {}
    for row, utterance in zip(rows, utterances, strict=True):
        _agree(row, utterance, parts, first)
    check(rows)
    return utterances


def _agree(row: Row, utterance: Utterance, parts: Mapping[str, str], first: dict[str, str]) -> None:
    if utterance.split is None:
        return
    part = parts.get(utterance.dialogue) or first.setdefault(utterance.dialogue, utterance.split)
    if part != utterance.split:
        row.wrong(f"mode = {utterance.split!r}, but video {utterance.dialogue} is in {part}")


def _utterance(row: Row, place: PurePosixPath) -> Utterance:
    video, clip = identifier(row, "video_id"), identifier(row, "clip_id")
    path = str(place / "Raw" / video / f"{clip}.mp4")
    labels = {name: row.number(name) for name in _SINGLE}
    found = {"sentiment": score(row, "label"), "annotation": row.text("annotation"), **labels}
    if not row.text("mode"):
        row.wrong("no mode")
    return Utterance(
        id=f"{video}_{clip}",
        dialogue=video,
        turn=whole(row, "clip_id"),
        text=row.text("text"),
        audio=Audio(path=path),
        video=Video(path=path),
        split=row.choice("mode", _MODES),
        labels={name: value for name, value in found.items() if value is not None},
    )
