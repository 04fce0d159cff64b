"""Reads corpora as the MMSA project distributes them: a table, such as `label.csv`, and a clip with sound for each row.

Columns are found by their names, since their order differs between the corpora. `label` is the sentiment. `clip_id`
keeps its leading zeros, and the text `NA` is a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from manifests._cells import Row, check, identifier, whole
from manifests._sentiment import files, score
from manifests._table_file import read as read_table
from pipeline.errors import InputError
from pipeline.utterance import Audio, Utterance, Video

LAYOUT = "label.csv (columns video_id, clip_id, text, label, mode)\nRaw/<video>/<clip>.mp4"

_TABLE = "label.csv"
_REQUIRED = ("video_id", "clip_id", "text", "label", "mode")
_SINGLE = ("label_T", "label_A", "label_V")
_MODES = {"train": "train", "valid": "valid", "validation": "valid", "test": "test"}


def is_at(root: Path, folder: PurePosixPath) -> bool:
    """True if the folder has the table. Raises InputError for a link that leads outside the root."""
    return folder / _TABLE in files(root, folder, _TABLE)


def scan(root: Path, folder: PurePosixPath, parts: Mapping[str, str], encoding: str) -> list[Utterance]:
    """Every row of the table, whether its clip is there or not.

    parts: the part of each video in the published split. Raises one InputError that lists the malformed rows, and those
    whose `mode` differs from the part of their video, which is the published one, or else that of its first row.
    """
    rows = table_rows(root, folder / _TABLE, encoding)
    utterances = [clip_of(row, folder, 3.0) for row in rows]
    first: dict[str, str] = {}
    for row, utterance in zip(rows, utterances, strict=True):
        _check_part(row, utterance, parts, first)
    check(rows)
    return utterances


def table_rows(root: Path, table: PurePosixPath, encoding: str) -> list[Row]:
    """The rows of a table. Raises InputError for one that lacks a column."""
    cells = read_table(root / table, encoding)
    if absent := [column for column in _REQUIRED if column not in cells.columns]:
        raise InputError("\n".join(f"{table}:1: no column {column!r}" for column in absent))
    return [Row(root, f"{table}:{line}", row) for line, row in cells]


def _check_part(row: Row, utterance: Utterance, parts: Mapping[str, str], first: dict[str, str]) -> None:
    """Notes in `first` the part of a video that is not published, and an error in a row of another part."""
    if utterance.split is None:
        return
    part = parts.get(utterance.dialogue) or first.setdefault(utterance.dialogue, utterance.split)
    if part != utterance.split:
        row.wrong(f"mode = {utterance.split!r}, but video {utterance.dialogue} is in {part}")


def clip_of(row: Row, folder: PurePosixPath, scale: float, digits: int = 0) -> Utterance:
    """The utterance of a row. scale: the largest sentiment. digits: to which the number of a clip is filled with zeros,
    which a table loses if it is saved with columns of numbers."""
    video, clip = identifier(row, "video_id"), identifier(row, "clip_id").zfill(digits)
    path = str(folder / "Raw" / video / f"{clip}.mp4")
    single = {name: score(row, name, -scale, scale) for name in _SINGLE}
    labels = {"sentiment": score(row, "label", -scale, scale), "annotation": row.text("annotation"), **single}
    if not row.text("mode"):
        row.wrong("no mode")
    return Utterance(
        id=f"{video}_{clip}",
        dialogue=video,
        turn=whole(row, "clip_id"),
        text=row.text("text"),
        audio=(Audio(path=path),),
        video=(Video(path=path),),
        split=row.choice("mode", _MODES),
        labels={name: value for name, value in labels.items() if value is not None},
    )
