"""What the steps of aligned features are: when they were, and which word was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.states import load_state
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe import Align, Node
from pipeline.plan.catalogue import Catalogue
from pipeline.reader import Fold
from pipeline.stage import Modality, State, Track
from pipeline.utterance import Utterance
from pipeline.views.align import kept_steps
from pipeline.views.build_view import tracks


@dataclass(frozen=True)
class StepMarks:
    """Of the aligned steps of an utterance that are no padding.

    times_s: the centre of each step in seconds from the start of the utterance, None for steps without a time. words:
    of each step, "" if it goes on with the word before; None for steps that are no words.
    """

    times_s: NDArray[np.float32] | None = None
    words: Sequence[str] | None = None


def step_marks(
    corpus: Corpus, catalogue: Catalogue, features: str, fold: Fold | None, ids: Sequence[str]
) -> dict[Modality, dict[str, StepMarks]]:
    """modality -> utterance -> its steps, as the first stage of the modality has them.

    Raises InputError if the features are not extracted.
    """
    rows = {row.id: row for row in corpus.manifest.rows}
    marks: dict[Modality, dict[str, StepMarks]] = {}
    for modality, selection in corpus.recipe.features[features].items():
        align, found = tracks(corpus, catalogue, selection, fold, ids)
        node = selection.parts[0]
        said = {i: _words(corpus, catalogue, node, fold, rows[i]) for i in found} if modality == "text" else {}
        marks[modality] = {i: _marks(said.get(i), track, align) for i, track in found.items()}
    return marks


def _marks(words: Sequence[str] | None, track: Track, align: Align) -> StepMarks:
    if track.values is None or align.mode == "broadcast":  # one vector for the whole utterance
        return StepMarks()
    kept = kept_steps(len(track.values), align)
    exact = words is not None and len(words) == len(track.values)
    times_s = None if track.time_s is None else track.time_s[kept]
    return StepMarks(times_s, [words[i] for i in kept] if words is not None and exact else None)


def _words(corpus: Corpus, catalogue: Catalogue, node: Node, fold: Fold | None, row: Utterance) -> Sequence[str] | None:
    """The words of the stage, or of the one that it reads step by step."""
    state = _state(corpus, catalogue, node, fold, row.id) if node.stage.fitted else None
    words = node.stage.words(row.text, state) if row.text else None
    upstream = (_words(corpus, catalogue, other, fold, row) for other in node.upstream)
    return words if words is not None else next((found for found in upstream if found is not None), None)


def _state(corpus: Corpus, catalogue: Catalogue, node: Node, fold: Fold | None, utterance: str) -> State | None:
    """The fitted state that an utterance gets its features by in a fold; None if it is missing."""
    scopes = (scope for scope in corpus.scopes[fold.name] if utterance in scope.apply) if fold else ()
    records = (catalogue.of(node, scope).state for scope in scopes)
    record = next((record for record in records if record is not None), None)
    return load_state(catalogue.store.open(record)) if record else None
