"""Your own clips: a CSV or Parquet table with a row for each utterance.

| column | what it holds |
|---|---|
| `utterance` | the id, required and unique |
| `text`, `audio`, `video` | the transcript; files, relative to the root. At least one of these columns is required |
| `dialogue` | the conversation, by default the utterance's id |
| `turn` | the place in the conversation, by default by `start_s` if all its rows have one, else in the table's order |
| `speaker`, `session` | names that folds are grouped by |
| `split` | `train`, `valid` (also `validation`, `dev`, `val`) or `test` |
| `audio_start_s`, `audio_end_s`, `audio_channel` | the part of the audio file, by default all; channels count from 0 |
| `video_start_s`, `video_end_s` | the part of the video file |
| `start_s`, `end_s` | when it is said in the dialogue: an annotation, which orders a dialogue without turns |
| any other | an annotation, such as the label; a number if every cell of the column is one in plain decimals |

Without an `audio` column, the sound is that of the video file, in the same part of it. An empty cell is an unknown
value, or a modality that the utterance does not have. In a column of numbers, `NA`, `NaN` and the like are unknown too;
elsewhere they are text, so that the transcript `NA` is a transcript.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from manifests._cells import COLUMNS, MODALITIES, Row, are_numbers, check, inside, number
from manifests._table_file import read
from pipeline.errors import InputError, closest
from pipeline.reader import Fold, Group, Labels, Reader, fold, held_out, in_parts
from pipeline.utterance import Utterance, Value

_READ: Mapping[str, str] = {}
"""The cells of a row that has become an utterance."""

MOST_CLASSES = 20
"""How many words that may be classes are listed."""


@dataclass(frozen=True, kw_only=True)
class Table(Reader):
    """Reads the table `file` inside the root.

    Its one label protocol, `label`, is the column that the option `label` names: an index into `classes`, or a number
    to regress if the recipe lists no classes.
    """

    layout: ClassVar[str] = "utterances.csv, or the `file` of the recipe: columns utterance and text, audio or video"
    obtain: ClassVar[str] = "The table is yours to write: manifests/table.py says what its columns hold."
    labels: ClassVar[Mapping[str, Labels]] = {"label": Labels("regression", (), lambda row: _number(row, "label"))}

    file: str = "utterances.csv"
    label: str = "label"
    classes: tuple[str, ...] = ()
    encoding: str = "utf-8"

    def protocol(self, name: str) -> Labels:
        """The protocol `label`, with the task and classes of the options. Raises InputError for another name."""
        super().protocol(name)
        if self.classes:
            return Labels("multiclass", tuple(self.classes), self._index)
        return Labels("regression", (), lambda row: _number(row, self.label))

    def scan(self, root: Path) -> list[Utterance]:
        """The rows of the table. Raises one InputError that lists every error in it, by file and line."""
        if not inside(root, self.file):
            raise InputError(f"file = {self.file!r} is outside {root}")
        if not (root / self.file).is_file():
            raise self.missing(root)
        columns, cells = read(root / self.file, self.encoding)
        self._check_columns(columns)
        rows = [Row(root, f"{self.file}:{place}", row) for place, row in cells]
        del cells
        _check_ids(rows)
        annotations = {name: self._annotation(name, rows) for name in columns if name not in COLUMNS}
        turns = _turns(rows)
        utterances = []
        for i, (row, turn) in enumerate(zip(rows, turns, strict=True)):
            labels = {name: values[i] for name, values in annotations.items()}
            utterances.append(row.utterance(turn, labels, "audio" in columns))
            row.cells = _READ  # of a million rows they take as much memory as the utterances
        check(rows)
        return utterances

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`official`: the column `split`; if it has no valid rows, a tenth of the train dialogues validates. `cv`: five
        folds, or fewer if there are fewer groups, by the first of session, speaker and dialogue that all rows have.
        """
        if protocol == "cv":
            return in_parts(rows, _group(rows))
        if protocol != "official":
            raise InputError(f"no protocol {protocol!r}: {closest(protocol, ('official', 'cv'))}")
        train, valid, test = ([row for row in rows if row.split == part] for part in ("train", "valid", "test"))
        if not train or not test:
            raise InputError("protocol official needs rows whose `split` is train and rows whose `split` is test")
        if not valid:
            train, valid = held_out(train, 0.1, "valid-official")
        return [fold("official", train, valid, test)]

    def _index(self, row: Utterance) -> int | None:
        value = row.labels.get(self.label)
        return None if value is None else self.classes.index(str(value))

    def _check_columns(self, columns: Sequence[str]) -> None:
        wrong = [f"two columns {name!r}" for name, count in Counter(columns).items() if count > 1]
        wrong += [f"column {name!r}: times are in seconds, {name}_s" for name in columns if f"{name}_s" in COLUMNS]
        wrong += [f"column {name!r}: blanks around its name" for name in columns if name != name.strip()]
        if "utterance" not in columns:
            wrong.append(f"no column 'utterance': {closest('utterance', columns)}")
        if not set(MODALITIES) & set(columns):
            wrong.append("none of the columns text, audio, video")
        if self.label in COLUMNS:
            wrong.append(f"label = {self.label!r}: that column has a meaning of its own, the label needs another")
        elif self.label not in columns and (self.classes or self.label != "label"):
            wrong.append(f"no column {self.label!r}: {closest(self.label, columns)}")
        if wrong:
            raise InputError("\n".join(f"{self.file}:1: {message}" for message in wrong))

    def _annotation(self, name: str, rows: Sequence[Row]) -> list[Value]:
        if name != self.label:
            numeric = are_numbers(row.cells[name] for row in rows)
            return [row.number(name) if numeric else row.text(name) for row in rows]
        if not self.classes:
            return self._numbers(name, rows)
        return [row.choice(name, {value: value for value in self.classes}) for row in rows]

    def _numbers(self, name: str, rows: Sequence[Row]) -> list[Value]:
        """Labels to regress. Words in all rows are told once, with the line that takes them as classes."""
        words = sorted({row.cells[name] for row in rows} - {""})
        if words and not any(are_numbers([word]) for word in words):
            line = f"classes = {json.dumps(words[:MOST_CLASSES], ensure_ascii=False)}"
            rows[0].wrong(
                f"{name} holds words and no numbers: to classify them, add to [dataset] of the recipe\n{line}"
            )
            return [None for _ in rows]
        return [row.number(name, "; a classification needs its `classes` in the recipe") for row in rows]


