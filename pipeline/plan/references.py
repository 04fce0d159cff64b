"""References: what a stage gave on the built-in sample, kept beside its rows, to compare other libraries with.

    actions/<family>.reference/<key>.json    the record of a shard over the rows of `pipeline.plan.sample`

Whoever first computes rows of a generation saves its reference. The record tells the founding versions of the stage's
libraries, and the fitted states that the sample went through. Its key is that of the sample's shard, so a reference of
other versions, of another sample or of other decoding code is never taken for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from pipeline.cache import keys
from pipeline.cache.record import FITS, REFERENCES, Record, Ref
from pipeline.cache.store import Store
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.recipe import Node
from pipeline.plan import sample
from pipeline.plan.catalogue import Catalogue, StageRows
from pipeline.plan.jobs import Run
from pipeline.stage import Target


@dataclass(frozen=True)
class Reference:
    """A reference in a cache or on its remote. node: the stage as the reference's versions founded it."""

    node: Node
    record: Record

    @property
    def age(self) -> tuple[str, str]:
        """Sorts references, the oldest first."""
        return str(self.record.about.get("at", "")), self.record.key

    def states(self, store: Store) -> dict[str, Record] | None:
        """The fitted states that the sample went through, by the digest of their stage; None if one is gone."""
        return _found(self.record.about.get("states", {}), store)


def references(node: Node, store: Store) -> list[Reference]:
    """The references of a stage's family that this version can compare with, the oldest first."""
    return sorted(_references(node, store), key=lambda reference: reference.age) if node.founding else []


def reference_of(node: Node, store: Store) -> Reference | None:
    """The reference of a generation; None if it has none."""
    return next((reference for reference in references(node, store) if reference.node == node), None)


def sample_runs(node: Node, states: Mapping[str, Ref]) -> list[Run]:
    """What computes a stage on the sample: the stages below it, and last the stage itself.

    states: those that fitted stages among them use, by the digest of the stage.
    """
    objects = {stage: state.object for stage, state in states.items()}
    ids = [row.id for row in sample.rows()]
    return [
        Run(each, keys.shard_key(ids, row_keys), row_keys, states.get(each.digest), {}, {})
        for each, row_keys in _row_keys(node, objects).items()
    ]


@cache
def sample_corpus() -> Catalogue:
    """The sample as a corpus of which nothing is asked: its raw inputs, and the turns before each row."""
    return Catalogue(Manifest(sample.FOLDER, sample.rows()), Store(sample.FOLDER), Target("regression", ()), {}, ())


def used_states(rows: StageRows) -> dict[str, Ref]:
    """The state that each fitted stage, this one or one below it, uses in one scope, by the digest of the stage."""
    states = {digest: ref for upstream in rows.upstream for digest, ref in used_states(upstream).items()}
    return states | ({rows.node.digest: rows.state.ref} if rows.state else {})


def _references(node: Node, store: Store) -> Iterator[Reference]:
    stage = node.family + REFERENCES
    for key in store.listing(stage):
        record = store.final(stage, key)
        if record is None:
            continue
        founded = node.founded(record.about.get("libraries", {}))
        *_, row_keys = _row_keys(founded, record.about.get("states", {})).values()
        if founded.founding.keys() == node.founding.keys() and key == keys.shard_key(_ids(), row_keys):
            yield Reference(founded, record)


def _ids() -> list[str]:
    return [row.id for row in sample.rows()]


def _row_keys(node: Node, states: Mapping[str, str]) -> dict[Node, tuple[str, ...]]:
    """The keys of the sample's rows by stage, `node` last. states: the digests of states by that of their stage."""
    by_stage: dict[Node, dict[str, str]] = {}
    for each in sorted(dict.fromkeys(node.walk()), key=lambda stage: stage.depth):
        context = each.stage.dialogue
        inputs = [
            by_stage[source]
            if isinstance(source, Node)
            else sample_corpus().raw(source, context if source == "dialogue" else None)
            for source in each.inputs
        ]
        state = states.get(each.digest)
        by_stage[each] = {i: keys.row_key(each.digest, state, [digests[i] for digests in inputs]) for i in _ids()}
    return {stage: tuple(row_keys.values()) for stage, row_keys in by_stage.items()}


def _found(objects: Mapping[str, str], store: Store) -> dict[str, Record] | None:
    states: dict[str, Record] = {}
    for stage, state in objects.items():
        records = (store.final(stage + FITS, key) for key in store.listing(stage + FITS))
        record = next((record for record in records if record and record.object == state), None)
        if record is None:
            return None
        states[stage] = record
    return states
