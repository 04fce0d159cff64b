"""Compares a corpus with what its reader says of the published one: its counts, and notes on single utterances.

A copy with other counts is reported, and not refused. A count is named by a class, by a part of the official split
(`test`), or by a class in a part (`test/hap`). A note is an annotation: `windowed_s` is the annotated length, in
seconds, of a clip that is used in part, and `known` is a reported fault with its source.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipeline.corpus.corpus import Corpus
from pipeline.errors import InputError
from pipeline.reader import PARTS, Fold, Label
from pipeline.stage import Target
from pipeline.utterance import Utterance

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Count:
    """The number of labelled utterances of a class or a part: in the published corpus, and in this one."""

    name: str
    expected: int
    found: int

    @property
    def difference(self) -> int:
        """Above 0 if this copy has more."""
        return self.found - self.expected


def compared(corpus: Corpus) -> list[Count]:
    """Every count that the reader states for the recipe's label protocol, with the count of this corpus.

    A part without rows counts 0. Parts are left out if no row is known to be in one, as under a protocol other than the
    published split, and nothing is compared under a limit.
    """
    if corpus.whole:
        return []
    stated = corpus.recipe.reader.expected.get(corpus.recipe.label_protocol, {})
    if not stated:
        return []
    counts = _counts(corpus)
    split = any(part in counts for part in PARTS)
    known = {name: count for name, count in stated.items() if split or name.partition("/")[0] not in PARTS}
    return [Count(name, count, counts[name]) for name, count in known.items()]


def differing(corpus: Corpus) -> list[Count]:
    """The counts that are not as published; each is logged as a warning."""
    counts = [count for count in compared(corpus) if count.difference]
    for count in counts:
        log.warning("%s: %d utterances, the published corpus has %d", count.name, count.found, count.expected)
    return counts


def _counts(corpus: Corpus) -> Counter[str]:
    parts = _parts(corpus)
    counts: Counter[str] = Counter()
    for utterance, label in corpus.labels.items():
        within = list(classes(label, corpus.target))
        counts.update(within)
        if part := parts.get(utterance):
            counts.update([part, *(f"{part}/{name}" for name in within)])
    return counts


def _parts(corpus: Corpus) -> Mapping[str, str]:
    """The part of each utterance in the official split; under another protocol, the part that its row names."""
    folds: Sequence[Fold] = ()
    if corpus.protocol == "official":
        with suppress(InputError):  # a copy that cannot be split can still be counted
            folds = corpus.folds
    if len(folds) == 1:
        return {name: part for part in PARTS for name in getattr(folds[0], part)}
    return {row.id: row.split for row in corpus.manifest.rows if row.split}


def classes(label: Label, target: Target) -> Iterator[str]:
    """The classes of a label: one, those that are on of a multilabel one, none of a regression."""
    if target.task == "regression":
        return
    if isinstance(label, tuple):
        yield from (name for name, on in zip(target.classes, label, strict=True) if on)
    else:
        yield target.classes[int(label)]


# --- notes ---------------------------------------------------------------------------------------------------


def notes(rows: Iterable[Utterance]) -> Iterator[tuple[str, str]]:
    """The id and the note of every utterance that has one."""
    for row in rows:
        length_s, known = row.labels.get("windowed_s"), row.labels.get("known")
        texts = [f"used in part, annotated {float(length_s):.1f} s"] if length_s is not None else []
        texts += [str(known)] if known is not None else []
        if texts:
            yield row.id, "; ".join(texts)


def note_line(rows: Iterable[Utterance]) -> str:
    """One line for a person, which counts the notes; "" if there are none."""
    texts = [text for _, text in notes(rows)]
    windowed = sum(text.startswith("used in part") for text in texts)
    return f"{len(texts):,} clips have notes, {windowed:,} are used in part: the report lists them." if texts else ""
