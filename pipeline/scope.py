"""Scopes: which rows a fit learns from and which rows then get its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import own_folds
from pipeline.errors import InputError
from pipeline.keys import digest
from pipeline.reader import Fold, Label, Labels, Reader
from pipeline.utterance import Utterance

OWN = "own"
"""The protocol of the folds that a recipe names by `[dataset] folds`."""


@dataclass(frozen=True)
class Scope:
    """The rows of one fit: it learns from `train` and stops by `valid`; `apply` get its features."""

    name: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    apply: tuple[str, ...]


def labelled(rows: Sequence[Utterance], labels: Labels) -> dict[str, Label]:
    """The label of each row that the protocol keeps, by id."""
    found = {row.id: labels.of(row) for row in rows}
    return {name: label for name, label in found.items() if label is not None}


def folds(
    reader: Reader, rows: Sequence[Utterance], kept: Mapping[str, Label], protocol: str, listed: Path | None = None
) -> list[Fold]:
    """The protocol's folds over the labelled rows, each checked for groups shared by train and test.

    protocol: `own` takes those of the file `listed`, any other is the reader's. Raises InputError where there are
    none, or where a dialogue stands on both sides.
    """
    if protocol == OWN and listed is not None:
        found = own_folds.read(listed, rows, kept)
    else:
        found = reader.folds([row for row in rows if row.id in kept], protocol)
    if not found:
        raise InputError(f"protocol {protocol!r} gives no folds on this corpus")
    dialogue = {row.id: row.dialogue for row in rows}
    for fold in found:
        shared = {dialogue[i] for i in fold.train} & {dialogue[i] for i in fold.test}
        if shared:
            raise InputError(f"fold {fold.name}: train and test share dialogues: {', '.join(sorted(shared)[:5])}")
    return found


def scopes(fold: Fold, rows: Sequence[Utterance], crossfit: int) -> list[Scope]:
    """One scope for the fold, or with `crossfit` = k (X9) k more, each leaving out one part of the train dialogues.

    With crossfit, a train row gets features from the fit that did not see it, and every other row those of the fit on
    all of train. Rows outside the fold, unlabelled ones say, count as test rows.
    """
    everyone = [row.id for row in rows]
    if not crossfit:
        return [Scope(fold.name, fold.train, fold.valid, tuple(everyone))]
    train = set(fold.train)
    whole = Scope(fold.name, fold.train, fold.valid, tuple(i for i in everyone if i not in train))
    parts = _parts([row for row in rows if row.id in train], crossfit)
    return [whole] + [_without(fold, set(part), number) for number, part in enumerate(parts)]


def _without(fold: Fold, part: set[str], number: int) -> Scope:
    rest = tuple(i for i in fold.train if i not in part)
    return Scope(f"{fold.name}/part-{number}", rest, fold.valid, tuple(i for i in fold.train if i in part))


def _parts(rows: Sequence[Utterance], k: int) -> list[list[str]]:
    """k parts of whole dialogues of about equal size; which ones depends on the dialogues' names alone."""
    names = sorted({row.dialogue for row in rows}, key=lambda name: digest("crossfit", name))
    if len(names) < k:
        raise InputError(f"crossfit = {k} needs at least {k} train dialogues, there are {len(names)}")
    sizes = dict.fromkeys(range(k), 0)
    place: dict[str, int] = {}
    for name in names:
        place[name] = min(sizes, key=lambda part: (sizes[part], part))
        sizes[place[name]] += sum(row.dialogue == name for row in rows)
    return [[row.id for row in rows if place[row.dialogue] == part] for part in range(k)]
