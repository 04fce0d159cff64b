"""Generations: which rows of a stage are the same rows although other versions of its libraries computed them.

Values decide, not version strings. The first rows of a stage found a generation: their digest holds the exact versions
of its libraries. Whoever comes with other versions runs the built-in sample once and compares it with the generation's
reference. If all values agree within the stage's tolerance, rows of this generation are read and computed here; else
the versions here found a generation of their own, and the two are never mixed.

What cannot be compared, without the weights or without a library, is taken as it is, and said; no row is computed under
it. A lock's generations are always taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.cache import keys
from pipeline.cache.atomic import where_writable
from pipeline.cache.memo import Memo
from pipeline.cache.store import Store
from pipeline.cache.weights import first_line
from pipeline.console import print_line
from pipeline.corpus.recipe import Node, Recipe, Selection
from pipeline.plan.references import Reference, references

MEMORY = "comparisons.sqlite"
"""The file of a cache in which comparisons are remembered."""


@dataclass(frozen=True)
class Comparison:
    """The sample under the installed libraries, beside a reference.

    difference: the largest, relative to the larger of 1 and the value; None if the two differ in more than values.
    tolerance: the stage's. place: where the difference is, or what else differs.
    """

    difference: float | None
    tolerance: float
    place: str

    @property
    def same(self) -> bool:
        """True if both are values of one generation."""
        return self.difference is not None and self.difference <= self.tolerance


Compare = Callable[[Reference, Store], Comparison]
"""Runs the sample and compares it with a reference. Raises any error if it cannot."""


@dataclass(frozen=True)
class Verdict:
    """What became of a generation that other versions founded, as far as a person has to know it.

    node: the stage as those versions founded it. here: the installed versions. comparison: None if there was none, and
    `why` says why not.
    """

    node: Node
    here: Mapping[str, str]
    comparison: Comparison | None = None
    why: str = ""

    @property
    def libraries(self) -> dict[str, tuple[str, str]]:
        """The version of the generation and the one installed here, of each library in which they differ."""
        return {name: (was, self.here[name]) for name, was in self.node.founding.items() if was != self.here[name]}

    @property
    def line(self) -> str:
        """The verdict in one line."""
        changes = " and ".join(f"{name} {was} -> {now}" for name, (was, now) in self.libraries.items())
        if self.comparison is None:
            return (
                f"{changes}: not compared, since {self.why}. The rows of {self.node.name} are taken as they are, and "
                "none is computed here"
            )
        if self.comparison.same:
            return f"{changes}: {self.node.name} stays the same"
        moves = "moves" if len(self.libraries) == 1 else "move"
        moved, tolerance = self.comparison.difference, self.comparison.tolerance
        by = "" if moved is None else f" by {moved:.2g}, above {tolerance:g}"
        return f"{changes} {moves} {self.node.name}{by} ({self.comparison.place}): its rows are computed anew"

    def answer(self) -> dict[str, Any]:
        """The verdict as JSON-able data."""
        comparison = asdict(self.comparison) if self.comparison else None
        return {
            "stage": self.node.name,
            "libraries": {name: list(versions) for name, versions in self.libraries.items()},
            "same": self.comparison.same if self.comparison else None,
            "comparison": comparison,
            "line": self.line,
        }


def resolved(
    recipe: Recipe, store: Store, compare: Compare | None = None, locked: bool = False
) -> tuple[Recipe, tuple[Verdict, ...]]:
    """The recipe with each stage in the generation that the installed libraries work in, and what is to be said of it.

    compare: None if nothing can be compared. locked: every generation in the store is the lock's, and is taken.
    """
    resolver = _Resolver(store, compare, locked)
    features = {
        name: {
            modality: Selection(tuple(map(resolver.node, selection.parts)), selection.align)
            for modality, selection in selections.items()
        }
        for name, selections in recipe.features.items()
    }
    return replace(recipe, features=features), tuple(resolver.verdicts)


@dataclass
class _Resolver:
    store: Store
    compare: Compare | None
    locked: bool
    verdicts: list[Verdict] = field(default_factory=list)
    done: dict[str, Node] = field(default_factory=dict)
    compared: dict[str, Comparison] = field(default_factory=dict)

    def node(self, read: Node) -> Node:
        """The stage in its generation, and those below it in theirs."""
        if read.digest not in self.done:
            inputs = tuple(self.node(source) if isinstance(source, Node) else source for source in read.inputs)
            here = Node.of(read.name, read.stage, read.params, inputs, written=read.written)
            self.done[read.digest] = self._chosen(here, references(here, self.store))
        return self.done[read.digest]

    def _chosen(self, here: Node, found: Sequence[Reference]) -> Node:
        """The first generation that agrees: of those that this cache has rows of, then of all, the one that the
        installed versions founded, then the oldest. What cannot be compared is taken if this cache has rows of it, or
        if no other agrees; else the installed versions found a generation."""
        if all(reference.node == here for reference in found):
            return here
        if self.locked:
            return min((r.node for r in found), key=lambda node: not self.store.names(node.digest), default=here)
        unsure: list[Verdict] = []
        for node, reference in self._candidates(here, found):
            if reference is None:
                return self._own(here, found)
            verdict = self._verdict(reference, here)
            if verdict.comparison is None:
                unsure.append(verdict)
            if verdict.comparison.same if verdict.comparison else self.store.names(node.digest):
                self.verdicts += unsure[-1:] if verdict.comparison is None else []
                return node
        self.verdicts += unsure[:1]
        return unsure[0].node if unsure else self._own(here, found)

    def _candidates(self, here: Node, found: Sequence[Reference]) -> list[tuple[Node, Reference | None]]:
        """The generations in the order in which they are tried; that of the installed versions without a reference."""
        others: list[tuple[Node, Reference | None]] = [(r.node, r) for r in found if r.node != here]
        own = len(others) < len(found) or self.store.names(here.digest)
        every = [(here, None), *others] if own else others
        return sorted(every, key=lambda candidate: not self.store.names(candidate[0].digest))

    def _own(self, here: Node, found: Sequence[Reference]) -> Node:
        """The generation of the installed versions, once it is said which others are known to differ."""
        others = (Verdict(r.node, here.founding, self._remembered(_key(r, here))) for r in found if r.node != here)
        self.verdicts += [verdict for verdict in others if verdict.comparison and not verdict.comparison.same]
        return here

    def _verdict(self, reference: Reference, here: Node) -> Verdict:
        """How the installed versions stand to a generation, remembered or found out now."""
        verdict, key = (
            Verdict(reference.node, here.founding, why="this command compares nothing"),
            _key(reference, here),
        )
        if (remembered := self._remembered(key)) is not None:
            return replace(verdict, comparison=remembered, why="")
        if self.compare is None:
            return verdict
        print_line(f"{_made(verdict)}: comparing a sample")
        try:
            comparison = self.compare(reference, self.store)
        except Exception as error:  # libraries and weights of any kind may be missing in any way
            return replace(verdict, why=first_line(error))
        self.compared[key] = comparison
        with where_writable():
            self.store.adopt(reference.record)  # so that it is known without the remote too
        self._memo.put({key: json.dumps(asdict(comparison))})
        return replace(verdict, comparison=comparison, why="")

    def _remembered(self, key: str) -> Comparison | None:
        return self.compared.get(key) or _unpacked(self._memo.get([key]).get(key))

    @property
    def _memo(self) -> Memo:
        return Memo(self.store.root / MEMORY)


def _made(verdict: Verdict) -> str:
    libraries = verdict.libraries.items()
    now, was = (", ".join(f"{name} {versions[i]}" for name, versions in libraries) for i in (1, 0))
    return f"{now} {'is' if len(libraries) == 1 else 'are'} installed, rows of {verdict.node.name} were made with {was}"


def _key(reference: Reference, here: Node) -> str:
    """What a comparison is remembered by: the reference, and the versions installed here that compute the sample."""
    versions = [keys.installed(node.stage) for node in here.walk()]
    return keys.digest("comparison", reference.record.key, reference.record.object, versions)


def _unpacked(note: str | None) -> Comparison | None:
    """None for a note that is missing or damaged."""
    try:
        return Comparison(**json.loads(note or ""))
    except (ValueError, TypeError):
        return None
