"""What the cache and its remote hold of a recipe, in final form: what can be shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from pipeline.cache.record import Record
from pipeline.cache.weights import pinned_digest
from pipeline.corpus.fit_scope import Scope
from pipeline.corpus.recipe import Node, Recipe, nodes
from pipeline.errors import InputError, closest
from pipeline.plan.catalogue import Planner
from pipeline.plan.session import Session
from pipeline.plan.shortfall import provisional

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Held:
    """What the cache and its remote hold of a recipe: records by stage, and what is not final, in rows by stage."""

    indexes: Mapping[str, Sequence[Record]]
    incomplete: Mapping[str, int]

    def missing(self) -> str:
        """What is not final, to be read."""
        return ", ".join(f"{name} {count:,} rows" for name, count in sorted(self.incomplete.items()))


def held(session: Session, split: str = "") -> Held:
    """What is final of everything a session asks for.

    split: of the shards alone that have a row in this part of a fold. Raises InputError for an unknown part.
    """
    indexes: dict[str, list[Record]] = {}
    incomplete: Counter[str] = Counter()
    ids = _part(session, split) if split else None
    for node, scope in session.planner.wanted:
        if provisional(session.planner, node, scope):
            incomplete[node.name] += len(session.planner.wanted[node, scope])
            continue
        if node.stage.fitted and (state := session.planner.state_record(node, scope)):
            indexes.setdefault(state.stage, []).append(state)
        for rows, record in _shards(session.planner, node, scope, ids):
            if record is None:
                incomplete[node.name] += rows
            else:
                indexes.setdefault(node.digest, []).append(record)
    return Held({stage: _once(records) for stage, records in indexes.items()}, incomplete)


def _shards(
    planner: Planner, node: Node, scope: Scope | None, ids: set[str] | None
) -> Iterator[tuple[int, Record | None]]:
    """Rows and final record of each shard; while a fit is missing, all rows without one."""
    shards = planner.shards(node, scope)
    if shards is None:
        yield len(planner.wanted[node, scope]), None
    for shard in shards or ():
        if ids is None or any(row.id in ids for row in shard.rows):
            yield len(shard.rows), planner.final(node, shard)


def _part(session: Session, name: str) -> set[str]:
    if name not in PARTS:
        raise InputError(f"no split {name!r}: {closest(name, PARTS)}")
    return {i for fold in session.corpus.folds for i in getattr(fold, name)}


def _once(records: Sequence[Record]) -> list[Record]:
    return list({record.key: record for record in records}.values())


def local_weights(recipe: Recipe) -> dict[str, str]:
    """The digest of each local weights file or folder, by the name the recipe gives it."""
    found: dict[str, str] = {}
    for node in every_node(recipe):
        for f in fields(node.stage):
            name = getattr(node.stage, f.name)
            if f.metadata.get("source") and node.params[f.name] != name and not pinned_digest(name):
                found[name] = node.params[f.name]
    return found


def every_node(recipe: Recipe) -> Iterator[Node]:
    """Each stage of a recipe, those that others stand on too."""
    waiting = list(nodes(recipe))
    while waiting:
        node = waiting.pop()
        waiting += node.upstream
        yield node
