"""A recipe's corpus: its manifest with labels, folds, and the scopes of the fits of each fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

from pipeline.corpus.fit_scope import Scope, folds, labelled, refuse_cut_dialogues, scopes
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.recipe import Node, Recipe, every_node, nodes
from pipeline.errors import InputError
from pipeline.reader import PARTS, Fold, Label
from pipeline.stage import Target

Wanted = tuple[Node, Scope | None]
"""A stage, and the scope whose rows it is asked for: None for all rows, if the stage depends on no fit."""


@dataclass(frozen=True)
class Corpus:
    """A recipe's manifest with its labels, its folds and the scopes of their fits.

    Folds are made when they are first needed, so that a corpus without labels or splits can still be extracted.
    whole: the manifest of which this one is a part, under a limit; folds are those of the whole, cut to its rows.
    """

    recipe: Recipe
    manifest: Manifest
    protocol: str
    whole: Manifest | None = None

    @cached_property
    def target(self) -> Target:
        """The task and the classes that fits and models learn to predict."""
        return Target(self.recipe.labels.task, self.recipe.labels.classes)

    @cached_property
    def labels(self) -> Mapping[str, Label]:
        """The label of each utterance that the label protocol keeps, by id."""
        return labelled(self.manifest.rows, self.recipe.labels)

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """The folds of the protocol; none without labels. Raises InputError if the corpus has no such folds."""
        if not self.labels:
            return ()
        return tuple(self.folds_of(self.protocol))

    def folds_of(self, protocol: str) -> list[Fold]:
        """The folds of any protocol; see `pipeline.corpus.fit_scope.folds`.

        Raises InputError too if a stage of the recipe reads the dialogue and a fold cuts through one.
        """
        rows = (self.whole or self.manifest).rows
        found = folds(self.recipe.reader, rows, labelled(rows, self.recipe.labels), protocol, self.recipe.own_folds)
        if self.whole:
            ids = {row.id for row in self.manifest.rows}
            found = [fold.within(ids) for fold in found]
        reading = {node.name for node in every_node(self.recipe) if node.stage.dialogue}
        for fold in found if reading else ():
            refuse_cut_dialogues(fold, self.manifest.rows, reading)
        return found

    @cached_property
    def scopes(self) -> Mapping[str, tuple[Scope, ...]]:
        """The scopes of each fold's fits."""
        return {fold.name: tuple(scopes(fold, self.manifest.rows, self.recipe.crossfit)) for fold in self.folds}

    def under(self, protocol: str) -> Corpus:
        """The same under another protocol."""
        return Corpus(self.recipe, self.whole or self.manifest, protocol).limited()

    def limited(self) -> Corpus:
        """The same with the first `limit` dialogues of each part of each fold alone, if the recipe has a limit.

        Dialogues are whole and in the order of the manifest. Without labels, the first of the corpus are kept. A fold's
        train and validation part may have more dialogues, which are the first of another fold's part.
        """
        if not self.recipe.limit:
            return self
        dialogue = {row.id: row.dialogue for row in self.manifest.rows}
        parts = [getattr(fold, part) for fold in self.folds for part in PARTS] or [tuple(dialogue)]
        kept = {name for part in parts for name in _first(dialogue, set(part), self.recipe.limit)}
        rows = tuple(row for row in self.manifest.rows if row.dialogue in kept)
        return replace(self, manifest=replace(self.manifest, rows=rows), whole=self.manifest)

    def wanted(self, modality: str | None = None, features: Sequence[str] = ()) -> Iterator[Wanted]:
        """Every stage that is asked for, with each scope that it is needed in."""
        for node in nodes(self.recipe, modality, features):
            for scope in self.scopes_of(node):
                yield node, scope

    def scopes_of(self, node: Node) -> Sequence[Scope | None]:
        """The scopes that a stage is needed in: None alone, for all rows, if the stage depends on no fit.

        Raises InputError if it depends on a fit and the corpus has no labels.
        """
        if node.scoped and not self.folds:
            raise InputError(f"{node.name} depends on a fit, and this corpus has no labels to fit on")
        return [scope for fold in self.folds for scope in self.scopes[fold.name]] if node.scoped else [None]


def _first(dialogue: Mapping[str, str], part: Set[str], count: int) -> list[str]:
    """The first dialogues that have a row in a part, in the order of the manifest. dialogue: utterance -> dialogue."""
    return list(dict.fromkeys(name for utterance, name in dialogue.items() if utterance in part))[:count]
