"""Scopes of fits: the rows that a fit learns from, those that it must not see, and those that get its features."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pipeline.cache.keys import digest
from pipeline.corpus import fold_list
from pipeline.errors import InputError
from pipeline.reader import Fold, Group, Label, Labels, Reader, hold_out
from pipeline.utterance import Utterance

HOLDOUT = "holdout"
"""The protocol that works on every corpus: see `pipeline.reader.hold_out`."""
OWN = "own"
"""The protocol that reads its folds from the file that a recipe names as `[dataset] folds`."""
PROTOCOLS = ("official", "cv", HOLDOUT, OWN)
"""All of them: a reader gives the folds of the first two."""


@dataclass(frozen=True)
class HeldOut:
    """Rows that a fit must not see: their ids, and the dialogues, sessions or speakers that they are of.

    A group is a field of an utterance with its value: ("session", "Session5").
    """

    ids: frozenset[str]
    groups: frozenset[tuple[Group, str]]

    @classmethod
    def of(cls, rows: Iterable[Utterance], group: Group = "dialogue") -> Self:
        """Holds out these rows, their dialogues, and their values of the field `group`."""
        rows = list(rows)
        fields: set[Group] = {"dialogue", group}
        pairs = ((name, getattr(row, name)) for row in rows for name in fields)
        return cls(frozenset(row.id for row in rows), frozenset((name, value) for name, value in pairs if value))

    def among(self, rows: Iterable[Utterance]) -> str:
        """Describes what `rows` share with the rows held out: the first five names of each kind; "" for nothing."""
        rows = list(rows)
        fields = {name for name, _ in self.groups}
        groups = {(name, getattr(row, name)) for row in rows for name in fields} & self.groups
        shared = {f"{field}s": [value for name, value in groups if name == field] for field in sorted(fields)}
        shared["utterances"] = list({row.id for row in rows} & self.ids)
        return "; ".join(f"{kind}: {', '.join(sorted(names)[:5])}" for kind, names in shared.items() if names)


@dataclass(frozen=True)
class Scope:
    """The rows of one fit. It learns from `train`, stops early by `valid` and never sees `held`; the rows `apply` get
    its features."""

    name: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    apply: tuple[str, ...]
    held: HeldOut


def labelled(rows: Sequence[Utterance], labels: Labels) -> dict[str, Label]:
    """The label of each row that the label protocol keeps, by id.

    Raises InputError for a row whose annotations the protocol does not know, as a manifest from elsewhere may have.
    """
    return {row.id: label for row in rows if (label := _label(row, labels)) is not None}


def _label(row: Utterance, labels: Labels) -> Label | None:
    try:
        label = labels.of(row)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InputError(f"{row.id}: its annotations are not of this label protocol ({problem})") from error
    if label is not None and not _fits(label, labels):
        raise InputError(
            f"{row.id}: the label {label!r} is not of the task {labels.task} of {len(labels.classes)} names"
        )
    return label


def _fits(label: Label, labels: Labels) -> bool:
    """True for a label as `pipeline.reader.Labels` describes it."""
    count, several = len(labels.classes), isinstance(label, tuple)
    numbers = label if isinstance(label, tuple) else (label,)
    if labels.task == "multiclass":
        return not several and label in range(count)
    if labels.task == "multilabel":
        return several and len(numbers) == count and set(numbers) <= {0, 1}
    return several == (count > 1) and len(numbers) == max(1, count) and all(map(math.isfinite, numbers))


def folds(
    reader: Reader, rows: Sequence[Utterance], labels: Mapping[str, Label], protocol: str, own: Path | None = None
) -> list[Fold]:
    """The folds of a protocol over the rows that have a label, each checked for what its parts share.

    protocol: `own` reads the file `own`, `holdout` cuts at random, any other is the reader's. Raises InputError if
    there are no folds or two of one name, if an utterance is in two parts of a fold, or if a dialogue or a value of the
    fold's `group` is in test and in another part.
    """
    made = _made(reader, rows, labels, protocol, own)
    if not made:
        raise InputError(f"protocol {protocol!r} gives no folds on this corpus")
    if twice := [name for name, times in Counter(fold.name for fold in made).items() if times > 1]:
        raise InputError(f"two folds of one name: {', '.join(twice)}")
    by_id = {row.id: row for row in rows}
    for fold in made:
        _refuse_shared(fold, by_id)
    return made


def _made(
    reader: Reader, rows: Sequence[Utterance], labels: Mapping[str, Label], protocol: str, own: Path | None
) -> list[Fold]:
    if protocol == OWN and own is not None:
        return fold_list.read(own, rows, labels)
    labelled_rows = [row for row in rows if row.id in labels]
    return [hold_out(labelled_rows)] if protocol == HOLDOUT else reader.folds(labelled_rows, protocol)


def _refuse_shared(fold: Fold, rows: Mapping[str, Utterance]) -> None:
    twice = {*fold.train} & {*fold.valid}
    if twice:
        raise InputError(f"fold {fold.name}: train and valid share utterances: {', '.join(sorted(twice)[:5])}")
    held = HeldOut.of((rows[i] for i in fold.test), fold.group)
    for part in ("train", "valid"):
        shared = held.among(rows[i] for i in getattr(fold, part))
        if shared:
            raise InputError(f"fold {fold.name}: {part} and test share {shared}")


def refuse_cut_dialogues(fold: Fold, rows: Iterable[Utterance], stages: Iterable[str]) -> None:
    """Raises InputError if two parts of a fold share a dialogue, of which `stages` read the turns before an utterance.

    A row of one part would be made of the transcripts of another.
    """
    dialogue = {row.id: row.dialogue for row in rows}
    train, valid, test = ({dialogue[i] for i in part} for part in (fold.train, fold.valid, fold.test))
    if shared := sorted(train & valid | train & test | valid & test):
        raise InputError(
            f"fold {fold.name}: two of its parts share dialogues: {', '.join(shared[:5])}. The turns before an "
            f"utterance, as {' and '.join(sorted(stages))} reads them, would be of another part: put a dialogue into "
            "one part, or leave out the context"
        )


def scopes(fold: Fold, rows: Sequence[Utterance], crossfit: int) -> list[Scope]:
    """The scope of a fold's fit; with `crossfit` = k (X9) also k that each leave out a part of the train dialogues.

    With crossfit, a train row gets the features of the fit that did not see it, and any other row those of the fit on
    all of train. Rows outside the fold, such as unlabelled ones, get features as test rows do. The test rows are held
    out of every fit, and the part that a fit leaves out is held out of this fit too.
    """
    everyone = [row.id for row in rows]
    test, train = set(fold.test), set(fold.train)
    held = HeldOut.of((row for row in rows if row.id in test), fold.group)
    if not crossfit:
        return [Scope(fold.name, fold.train, fold.valid, tuple(everyone), held)]
    whole = Scope(fold.name, fold.train, fold.valid, tuple(i for i in everyone if i not in train), held)
    parts = _parts([row for row in rows if row.id in train], crossfit)
    return [whole] + [_without(fold, held, part, number) for number, part in enumerate(parts)]


def _without(fold: Fold, held: HeldOut, part: Sequence[Utterance], number: int) -> Scope:
    """The scope of the fit that leaves out one part of train."""
    ids = frozenset(row.id for row in part)
    train = tuple(i for i in fold.train if i not in ids)
    apply = tuple(i for i in fold.train if i in ids)
    return Scope(f"{fold.name}/part-{number}", train, fold.valid, apply, replace(held, ids=held.ids | ids))


def _parts(rows: Sequence[Utterance], k: int) -> list[list[Utterance]]:
    """k parts of about equal size, made of whole dialogues and decided by the dialogues' names alone."""
    counts = Counter(row.dialogue for row in rows)
    names = sorted(counts, key=lambda name: digest("crossfit", name))
    if len(names) < k:
        raise InputError(f"crossfit = {k} needs at least {k} train dialogues, there are {len(names)}")
    sizes = dict.fromkeys(range(k), 0)
    part_of: dict[str, int] = {}
    for name in names:
        part_of[name] = min(sizes, key=lambda part: (sizes[part], part))
        sizes[part_of[name]] += counts[name]
    return [[row for row in rows if part_of[row.dialogue] == part] for part in range(k)]
