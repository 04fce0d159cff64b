"""Which rows a command asks for, and what the cache holds of them. A catalogue asks the store; it decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

from pipeline.cache import keys
from pipeline.cache.record import FITS, Record, Ref
from pipeline.cache.shards import cut
from pipeline.cache.store import Store
from pipeline.corpus.corpus import Wanted
from pipeline.corpus.fit_scope import Scope
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.recipe import Node
from pipeline.dialogue import Context, Dialogues
from pipeline.media import audio, video
from pipeline.plan.by_utterance import Digests, Rows
from pipeline.plan.jobs import Stored
from pipeline.reader import Label
from pipeline.stage import ID, Target
from pipeline.utterance import Utterance

Inputs = Sequence[Mapping[str, str | None]]
"""For each input of a stage, the digest of the raw input or the key of the upstream row, by utterance."""


NOTHING_SAID = Record(stage="", key="", object="", suffix=".parquet", size=0)
"""Kept in place of the many records that say nothing of their rows."""


@dataclass(frozen=True)
class Shard:
    """Rows that are stored together. row_keys: the key of each row of the stage, by utterance."""

    rows: tuple[Utterance, ...]
    row_keys: Mapping[str, str]
    key: str

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its rows."""
        return tuple([self.row_keys[row.id] for row in self.rows])


@dataclass(frozen=True)
class Waiting:
    """The fit whose state is missing. Until it has been made, the rows that depend on it have no keys."""

    node: Node
    scope: Scope


