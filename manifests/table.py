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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from manifests._cells import COLUMNS, MODALITIES, Row, are_numbers, inside, number
from manifests._table_file import Cells, read
from pipeline.errors import InputError, closest
from pipeline.reader import Fold, Group, Labels, Reader, fold, held_out, in_parts
from pipeline.utterance import Utterance, Value

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
        cells = read(root / self.file, self.encoding)
        self._check_columns(cells.columns)
        wrong, places = _wrong_ids(cells, self.file), _places(cells)
        annotations = {name: self._annotation(name, cells) for name in cells.columns if name not in COLUMNS}
        utterances, errors = [], []
        for n, (place, texts) in enumerate(cells):
            row = Row(root, f"{self.file}:{place}", texts)
            if n in wrong:
                row.wrong(wrong[n])
            labels = {name: read_from(row) for name, read_from in annotations.items()}
            turn = row.count("turn")
            utterances.append(row.utterance(places[n] if turn is None else turn, labels, "audio" in cells.columns))
            errors += row.errors
        if errors:
            raise InputError("\n".join(errors))
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

    def _annotation(self, name: str, cells: Cells) -> Callable[[Row], Value]:
        """How the annotation in a column is read from a row."""
        if name == self.label and self.classes:
            known = {value: value for value in self.classes}
            return lambda row: row.choice(name, known)
        if name == self.label:
            return self._label_number(cells)
        if are_numbers(cells.column(name)):
            return lambda row: row.number(name)
        return lambda row: row.text(name)

    def _label_number(self, cells: Cells) -> Callable[[Row], Value]:
        """A label to regress. Words in all rows are told once, with the line that takes them as classes."""
        words = sorted({*cells.column(self.label)} - {""})
        if not words or any(are_numbers([word]) for word in words):
            return lambda row: row.number(self.label, "; a classification needs its `classes` in the recipe")
        line = f"classes = {json.dumps(words[:MOST_CLASSES], ensure_ascii=False)}"
        message = f"{self.label} holds words and no numbers: to classify them, add to [dataset] of the recipe\n{line}"
        first = f"{self.file}:{next(cells.places)}"
        return lambda row: row.wrong(message) if row.place == first else None


def _number(row: Utterance, name: str) -> float | None:
    value = row.labels.get(name)
    return None if value is None else float(value)


def _wrong_ids(cells: Cells, file: str) -> dict[int, str]:
    """What is wrong with ids, by the number of the row from 0."""
    first: dict[str, str] = {}
    wrong: dict[int, str] = {}
    for n, (place, name) in enumerate(zip(cells.places, cells.column("utterance"), strict=True)):
        if not name:
            wrong[n] = "no utterance id"
        elif name in first:
            wrong[n] = f"utterance {name!r} is already in {file}:{first[name]}"
        first.setdefault(name, place)
    return wrong


def _places(cells: Cells) -> list[int]:
    """The place of each row in its dialogue: by its start if all have one, else as they stand in the table."""
    dialogues: dict[str, list[tuple[int, float | None]]] = defaultdict(list)
    columns = (cells.column(name) for name in ("dialogue", "utterance", "start_s"))
    for n, (dialogue, utterance, start) in enumerate(zip(*columns, strict=True)):
        dialogues[dialogue or utterance].append((n, _start(start)))
    places = [0] * sum(map(len, dialogues.values()))
    for rows in dialogues.values():
        starts = {n: start for n, start in rows if start is not None}
        in_order = sorted(starts, key=starts.__getitem__) if len(starts) == len(rows) else [n for n, _ in rows]
        for place, n in enumerate(in_order):
            places[n] = place
    return places


def _start(cell: str) -> float | None:
    """Its errors are noted where the row becomes an utterance."""
    try:
        return number(cell) if cell else None
    except ValueError:
        return None


def _group(rows: Sequence[Utterance]) -> Group:
    if all(row.session for row in rows):
        return "session"
    return "speaker" if all(row.speaker for row in rows) else "dialogue"
