"""The contract of a reader: what a file in `manifests/` provides, and the folds that readers make in the same way."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from blake3 import blake3

from pipeline.errors import InputError, closest
from pipeline.utterance import Utterance

Task = Literal["multiclass", "multilabel", "regression"]
Label = int | float | tuple[int, ...] | tuple[float, ...]
PARTS = ("train", "valid", "test")
"""The parts of a fold."""
Group = Literal["dialogue", "session", "speaker"]
"""A field of an utterance whose values a fold does not share between test and its other parts."""


@dataclass(frozen=True)
class Labels:
    """A label protocol: the task, its classes, and `of`, which makes the label of an utterance from its annotations.

    `of` returns None for an utterance that the protocol leaves out. A multiclass label is an index into `classes`; a
    multilabel one is a tuple of 0 and 1, one for each of `classes`. For a regression, `classes` names the numbers to
    predict: a label is a number if there is at most one name, and otherwise a tuple of numbers, one for each name.
    why_not: why `of` leaves an utterance out, in a few words that many utterances share.
    """

    task: Task
    classes: tuple[str, ...]
    of: Callable[[Utterance], Label | None]
    why_not: Callable[[Utterance], str] = lambda row: "no label"


@dataclass(frozen=True)
class Fold:
    """The ids of the utterances of a train, a validation and a test part.

    The parts are disjoint, and test shares neither a dialogue nor a value of the field `group` with the other two.
    """

    name: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    group: Group = "dialogue"

    def within(self, ids: Set[str]) -> Fold:
        """The same fold without the utterances that are not among `ids`."""
        train, valid, test = (tuple(i for i in getattr(self, part) if i in ids) for part in PARTS)
        return replace(self, train=train, valid=valid, test=test)

    @property
    def digests(self) -> dict[str, str]:
        """A digest of the ids of each part, whatever their order, by which teams see that they tested the same rows."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: blake3(json.dumps(sorted(ids)).encode()).hexdigest() for name, ids in parts.items()}


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file of a release that may be downloaded by anybody.

    name: its place below the corpus root. bytes, sha256: its size and digest. git_blob: the id that git gives to the
    content of a file whose SHA-256 is not known, and of which `bytes` is the most that it may have. md5: of a file of
    which its publisher states no other digest. unpacked: an upper
    bound of the bytes that an archive unpacks to; 0 for a file that is not unpacked. nested: the file names of archives
    inside the archive, which are unpacked too, each in its own folder.
    """

    url: str
    name: str
    bytes: int
    sha256: str = ""
    git_blob: str = ""
    md5: str = ""
    unpacked: int = 0
    nested: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """What pins the content."""
        return self.sha256 or self.md5 or self.git_blob


class Reader(ABC):
    """Reads one corpus from its release on disk.

    A subclass is a frozen dataclass. Its fields are the options that a recipe's `[dataset]` may set, with defaults.
    """

    layout: ClassVar[str]
    """The files below the root that the reader reads, for the message about a root that has others."""
    obtain: ClassVar[str]
    """How to get the release, in a sentence or two."""
    licence: ClassVar[str] = ""
    """What the licence says about sharing; `push` prints it."""
    labels: ClassVar[Mapping[str, Labels]]
    """The label protocols by name."""
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    """The published counts of labelled utterances, by label protocol: of a class (`hap`), of a part of the official
    split (`test`), or of a class in a part (`test/hap`). A corpus with other counts is reported, and not refused."""
    published: ClassVar[Mapping[str, str]] = {}
    """Which published set of utterances each label protocol gives, in a sentence or two with the source."""
    downloads: ClassVar[Sequence[Download]] = ()
    """The files that `affectory fetch` downloads; none if the release has to be asked for."""

    @abstractmethod
    def scan(self, root: Path) -> list[Utterance]:
        """Every utterance of the corpus, whatever media are there. Paths are relative to the root; digests are None.

        Raises InputError, as `missing` makes it, if `root` is not this corpus, and one InputError that lists every
        malformed row.
        """

    def prepare(self, root: Path) -> None:  # noqa: B027 - optional
        """Makes the corpus at `root` if the reader can make it. For a corpus that is released this does nothing."""

    @abstractmethod
    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """The folds of a protocol, `official` or `cv`, over the rows that have a label.

        Raises InputError for another protocol, and if these rows cannot be split.
        """

    def bounds(self, rows: Sequence[Utterance]) -> Mapping[str, float]:
        """The best possible accuracies on `rows`, by modality and for `all`; only a synthetic corpus knows them."""
        return {}

    def protocol(self, name: str) -> Labels:
        """The label protocol of this name. Raises InputError, with the closest name, if there is none."""
        if name not in self.labels:
            raise InputError(f"no label protocol {name!r}: {closest(name, self.labels)}")
        return self.labels[name]

    def missing(self, root: Path) -> InputError:
        """The error for a root that is absent or holds something else."""
        return InputError(f"{root} is not this corpus.\nExpected layout:\n{self.layout}\n{self.obtain}")


def held_out(rows: Sequence[Utterance], share: float, seed: str) -> tuple[list[Utterance], list[Utterance]]:
    """Splits `rows` by dialogue into the rest and a held-out part, which has about the share `share` of the dialogues.

    The names of the dialogues and `seed` alone decide which dialogues are held out (X16); of two or more, at least one
    is.
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
    """One fold for each value of `key`, such as each session, in which the rows of this value are the test part.

    valid: the share of the other dialogues that validates; None to validate on the next value of `key` (X16). group:
    the field whose values no two values of `key` share.
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
    """One fold that tests about a fifth of the dialogues and validates on a tenth of the others.

    The names of the dialogues alone decide which.
    """
    rest, test = held_out(rows, 0.2, "test-holdout")
    train, valid = held_out(rest, 0.1, "valid-holdout")
    return fold("holdout", train, valid, test)


def in_parts(rows: Sequence[Utterance], group: Group, parts: int = 5) -> list[Fold]:
    """Cross-validation in `parts` folds of about equal size, or fewer if there are fewer groups (X16).

    group: the field whose values are not split. Raises InputError if all rows have one value.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        members[str(getattr(row, group))].append(row.id)
    if len(members) < 2:
        raise InputError("protocol cv needs at least two groups, such as sessions, speakers, videos or dialogues")
    folds: list[list[str]] = [[] for _ in range(min(parts, len(members)))]
    shuffled = random.Random("cv").sample(sorted(members), len(members))  # so that names do not order equal sizes
    for name in sorted(shuffled, key=lambda name: -len(members[name])):
        min(folds, key=len).extend(members[name])
    part = {i: str(number) for number, ids in enumerate(folds, start=1) for i in ids}
    return leave_one_out(rows, lambda row: part[row.id], group=group)


def published_split(rows: Sequence[Utterance]) -> Fold:
    """The fold `official`, whose parts are the rows' own `split`; rows without a split are in no part.

    Raises InputError if a part has no row.
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
    """The fold with these rows. Raises InputError if two parts share an utterance."""
    train_ids, valid_ids, test_ids = (tuple(row.id for row in part) for part in (train, valid, test))
    ids = [*train_ids, *valid_ids, *test_ids]
    if len(ids) != len(set(ids)):
        raise InputError(f"fold {name}: its parts share utterances")
    return Fold(name, train_ids, valid_ids, test_ids, group)
