"""A corpus against the counts that its reader states of the published one: a copy that lacks rows is told, not refused.

Counts go by name: a class, a part of the official split (`test`), or a class in a part (`test/hap`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipeline.corpus.corpus import Corpus
from pipeline.errors import InputError
from pipeline.reader import Fold, Label
from pipeline.stage import Target

log = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Count:
    """How many labelled utterances the published corpus has of something, and how many this one has."""

    name: str
    expected: int
    found: int

    @property
    def difference(self) -> int:
        """Above 0 where this copy has more."""
        return self.found - self.expected


def compared(corpus: Corpus) -> list[Count]:
    """Every count that the reader states for the recipe's label protocol, beside what is here.

    A part without a row counts 0. Where no row is known to be in a part, as under another protocol than the published
    split's, parts are left out.
    """
    stated = corpus.recipe.reader.expected.get(corpus.recipe.label_protocol, {})
    if not stated:
        return []
    here = _found(corpus)
    split = any(part in here for part in PARTS)
    told = {name: count for name, count in stated.items() if split or name.partition("/")[0] not in PARTS}
    return [Count(name, count, here[name]) for name, count in told.items()]


def differing(corpus: Corpus) -> list[Count]:
    """The counts that are not as published; each stands in the log as a warning."""
    found = [count for count in compared(corpus) if count.difference]
    for each in found:
        log.warning("%s: %d utterances, the published corpus has %d", each.name, each.found, each.expected)
    return found


def _found(corpus: Corpus) -> Counter[str]:
    part = _parts(corpus)
    found: Counter[str] = Counter()
    for utterance, label in corpus.labels.items():
        names = list(_classes(label, corpus.target))
        found.update(names)
        if utterance in part:
            found.update([part[utterance], *(f"{part[utterance]}/{name}" for name in names)])
    return found


def _parts(corpus: Corpus) -> Mapping[str, str]:
    """The part of each utterance in the official split; what a corpus says of itself under another protocol."""
    folds: Sequence[Fold] = ()
    if corpus.protocol == "official":
        with suppress(InputError):  # a copy that cannot be split can still be counted
            folds = corpus.folds
    if len(folds) == 1:
        return {name: part for part in PARTS for name in getattr(folds[0], part)}
    return {row.id: row.split for row in corpus.manifest.rows if row.split}


def _classes(label: Label, target: Target) -> Iterator[str]:
    if target.task == "regression":
        return
    if isinstance(label, tuple):
        yield from (name for name, on in zip(target.classes, label, strict=True) if on)
    else:
        yield target.classes[int(label)]
