"""(manifest, recipe, store) -> the jobs still to do. Pure: it reads the store's listings and writes nothing, and
imports neither Dask nor torch nor transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path

from pipeline.cache import keys
from pipeline.cache.record import Record, Ref
from pipeline.cache.shards import cut
from pipeline.cache.store import Store
from pipeline.corpus.fit_scope import Scope
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.recipe import Node
from pipeline.plan.jobs import FITS, ExtractJob, FitJob, Run, Stored
from pipeline.plan.planned import Plan
from pipeline.plan.shortfall import due, left_out
from pipeline.reader import Label
from pipeline.reason import Reason
from pipeline.stage import Target
from pipeline.utterance import Utterance

Place = tuple[Node, Scope | None]


@dataclass(frozen=True)
class Shard:
    """Rows that stand together, with their keys."""

    rows: tuple[Utterance, ...]
    keys: tuple[str, ...]
    key: str


class Planner:
    """Walks backwards from the stages asked for to what has to run.

    `places` are the stages asked for, each with the scope whose rows it is for (None for all rows). `doctored` is
    where the doctor remembers what it found in media files, if it does.
    """

    def __init__(
        self,
        manifest: Manifest,
        store: Store,
        target: Target,
        labels: Mapping[str, Label],
        places: Iterable[Place],
        doctored: Path | None = None,
    ) -> None:
        self.manifest, self.store, self.target, self.labels = manifest, store, target, labels
        self.doctored = doctored
        self.rows = {row.id: row for row in manifest.rows}
        self.wanted: dict[Place, set[str]] = {}
        for node, scope in places:
            self._want(node, scope, [row.id for row in manifest.rows] if scope is None else list(scope.apply))
        self.refresh()

    def refresh(self) -> None:
        """Forgets what was read of the store, so that the next answers see what has been saved since."""
        self._keys: dict[Place, dict[str, str] | None] = {}
        self._states: dict[Place, str | None] = {}
        self._shards: dict[Place, list[Shard] | None] = {}
        self._listings: dict[str, dict[str, bool]] = {}
        self._indexes: dict[str, dict[str, Ref]] = {}

    def plan(self) -> Plan:
        """What is to be done now. Jobs that only differ in the stage share one, so that a clip is decoded once."""
        self.refresh()
        plan = Plan()
        groups: dict[tuple[str, str], list[tuple[Node, Scope | None, Shard]]] = {}
        for node, scope in self.wanted:
            self._plan_place(plan, groups, node, scope)
        for members in groups.values():
            job = self._extract_job(members)
            if job is None:
                plan.behind.update({node: len(shard.rows) for node, _, shard in members})
            else:
                plan.jobs.append(job)
        return plan

    def shards(self, node: Node, scope: Scope | None) -> list[Shard] | None:
        """The shards that hold a stage's rows for a scope; None while a fit it depends on is missing."""
        place = (node, scope if node.scoped else None)
        if place not in self._shards:
            self._shards[place] = self._make_shards(*place)
        return self._shards[place]

    def _make_shards(self, node: Node, scope: Scope | None) -> list[Shard] | None:
        by_id = self._row_keys(node, scope)
        if by_id is None:
            return None
        wanted = self.wanted[node, scope]
        everyone = len(wanted) == len(self.manifest.rows)
        pieces = self._whole if everyone else cut([row for row in self.manifest.rows if row.id in wanted])
        return [self._shard(piece, by_id) for piece in pieces]

    @cached_property
    def _whole(self) -> list[list[Utterance]]:
        """The shards of a stage that is wanted for every row."""
        return cut(self.manifest.rows)

    def final(self, node: Node, shard: Shard) -> Record | None:
        """The record of a shard without rows that may pass; None where there is none."""
        return self.store.final(node.digest, shard.key) if self._listing(node.digest).get(shard.key) else None

    def _want(self, node: Node, scope: Scope | None, ids: Sequence[str]) -> None:
        place = (node, scope if node.scoped else None)
        everyone = [row.id for row in self.manifest.rows]
        self.wanted.setdefault(place, set()).update(ids if place[1] else everyone)
        learned = [*scope.train, *scope.valid] if scope and node.stage.fitted else []
        for upstream in node.upstream:
            self._want(upstream, scope, [*ids, *learned])

    def _plan_place(self, plan: Plan, groups: dict, node: Node, scope: Scope | None) -> None:  # type: ignore[type-arg]
        shards = self.shards(node, scope)
        if shards is None:
            plan.behind[node] += len(self.wanted[node, scope])
            self._plan_fit(plan, node, scope)
            return
        if due(self, node, scope):
            self._plan_fit(plan, node, scope)
        for shard in shards:
            if self.final(node, shard):
                plan.there[node] += len(shard.rows)
            else:
                ids = keys.digest(scope.name if scope else None, [row.id for row in shard.rows])
                groups.setdefault((node.stage.modality, ids), []).append((node, scope, shard))

    def _plan_fit(self, plan: Plan, node: Node, scope: Scope | None) -> None:
        key = self._state_key(node, scope) if scope and node.stage.fitted else None
        if key is None or scope is None or any(isinstance(job, FitJob) and job.state == key for job in plan.jobs):
            return
        train, valid = ([self.rows[i] for i in part] for part in (scope.train, scope.valid))
        stored = {up.name: self._stored(up, scope, [*scope.train, *scope.valid]) for up in node.upstream}
        if any(s is None for s in stored.values()):
            return
        plan.jobs.append(
            FitJob(
                node,
                scope.name,
                key,
                self.target,
                self.manifest.root,
                tuple(train),
                tuple(valid),
                {row.id: self.labels[row.id] for row in (*train, *valid)},
                {name: s for name, s in stored.items() if s is not None},
                scope.held,
                left_out(self, node, scope),
            )
        )

    def _extract_job(self, members: list[tuple[Node, Scope | None, Shard]]) -> ExtractJob | None:
        ready: dict[Node, Run] = {}
        for node, scope, shard in _upstream_first(members):
            run = self._run(node, scope, shard, ready)
            if run is not None:
                ready[node] = run
        if not ready:
            return None
        modality, rows = members[0][0].stage.modality, members[0][2].rows
        unreadable = {row.id: reason for row in rows if (reason := self._unreadable.get((modality, row.id)))}
        return ExtractJob(modality, self.manifest.root, rows, tuple(ready.values()), unreadable)

    @cached_property
    def _unreadable(self) -> Mapping[tuple[str, str], Reason]:
        """By modality and utterance; read where there is work, and only then."""
        if self.doctored is None or not self.doctored.exists():
            return {}
        from pipeline.media.doctor_pool import unreadable

        return unreadable(self.manifest.rows, self.doctored)

    def _run(self, node: Node, scope: Scope | None, shard: Shard, here: Mapping[Node, Run]) -> Run | None:
        ids = [row.id for row in shard.rows]
        stored = {up.name: self._stored(up, scope, ids) for up in node.upstream}
        if any(stored[up.name] is None and up not in here for up in node.upstream):
            return None
        index = self._index(node.digest)
        copies = {key: index[key] for key in shard.keys if key in index}
        upstream = {name: s for name, s in stored.items() if s is not None}
        state = self.state_record(node, scope)
        return Run(node, shard.key, shard.keys, state and state.ref, copies, upstream)

    def _stored(self, node: Node, scope: Scope | None, ids: Sequence[str]) -> Stored | None:
        """Where rows of an upstream stage stand; None while one of their shards is missing."""
        shards = self.shards(node, scope)
        by_id = self._row_keys(node, scope if node.scoped else None)
        if shards is None or by_id is None:
            return None
        needed = set(ids)
        touched = [shard for shard in shards if any(row.id in needed for row in shard.rows)]
        listing = self._listing(node.digest)
        records = [self.store.find(node.digest, shard.key) if shard.key in listing else None for shard in touched]
        refs = tuple(record.ref for record in records if record is not None)
        return Stored(refs, {i: by_id[i] for i in ids}) if len(refs) == len(touched) else None

    def _shard(self, rows: Sequence[Utterance], by_id: Mapping[str, str]) -> Shard:
        row_keys = tuple(by_id[row.id] for row in rows)
        return Shard(tuple(rows), row_keys, keys.shard_key([row.id for row in rows], row_keys))

    def _row_keys(self, node: Node, scope: Scope | None) -> dict[str, str] | None:
        """The key of each wanted row; None while a state it depends on is missing."""
        place = (node, scope if node.scoped else None)
        if place not in self._keys:
            self._keys[place] = self._make_row_keys(*place)
        return self._keys[place]

    def _make_row_keys(self, node: Node, scope: Scope | None) -> dict[str, str] | None:
        inputs = self._inputs(node, scope)
        state = self.state_record(node, scope)
        if inputs is None or (node.stage.fitted and state is None):
            return None
        learned = state.object if state else None
        wanted = self.wanted[node, scope]
        return {i: keys.row_key(node.digest, learned, [row[i] for row in inputs]) for i in wanted}

    def _inputs(self, node: Node, scope: Scope | None) -> list[Mapping[str, str | None]] | None:
        """For each input of a stage the digest or key of each row."""
        found: list[Mapping[str, str | None]] = []
        for source in node.inputs:
            rows = self._row_keys(source, scope) if isinstance(source, Node) else self._raw(source)
            if rows is None:
                return None
            found.append(rows)
        return found

    @cache  # noqa: B019 - a planner lives as long as one command
    def _raw(self, kind: str) -> Mapping[str, str | None]:
        if kind == "text":
            return {row.id: keys.text_digest(row) for row in self.manifest.rows}
        version = import_module(f"pipeline.media.{kind}").VERSION
        if kind == "audio":
            return {row.id: keys.audio_digest(row.audio, version) for row in self.manifest.rows}
        return {row.id: keys.video_digest(row.video, version) for row in self.manifest.rows}

    def state_record(self, node: Node, scope: Scope | None) -> Record | None:
        """The record of a stage's fitted state: who it learned from, its log; None while it is missing."""
        key = self._state_key(node, scope) if node.stage.fitted else None
        return self.store.find(node.digest + FITS, key) if key else None

    def _state_key(self, node: Node, scope: Scope | None) -> str | None:
        """Looks a stage's state up; None while a state further up is missing."""
        if (node, scope) not in self._states:
            self._states[node, scope] = self._make_state_key(node, scope)
        return self._states[node, scope]

    def _make_state_key(self, node: Node, scope: Scope | None) -> str | None:
        inputs = self._inputs(node, scope)
        if inputs is None or scope is None:
            return None
        target = (self.target.task, self.target.classes)
        train, valid = (
            [(i, keys.digest([row[i] for row in inputs]), self.labels[i]) for i in part]
            for part in (scope.train, scope.valid)
        )
        return keys.state_key(node.digest, target, train, valid)

    def _listing(self, stage: str) -> dict[str, bool]:
        if stage not in self._listings:
            self._listings[stage] = self.store.listing(stage)
        return self._listings[stage]

    def _index(self, stage: str) -> dict[str, Ref]:
        """Row key -> shard that holds it, over every shard of a stage; rows with a transient reason left out."""
        if stage not in self._indexes:
            found: dict[str, Ref] = {}
            for shard in self._listing(stage):
                if record := self.store.find(stage, shard):
                    found.update(dict.fromkeys(record.rows, record.ref))
            self._indexes[stage] = found
        return self._indexes[stage]


def _upstream_first(members: list[tuple[Node, Scope | None, Shard]]) -> list[tuple[Node, Scope | None, Shard]]:
    return sorted(members, key=lambda member: _depth(member[0]))


def _depth(node: Node) -> int:
    return 1 + max((_depth(up) for up in node.upstream), default=0)
