"""Which utterances a report shows: surely wrong predictions, failures, and a few of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.corpus.corpus import Corpus
from pipeline.report.corpus_section import label_text
from pipeline.report.guesses import Guesses

MOST_WRONG, MOST_FAILED, OF_CLASS, MOST_CLASSES = 4, 6, 2, 8
"""How many utterances are shown: of each model, that failed, of each class, and of how many classes."""


@dataclass(frozen=True)
class Group:
    """Utterances that are shown for one reason."""

    title: str
    utterances: Sequence[str]


def groups(corpus: Corpus, models: Sequence[Guesses], failed: Iterable[Mapping[str, Any]]) -> list[Group]:
    """The utterances to show, each once. failed: the entries of `pipeline.ask.failures`."""
    found: list[Group] = []
    shown: set[str] = set()
    for title, names in _candidates(corpus, models, failed):
        group = Group(title, [name for name in names if name not in shown])
        shown.update(group.utterances)
        found += [group] if group.utterances else []
    return found


def _candidates(
    corpus: Corpus, models: Sequence[Guesses], failed: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[str, list[str]]]:
    wrong = "furthest off by" if corpus.target.task == "regression" else "most surely wrong by"
    taken: set[str] = set()
    for model in models:
        names = [name for name in model.most_wrong() if name not in taken][:MOST_WRONG]
        taken.update(names)
        yield f"Test rows {wrong} {model.name}", names
    yield "Failed", _failed(failed)
    for name, utterances in _by_class(corpus).items():
        yield f"Some of {name}", utterances


def _failed(failed: Iterable[Mapping[str, Any]]) -> list[str]:
    """Failed utterances, first one of each stage and reason."""
    by_kind: dict[tuple[str, str], list[str]] = {}
    for entry in failed:
        by_kind.setdefault((entry["stage"], entry["reason"]), []).append(entry["utterance"])
    firsts = [names[0] for names in by_kind.values()]
    return list(dict.fromkeys([*firsts, *(name for names in by_kind.values() for name in names[1:])]))[:MOST_FAILED]


def _by_class(corpus: Corpus) -> dict[str, list[str]]:
    """Utterances of each class, spread over the corpus; of test rows, of which there are predictions, if it has any."""
    tested = {name for fold in corpus.folds for name in fold.test}
    rows = [row.id for row in corpus.manifest.rows if row.id in tested or not tested]
    by_class: dict[str, list[str]] = {}
    for name in rows:
        by_class.setdefault(label_text(corpus.labels.get(name), corpus.target), []).append(name)
    largest = Counter({name: len(members) for name, members in by_class.items()}).most_common(MOST_CLASSES)
    return {name: _spread(members) for name, members in by_class.items() if name in dict(largest)}


def _spread(names: Sequence[str]) -> list[str]:
    middles = ((np.arange(OF_CLASS) + 0.5) * len(names) / OF_CLASS).astype(int)
    return [names[i] for i in np.unique(middles).tolist()]
