"""Tables and clips in the layout of MELD's release, for the tests of its reader."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from manifests._meld import FACES, FAIR_TABLES, TABLES, TIMES
from manifests.meld import Meld
from pipeline.utterance import Utterance

COLUMNS = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
)
RECIPE = Path(__file__).parents[2] / "manifests" / "meld.toml"


def line(dialogue: int = 0, utterance: int = 0, **cells: object) -> dict[str, str]:
    """A row of a table; spaces in names of columns are written as underscores."""
    row: dict[str, object] = {
        "Sr No.": 7,
        "Utterance": "Could this be any shorter?",
        "Speaker": "Chandler",
        "Emotion": "joy",
        "Sentiment": "positive",
        "Dialogue_ID": dialogue,
        "Utterance_ID": utterance,
        "Season": 8,
        "Episode": 3,
        "StartTime": "0:01:02,500",
        "EndTime": "00:01:04,750",
    }
    return {name: str(value) for name, value in (row | cells).items()}


def write_table(file: Path, rows: Iterable[dict[str, str]], encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding=encoding, newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    return file


def write_tables(folder: Path, **rows: Sequence[dict[str, str]]) -> Path:
    """The three tables beside each other; a part that isn't given has one row."""
    for part, name in TABLES.items():
        write_table(folder / name, rows.get(part, [line()]))
    return folder


def write_clips(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"a clip")
    return folder


def scan(root: Path, **options: Any) -> dict[str, Utterance]:
    return {row.id: row for row in Meld(**options).scan(root)}


def path(row: Utterance) -> str:
    [path] = {stretch.path for stretch in row.stretches}
    return path


def write_fair(
    folder: Path,
    times: Iterable[Sequence[object]],
    faces: Iterable[Sequence[object]] = (),
    numbers: Mapping[str, Iterable[Sequence[int]]] = MappingProxyType({}),
) -> Path:
    """MELD-FAIR's files, in its own format.

    times: part, dialogue, FAIR's number of the utterance, the clip's dialogue and utterance, start and end. faces:
    part, dialogue, FAIR's number, frame, left, top, right, bottom. numbers: by part dialogue, MELD's number, FAIR's
    number; without a part, utterances 0 to 2 of dialogue 0 have one number in both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in FAIR_TABLES.items():
        rows = [(0, d, old, new) for d, old, new in numbers.get(part, [(0, n, n) for n in range(3)])]
        _write(folder / name, ("", "Dialogue_ID", "Original Utterance_ID", "Utterance_ID"), rows)
    ids = ("Split", "Dialogue ID", "Utterance ID")
    _write(folder / TIMES, (*ids, "Original Dialogue ID", "Original Utterance ID", "Start Time", "End Time"), times)
    _write(folder / FACES, (*ids, "Frame Number", "X Left", "Y Top", "X Right", "Y Bottom"), faces)
    return folder


def _write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