class Catalogue:
    """Every stage that is asked for, and every stage below it, each on the rows of its scopes.

    wanted: the stages asked for, each with the scope whose rows it is for, None for all rows.
    """

    def __init__(
        self, manifest: Manifest, store: Store, target: Target, labels: Mapping[str, Label], wanted: Iterable[Wanted]
    ) -> None:
        self.manifest, self.store, self.target, self.labels = manifest, store, target, labels
        self.rows = Rows(manifest.rows)
        self.wanted: dict[Wanted, Set[str]] = {}
        for node, scope in wanted:
            self._want(node, scope, list(self.rows) if scope is None else list(scope.apply))
        self._raw: dict[tuple[str, Context | None], Mapping[str, str | None]] = {}
        self._stages: dict[Wanted, StageRows] = {}
        self.refresh()

    def __iter__(self) -> Iterator[StageRows]:
        return (self.of(node, scope) for node, scope in self.wanted)

    def of(self, node: Node, scope: Scope | None = None) -> StageRows:
        """A stage on the rows of a scope. A stage that depends on no fit is the same in every scope."""
        wanted = (node, scope if node.scoped else None)
        if wanted not in self._stages:
            self._stages[wanted] = StageRows(self, *wanted, self.wanted[wanted])
        return self._stages[wanted]

    def refresh(self) -> None:
        """Forgets what was read of the store, so that the next answers include what has been saved since.

        Keys that depend on no fit can't change, so they are kept.
        """
        self._stages = {wanted: rows for wanted, rows in self._stages.items() if not wanted[0].scoped}
        self._listings: dict[str, dict[str, bool]] = {}
        self._indexes: dict[str, dict[str, Ref]] = {}
        self._said: dict[str, dict[str, Record]] = {}
        self._refs: dict[tuple[str, str], Ref] = {}

    @cached_property
    def whole(self) -> list[tuple[Utterance, ...]]:
        """All rows, cut into shards."""
        return list(map(tuple, cut(self.manifest.rows)))

    def listing(self, stage: str) -> dict[str, bool]:
        """See `Store.listing`; a stage is listed once until the next `refresh`."""
        if stage not in self._listings:
            self._listings[stage] = self.store.listing(stage)
        return self._listings[stage]

    def note_final(self, record: Record) -> None:
        """Keeps the object of a final record, and what the record says of its rows, until the next `refresh`."""
        self._refs[record.stage, record.key] = record.ref
        says = record.reasons or record.remarks
        slim = replace(record, rows=(), about={}, messages={}) if says else NOTHING_SAID
        self._said.setdefault(record.stage, {})[record.key] = slim

    def said(self, stage: str, shard: str) -> Record | None:
        """What was kept of the record of a shard; None if nothing was."""
        return self._said.get(stage, {}).get(shard)

    def final_refs(self) -> list[Ref] | None:
        """The object of every shard and of every state; None if a shard has no final one, or rows wait for a fit."""
        refs: list[Ref] = []
        for rows in self:
            if rows.waiting:
                return None
            for shard in rows.shards:
                key = (rows.node.digest, shard.key)
                if key not in self._refs and not rows.final(shard):
                    return None
                refs.append(self._refs[key])
        return [*refs, *(rows.state.ref for rows in self if rows.state)]

    def index(self, stage: str) -> dict[str, Ref]:
        """The shard that holds each row, by the row's key, over all shards of a stage; rows with a transient reason
        are left out."""
        if stage not in self._indexes:
            index: dict[str, Ref] = {}
            for shard in self.listing(stage):
                if record := self.store.find(stage, shard):
                    index.update(dict.fromkeys(record.rows, record.ref))
            self._indexes[stage] = index
        return self._indexes[stage]

    @cached_property
    def dialogues(self) -> Dialogues:
        """The dialogues of the manifest."""
        return Dialogues(self.manifest.rows)

    def before(self, rows: Iterable[Utterance], nodes: Iterable[Node]) -> dict[str, tuple[Utterance, ...]]:
        """The turns before each row, as many as the stage needs that reads most of them; none if no stage reads any."""
        counts = [node.stage.dialogue.turns for node in nodes if node.stage.dialogue]
        return {row.id: self.dialogues.before(row.id, max(counts)) for row in rows} if counts else {}

    def raw(self, kind: str, context: Context | None = None) -> Mapping[str, str | None]:
        """The digest of each utterance's "text", "dialogue", "audio", "video" or "id"; None where it has none.

        context: what is read of a dialogue.
        """
        if (kind, context) not in self._raw:
            digests = self._dialogue_digests(context) if context else _raw_digests(kind, self.manifest.rows)
            self._raw[kind, context] = Digests(self.rows.numbers, digests)
        return self._raw[kind, context]

    def _dialogue_digests(self, context: Context) -> Iterator[str | None]:
        turns = {row.id: keys.turn_digest(row, context) for row in self.manifest.rows}
        for row in self.manifest.rows:
            seen = (*self.dialogues.before(row.id, context.turns), row)
            absent = keys.text_digest(row) is None
            yield None if absent else keys.dialogue_digest([turns[turn.id] for turn in seen])

    def _want(self, node: Node, scope: Scope | None, ids: Sequence[str]) -> None:
        wanted = (node, scope if node.scoped else None)
        self.wanted[wanted] = self.wanted.get(wanted, frozenset()) | set(ids) if wanted[1] else self.rows.keys()
        learned = [*scope.train, *scope.valid] if scope and node.stage.fitted else []
        for upstream in node.upstream:
            self._want(upstream, scope, [*ids, *learned])


def _raw_digests(kind: str, rows: Iterable[Utterance]) -> Iterator[str | None]:
    if kind == ID:
        return map(keys.id_digest, rows)
    if kind == "text":
        return map(keys.text_digest, rows)
    if kind == "audio":
        return (keys.audio_digest(row.audio, audio.VERSION) for row in rows)
    return (keys.video_digest(row.video, video.VERSION) for row in rows)


