"""Scopes: which rows a fit learns from, which it must not see, and which rows then get its features."""

from __future__ import annotations

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
"""The protocol that every corpus has: see `pipeline.reader.hold_out`."""
OWN = "own"
"""The protocol of the folds that a recipe names by `[dataset] folds`."""


@dataclass(frozen=True)
class HeldOut:
    """Rows that a fit must not see: their ids, and every dialogue, session or speaker that none of its rows may be of.

    A group is the field of an utterance and its value.
    """

    ids: frozenset[str]
    groups: frozenset[tuple[Group, str]]

    @classmethod
    def of(cls, rows: Iterable[Utterance], group: Group = "dialogue") -> Self:
        """These rows, with their dialogues and their values of `group`."""
        listed = list(rows)
        fields: set[Group] = {"dialogue", group}
        pairs = ((name, getattr(row, name)) for row in listed for name in fields)
        return cls(frozenset(row.id for row in listed), frozenset((name, value) for name, value in pairs if value))

    def among(self, rows: Iterable[Utterance]) -> str:
        """What of `rows` is held out, by kind, the first five of each; empty where nothing is."""
        listed = list(rows)
        fields = {name for name, _ in self.groups}
        shared = {(name, getattr(row, name)) for row in listed for name in fields} & self.groups
        shared_ids = {row.id for row in listed} & self.ids
        kinds = {f"{field}s": [value for name, value in shared if name == field] for field in sorted(fields)}
        found = {**kinds, "utterances": list(shared_ids)}
        return "; ".join(f"{kind}: {', '.join(sorted(names)[:5])}" for kind, names in found.items() if names)


@dataclass(frozen=True)
class Scope:
    """The rows of one fit: it learns from `train`, stops by `valid`, never sees `held`; `apply` get its features."""

    name: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    apply: tuple[str, ...]
    held: HeldOut


def labelled(rows: Sequence[Utterance], labels: Labels) -> dict[str, Label]:
    """The label of each row that the protocol keeps, by id."""
    found = {row.id: labels.of(row) for row in rows}
    return {name: label for name, label in found.items() if label is not None}


def folds(
    reader: Reader, rows: Sequence[Utterance], kept: Mapping[str, Label], protocol: str, listed: Path | None = None
) -> list[Fold]:
    """The protocol's folds over the labelled rows, each checked for what test shares with train or validation.

    protocol: `own` takes those of the file `listed`, `holdout` cuts at random, any other is the reader's. Raises
    InputError where there are none or two of one name, where an utterance stands in two parts, or where a dialogue or
    a value of the fold's `group` stands in test and in another part.
    """
    if protocol == OWN and listed is not None:
        found = fold_list.read(listed, rows, kept)
    else:
        mine = [row for row in rows if row.id in kept]
        found = [hold_out(mine)] if protocol == HOLDOUT else reader.folds(mine, protocol)
    if not found:
        raise InputError(f"protocol {protocol!r} gives no folds on this corpus")
    if twice := [name for name, times in Counter(fold.name for fold in found).items() if times > 1]:
        raise InputError(f"two folds of one name: {', '.join(twice)}")
    by_id = {row.id: row for row in rows}
    for fold in found:
        _refuse_shared(fold, by_id)
    return found


def _refuse_shared(fold: Fold, rows: Mapping[str, Utterance]) -> None:
    twice = {*fold.train} & {*fold.valid}
    if twice:
        raise InputError(f"fold {fold.name}: train and valid share utterances: {', '.join(sorted(twice)[:5])}")
    held = HeldOut.of((rows[i] for i in fold.test), fold.group)
    for part in ("train", "valid"):
        shared = held.among(rows[i] for i in getattr(fold, part))
        if shared:
            raise InputError(f"fold {fold.name}: {part} and test share {shared}")


def scopes(fold: Fold, rows: Sequence[Utterance], crossfit: int) -> list[Scope]:
    """One scope for the fold, or with `crossfit` = k (X9) k more, each leaving out one part of the train dialogues.

    With crossfit, a train row gets features from the fit that did not see it, and every other row those of the fit on
    all of train. Rows outside the fold, unlabelled ones say, get features like test rows; held out are the test rows
    alone, and for a part its own rows too.
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
    own = frozenset(row.id for row in part)
    rest = tuple(i for i in fold.train if i not in own)
    mine = tuple(i for i in fold.train if i in own)
    return Scope(f"{fold.name}/part-{number}", rest, fold.valid, mine, replace(held, ids=held.ids | own))


def _parts(rows: Sequence[Utterance], k: int) -> list[list[Utterance]]:
    """k parts of whole dialogues of about equal size; which ones depends on the dialogues' names alone."""
    rows_of = Counter(row.dialogue for row in rows)
    names = sorted(rows_of, key=lambda name: digest("crossfit", name))
    if len(names) < k:
        raise InputError(f"crossfit = {k} needs at least {k} train dialogues, there are {len(names)}")
    sizes = dict.fromkeys(range(k), 0)
    place: dict[str, int] = {}
    for name in names:
        place[name] = min(sizes, key=lambda part: (sizes[part], part))
        sizes[place[name]] += rows_of[name]
    return [[row for row in rows if place[row.dialogue] == part] for part in range(k)]
