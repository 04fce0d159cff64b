"""Tables and clips in the layout of MELD's release, for the tests of its reader."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from manifests._meld import TABLES
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
    assert row.audio is not None and row.video is not None and row.audio.path == row.video.path
    return row.audio.path