class StageRows:
    """One stage on the rows of one scope: their keys, their shards, and the state they are computed with.

    While `waiting` names a missing fit there are neither keys nor shards.
    """

    def __init__(self, catalogue: Catalogue, node: Node, scope: Scope | None, ids: Set[str]) -> None:
        self._catalogue, self.node, self.scope, self.ids = catalogue, node, scope, ids

    @cached_property
    def upstream(self) -> tuple[StageRows, ...]:
        """The stages that this one reads."""
        return tuple(self._catalogue.of(node, self.scope) for node in self.node.upstream)

    @cached_property
    def waiting(self) -> Waiting | None:
        """The first fit that is missing, of this stage or of one upstream."""
        upstream = next((rows.waiting for rows in self.upstream if rows.waiting), None)
        if upstream or not self.node.stage.fitted or self.state is not None:
            return upstream
        assert self.scope is not None, "a fitted stage is always wanted in a scope"
        return Waiting(self.node, self.scope)

    @cached_property
    def state_key(self) -> str | None:
        """What the stage's own state is found by; None while a fit upstream is missing, and for a stage without one."""
        scope = self.scope
        if scope is None or not self.node.stage.fitted or any(rows.waiting for rows in self.upstream):
            return None
        labels = self._catalogue.labels
        train, valid = (
            [(i, keys.digest([row[i] for row in self._inputs]), labels[i]) for i in part]
            for part in (scope.train, scope.valid)
        )
        target = self._catalogue.target
        return keys.state_key(self.node.digest, (target.task, target.classes), train, valid)

    @cached_property
    def state(self) -> Record | None:
        """The record of the stage's own fitted state, which tells whom it learned from; None while it is missing."""
        return self._catalogue.store.find(self.node.digest + FITS, self.state_key) if self.state_key else None

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """The key of each row by utterance."""
        if self.waiting:
            return {}
        state, inputs = self.state.object if self.state else None, self._inputs
        numbers = self._catalogue.rows.numbers if self._everyone else {i: n for n, i in enumerate(self.ids)}
        return Digests(numbers, (keys.row_key(self.node.digest, state, [row[i] for row in inputs]) for i in numbers))

    @cached_property
    def shards(self) -> list[Shard]:
        """The rows as they are cut into shards."""
        if self.waiting:
            return []
        if self._everyone:
            return list(map(self._shard, self._catalogue.whole))
        mine = [row for row in self._catalogue.manifest.rows if row.id in self.ids]
        return [self._shard(tuple(piece)) for piece in cut(mine)]

    @property
    def _everyone(self) -> bool:
        return len(self.ids) == len(self._catalogue.rows)

    @cached_property
    def _inputs(self) -> Inputs:
        stages = {rows.node: rows for rows in self.upstream}
        return [
            stages[source].keys
            if isinstance(source, Node)
            else self._catalogue.raw(source, self.node.stage.dialogue if source == "dialogue" else None)
            for source in self.node.inputs
        ]

    def _shard(self, rows: tuple[Utterance, ...]) -> Shard:
        ids = [row.id for row in rows]
        return Shard(rows, self.keys, keys.shard_key(ids, [self.keys[i] for i in ids]))

    def final(self, shard: Shard) -> Record | None:
        """The record of a shard without transient reasons; None while there is none."""
        listed = self._catalogue.listing(self.node.digest).get(shard.key)
        record = self._catalogue.store.final(self.node.digest, shard.key) if listed else None
        if record is not None:
            self._catalogue.note_final(record)
        return record

    def record(self, shard: Shard) -> Record | None:
        """The record of a shard, final or provisional; None while there is none."""
        return self._catalogue.store.find(self.node.digest, shard.key)

    def said(self, shard: Shard) -> Record | None:
        """What the record of a shard says of its rows: reasons and remarks alone, if the shard was final when it was
        last looked for; else all of its record, or None while there is none."""
        return self._catalogue.said(self.node.digest, shard.key) or self.record(shard)

    def copies(self, shard: Shard) -> dict[str, Ref]:
        """The rows of `shard` that some cached shard of this stage holds already, by row key."""
        index = self._catalogue.index(self.node.digest)
        return {key: index[key] for key in shard.keys if key in index}

    def stored(self, ids: Sequence[str]) -> Stored | None:
        """Where the rows of some utterances are stored; None while one of their shards is missing."""
        needed = set(ids)
        touched = [shard for shard in self.shards if any(row.id in needed for row in shard.rows)]
        listing = self._catalogue.listing(self.node.digest)
        records = [self.record(shard) if shard.key in listing else None for shard in touched]
        refs = tuple(record.ref for record in records if record is not None)
        if self.waiting or len(refs) < len(touched):
            return None
        return Stored(refs, {i: self.keys[i] for i in ids})
