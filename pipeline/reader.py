"""The Reader contract: what a corpus file in `manifests/` provides."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from blake3 import blake3

from pipeline.errors import InputError, closest
from pipeline.utterance import Utterance

Task = Literal["multiclass", "multilabel", "regression"]
Label = int | float | tuple[int, ...] | tuple[float, ...]
Group = Literal["dialogue", "session", "speaker"]
"""The field of an utterance that a protocol keeps on one side."""


@dataclass(frozen=True)
class Labels:
    """A label protocol: a filter over the whole scan. `of` returns None for an utterance the protocol leaves out.

    A multiclass label is an index into `classes`, a multilabel one a tuple of 0 and 1 with one place for each of
    `classes`. For a regression `classes` names the targets: with at most one name a label is a number, with several
    a tuple of as many numbers.
    """

    task: Task
    classes: tuple[str, ...]
    of: Callable[[Utterance], Label | None]


@dataclass(frozen=True)
class Fold:
    """Ids of the utterances of one train, validation and test part.

    They are disjoint, and test shares neither a dialogue nor a `group` with the other two.
    """

    name: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    group: Group = "dialogue"

    @property
    def digests(self) -> dict[str, str]:
        """Of the ids of each part, whatever their order: where these agree, two teams trained and tested the same."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: blake3(json.dumps(sorted(ids)).encode()).hexdigest() for name, ids in parts.items()}


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file of the release that anybody may fetch: `bytes` long, with that SHA-256, put at `name` below the root.

    `unpacked` is at least the bytes that an archive unpacks to, a bound; 0 for a file that is kept as it is.
    `nested` are the file names of archives inside it, unpacked in turn, each in the folder that it stands in.
    """

    url: str
    name: str
    bytes: int
    sha256: str
    unpacked: int = 0
    nested: tuple[str, ...] = ()


class Reader(ABC):
    """Reads one corpus from its release on disk. Its fields are the recipe's `[dataset]` options for this reader."""

    layout: ClassVar[str]
    obtain: ClassVar[str]
    licence: ClassVar[str] = ""
    labels: ClassVar[Mapping[str, Labels]]
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    downloads: ClassVar[Sequence[Download]] = ()

    @abstractmethod
    def scan(self, root: Path) -> list[Utterance]:
        """Every utterance of the corpus, without digests.

        Raises InputError, naming where it looked, `layout` and `obtain`, when `root` is not this corpus.
        """

    def prepare(self, root: Path) -> None:  # noqa: B027 - optional
        """Puts the corpus at `root` if the reader can make it; a released corpus can't, so does nothing."""

    @abstractmethod
    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """The folds of `protocol` (`official` or `cv`) over `rows`, those the label protocol keeps."""

    def bounds(self, rows: Sequence[Utterance]) -> Mapping[str, float]:
        """Accuracies known in advance for `rows`, by what they bound: only a synthetic corpus has any."""
        return {}

    def protocol(self, name: str) -> Labels:
        """The label protocol of that name; raises InputError with the closest one otherwise."""
        if name not in self.labels:
            raise InputError(f"no label protocol {name!r}: {closest(name, self.labels)}")
        return self.labels[name]

    def missing(self, root: Path) -> InputError:
        """The one message for a root that is absent or holds something else."""
        return InputError(f"{root} is not this corpus.\nExpected layout:\n{self.layout}\n{self.obtain}")


def held_out(rows: Sequence[Utterance], share: float, seed: str) -> tuple[list[Utterance], list[Utterance]]:
    """Splits `rows` into (rest, held out), whole dialogues going to one side, about `share` of the dialogues held out.

    Which ones is a function of `seed` and the dialogues' names (X16), at least one where there are two.
    """
    names = sorted({row.dialogue for row in rows})
    count = min(len(names) - 1, max(1, round(share * len(names))))
    chosen = set(random.Random(seed).sample(names, count)) if count > 0 else set()
    return [r for r in rows if r.dialogue not in chosen], [r for r in rows if r.dialogue in chosen]


def leave_one_out(
    rows: Sequence[Utterance],
    key: Callable[[Utterance], str | None],
    valid: float | None = 0.1,
    *,
    group: Group = "dialogue",
) -> list[Fold]:
    """One fold for each value of `key` (a session, say): that value tests, and of the rest about the share `valid` of
    the dialogues validates, or with None the next value (X16).

    group: the field that no value of `key` shares with another.
    """
    values = sorted({name for row in rows if (name := key(row)) is not None})
    folds = []
    for value, following in zip(values, values[1:] + values[:1], strict=True):
        test = [row for row in rows if key(row) == value]
        rest = [row for row in rows if key(row) != value]
        if valid is None:
            train = [row for row in rest if key(row) != following]
            held = [row for row in rest if key(row) == following]
        else:
            train, held = held_out(rest, valid, f"valid-{value}")
        folds.append(fold(f"test-{value}", train, held, test, group))
    return folds


def hold_out(rows: Sequence[Utterance]) -> Fold:
    """About a fifth of the dialogues tests, a tenth of the others validates; a function of their names alone."""
    rest, test = held_out(rows, 0.2, "test-holdout")
    train, valid = held_out(rest, 0.1, "valid-holdout")
    return fold("holdout", train, valid, test)


def in_parts(rows: Sequence[Utterance], group: Group, parts: int = 5) -> list[Fold]:
    """Cross-validation in `parts` folds of about equal size, fewer where there are fewer groups (X16).

    group: what stays on one side. Raises InputError where all rows are of one.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        members[str(getattr(row, group))].append(row.id)
    if len(members) < 2:
        raise InputError("protocol cv needs at least two groups, such as sessions, speakers, videos or dialogues")
    folds: list[list[str]] = [[] for _ in range(min(parts, len(members)))]
    shuffled = random.Random("cv").sample(sorted(members), len(members))  # an order of no meaning among equal sizes
    for name in sorted(shuffled, key=lambda name: -len(members[name])):
        min(folds, key=len).extend(members[name])
    place = {name: str(number) for number, ids in enumerate(folds, start=1) for name in ids}
    return leave_one_out(rows, lambda row: place[row.id], group=group)


def published_split(rows: Sequence[Utterance]) -> Fold:
    """The fold `official` of the parts that rows name as their `split`; those without one are in none.

    Raises InputError where a part has no row.
    """
    parts = {name: [row for row in rows if row.split == name] for name in ("train", "valid", "test")}
    if empty := [name for name, part in parts.items() if not part]:
        raise InputError(f"protocol official needs rows of each part, there are none of {', '.join(empty)}")
    return fold("official", parts["train"], parts["valid"], parts["test"])


def fold(
    name: str,
    train: Sequence[Utterance],
    valid: Sequence[Utterance],
    test: Sequence[Utterance],
    group: Group = "dialogue",
) -> Fold:
    """A fold of rows, checked: raises InputError where two parts share an utterance."""
    seen, held, tested = (tuple(row.id for row in part) for part in (train, valid, test))
    ids = [*seen, *held, *tested]
    if len(ids) != len(set(ids)):
        raise InputError(f"fold {name}: its parts share utterances")
    return Fold(name, seen, held, tested, group)