def _number(row: Utterance, name: str) -> float | None:
    value = row.labels.get(name)
    return None if value is None else float(value)


def _check_ids(rows: Iterable[Row]) -> None:
    first: dict[str, str] = {}
    for row in rows:
        name = row.cells["utterance"]
        if not name:
            row.wrong("no utterance id")
        elif name in first:
            row.wrong(f"utterance {name!r} is already in {first[name]}")
        first.setdefault(name, row.place)


def _turns(rows: Sequence[Row]) -> list[int]:
    """The turn of each row: the column `turn`, or else its place in the dialogue, see `_in_order`."""
    dialogues: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        dialogues[row.text("dialogue") or row.cells["utterance"]].append(row)
    places = {row.place: place for found in dialogues.values() for place, row in enumerate(_in_order(found))}
    given = [row.count("turn") for row in rows]
    return [places[row.place] if turn is None else turn for row, turn in zip(rows, given, strict=True)]


def _in_order(dialogue: Sequence[Row]) -> Sequence[Row]:
    """The rows of a dialogue by their start if all have one, else as they stand in the table."""
    starts = {row.place: start for row in dialogue if (start := _start(row)) is not None}
    return sorted(dialogue, key=lambda row: starts[row.place]) if len(starts) == len(dialogue) else dialogue


def _start(row: Row) -> float | None:
    """Its errors are noted where the row becomes an utterance."""
    try:
        return number(row.cells.get("start_s", ""))
    except ValueError:
        return None


def _group(rows: Sequence[Utterance]) -> Group:
    if all(row.session for row in rows):
        return "session"
    return "speaker" if all(row.speaker for row in rows) else "dialogue"
