"""Reads a team's own folds: a CSV of utterances that the recipe names as `[dataset] folds`, or that a release holds.

| column | what it holds |
|---|---|
| `utterance` | the id in the scan, required |
| `split` | `train`, `valid` (also `validation`, `dev`, `val`) or `test` |
| `fold` | the fold's name, of letters, digits, `_`, `.` and `-`; its runs are in a folder of this name |

With `split` alone there is one fold. With both columns there is one fold for each name. With `fold` alone, each name is
the test part once, and the others are train. If no row is marked as validation, about a tenth of the train dialogues is
taken for it (X16). An utterance that is not listed is in no fold.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.release_file import released
from pipeline.errors import InputError, closest
from pipeline.reader import Fold, fold, held_out, leave_one_out
from pipeline.utterance import Utterance

SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "val": "valid", "test": "test"}

_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class _Entry:
    line: int
    utterance: str
    fold: str
    split: str


def read(path: Path, rows: Sequence[Utterance], labelled: Iterable[str]) -> list[Fold]:
    """The folds that a file lists, over those of its utterances that have a label.

    rows: the whole scan. labelled: ids of the utterances that the label protocol keeps. Raises one InputError that
    lists every wrong line: an id that the scan does not have, an unknown split, a fold without a usable name, or an
    utterance listed twice in one fold. Raises InputError too if the file is not UTF-8 or lacks a column.
    """
    stem, text = _source(path)
    columns, entries = _entries(path, text)
    if wrong := [*_wrong(entries, rows, columns), *_twice(entries, "split" in columns)]:
        raise InputError("\n".join(f"{path}:{message}" for message in wrong))
    kept = set(labelled)
    by_id = {row.id: row for row in rows}
    used = [entry for entry in entries if entry.utterance in kept]
    if "split" not in columns:
        fold_of = {entry.utterance: entry.fold for entry in used}
        return leave_one_out([by_id[entry.utterance] for entry in used], lambda row: fold_of[row.id])
    names = dict.fromkeys(entry.fold for entry in used)
    return [_fold(name or stem, [entry for entry in used if entry.fold == name], by_id) for name in names]


def _entries(path: Path, text: str) -> tuple[set[str], list[_Entry]]:
    table = csv.DictReader(io.StringIO(text, newline=""))
    columns = set(table.fieldnames or ())
    if "utterance" not in columns or not columns & {"split", "fold"}:
        raise InputError(f"{path}:1: expected the column utterance, and split or fold or both, got {sorted(columns)}")
    cells = [(table.line_num, {name: (cell or "").strip() for name, cell in row.items() if name}) for row in table]
    return columns, [_Entry(n, row["utterance"], row.get("fold", ""), row.get("split", "")) for n, row in cells]


def _source(path: Path) -> tuple[str, str]:
    """The name and the text of a list: a file of its own, or what a release holds of it."""
    release = released(path)
    if release and release.folds:
        return release.folds.name, "\n".join(release.folds.lines)
    return path.stem, _text(path)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8") from error


def _wrong(entries: Iterable[_Entry], rows: Sequence[Utterance], columns: set[str]) -> Iterable[str]:
    known = {row.id for row in rows}
    for entry in entries:
        if entry.utterance not in known:
            yield f"{entry.line}: the scan has no utterance {entry.utterance!r}"
        if "split" in columns and entry.split not in SPLITS:
            yield f"{entry.line}: no split {entry.split!r}: {closest(entry.split, SPLITS)}"
        if "fold" in columns and (not _NAME.fullmatch(entry.fold) or entry.fold in (".", "..")):
            yield f"{entry.line}: fold = {entry.fold!r} is not a name of letters, digits, '_', '.' and '-'"


def _twice(entries: Iterable[_Entry], with_split: bool) -> Iterable[str]:
    count = Counter((entry.fold if with_split else "", entry.utterance) for entry in entries)
    for (name, utterance), times in count.items():
        if times > 1:
            lines = [entry.line for entry in entries if entry.utterance == utterance and name in ("", entry.fold)]
            yield f"{lines[1]}: {utterance!r} is listed {times} times{f' in fold {name}' if name else ''}"


def _fold(name: str, entries: Sequence[_Entry], by_id: dict[str, Utterance]) -> Fold:
    parts: dict[str, list[Utterance]] = defaultdict(list)
    for entry in entries:
        parts[SPLITS[entry.split]].append(by_id[entry.utterance])
    train, valid = parts["train"], parts["valid"]
    if not valid:
        train, valid = held_out(train, 0.1, f"valid-{name}")
    return fold(name, train, valid, parts["test"])
