"""Builds what a model trains on: for each modality of a feature set and fold, one aligned column from the shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from pipeline.cache import keys, shards
from pipeline.cache.record import Record
from pipeline.cache.store import Store
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.fit_scope import Scope
from pipeline.corpus.locked_store import LockedStore
from pipeline.corpus.recipe import Align, Node, Selection
from pipeline.errors import InputError
from pipeline.plan.catalogue import Catalogue, Shard, StageRows
from pipeline.reader import Fold
from pipeline.reason import Reason
from pipeline.stage import Modality, Track
from pipeline.utterance import Utterance
from pipeline.views.align import auto_length
from pipeline.views.view import used, write_column


@dataclass(frozen=True)
class Part:
    """The rows of one stage in one fold: where each utterance's row stands, and what marks it beside its key.

    states: shard key -> the object of the state that its rows are of, None for a stage without a fit. records: shard
    key -> the record of the shard.
    """

    node: Node
    keys: dict[str, str]
    shards: list[Shard]
    marks: dict[str, str]
    states: dict[str, str | None]
    records: dict[str, Record]

    def name(self, utterance: str) -> str:
        """What enters the view's key: the row's key, marked where the row has no values, so that a later repair makes
        another view, and under a lock by the object that holds it."""
        return self.keys[utterance] + self.marks.get(utterance, "")


def columns(corpus: Corpus, catalogue: Catalogue, features: str, fold: Fold | None, home: Path) -> dict[Modality, Path]:
    """The directory of each modality's column, written where it is missing.

    Raises InputError where features are not extracted yet, where a fit saw a test row of the fold or a row of another
    scope, and where a shard is of another state than that of its scope.
    """
    selections = corpus.recipe.features[features]
    return {m: _column(corpus, catalogue, selection, fold, home) for m, selection in selections.items()}


def names(corpus: Corpus, catalogue: Catalogue, features: str, fold: Fold | None) -> dict[Modality, str]:
    """The name of each modality's directory in `columns`, which holds all that decides the values; nothing is written.

    Raises InputError as `columns` does.
    """
    selections = corpus.recipe.features[features]
    return {m: _planned(corpus, catalogue, selection, fold)[2] for m, selection in selections.items()}


def every(corpus: Corpus, catalogue: Catalogue, only: Sequence[str], home: Path) -> dict[str, Any]:
    """Feature set -> fold -> modality -> directory of its column, for all feature sets or those in `only`.

    A feature set that stands on no fit and has its lengths given is the same in every fold: its one fold is `all`.
    """
    found = {}
    for name, selections in corpus.recipe.features.items():
        if only and name not in only:
            continue
        needs_fold = any(s.align.length == "auto" or any(node.scoped for node in s.parts) for s in selections.values())
        folds: Sequence[Fold | None] = corpus.folds if needs_fold else [None]
        made = {fold.name if fold else "all": columns(corpus, catalogue, name, fold, home) for fold in folds}
        found[name] = {fold: {m: str(path) for m, path in paths.items()} for fold, paths in made.items()}
    return found


def _column(corpus: Corpus, catalogue: Catalogue, selection: Selection, fold: Fold | None, home: Path) -> Path:
    parts, to, key = _planned(corpus, catalogue, selection, fold)
    path, rows = home / "views" / key, corpus.manifest.rows
    if not used(path):
        dims, called, dtype = _about(catalogue.store, parts)
        write_column(path, _tracks(catalogue.store, parts, rows), len(rows), to, sum(dims), names=called, dtype=dtype)
    return path


def _planned(
    corpus: Corpus, catalogue: Catalogue, selection: Selection, fold: Fold | None
) -> tuple[list[Part], Align, str]:
    """What a column is made of: the rows of its stages, how they are aligned, and the key of both."""
    parts = [_part(corpus, catalogue, node, fold) for node in selection.parts]
    length = selection.align.length
    if length == "auto":
        if fold is None:
            raise InputError('align.length = "auto" needs labelled train rows')
        length = auto_length(_steps(catalogue.store, parts[0], set(fold.train)))
    to = Align(selection.align.mode, length)
    rows = [[part.name(row.id) for row in corpus.manifest.rows] for part in parts]
    return parts, to, keys.view_key(rows, to.mode, to.length)


def _part(corpus: Corpus, catalogue: Catalogue, node: Node, fold: Fold | None) -> Part:
    scopes: Sequence[Scope | None] = corpus.scopes[fold.name] if node.scoped and fold else [None]
    part = Part(node, {}, [], {}, {}, {})
    for rows in (catalogue.of(node, scope) for scope in scopes):
        if fold is not None:
            _refuse_leaks(rows, fold)
        if rows.waiting:
            _not_extracted(node)
        for shard in rows.shards:
            _add(part, rows, shard, isinstance(catalogue.store, LockedStore))
    return part


def _add(part: Part, rows: StageRows, shard: Shard, locked: bool) -> None:
    """Adds the rows of a shard that get their features from this scope."""
    record = rows.record(shard) or _not_extracted(rows.node)
    applied = set(rows.scope.apply) if rows.scope else rows.ids
    mine = {row.id: key for row, key in zip(shard.rows, shard.keys, strict=True) if row.id in applied}
    part.keys.update(mine)
    if locked:
        part.marks.update(dict.fromkeys(mine, record.object))
    part.marks.update({i: "~" for i, reason in record.reasons.items() if i in mine and Reason(reason).failed})
    part.shards.append(shard)
    part.states[shard.key] = rows.state.object if rows.state else None
    part.records[shard.key] = record


def _not_extracted(node: Node) -> NoReturn:
    raise InputError(f"{node.name} is not extracted for all rows: run `affectory extract` first")


def _refuse_leaks(rows: StageRows, fold: Fold) -> None:
    """Raises InputError if a state behind these features learned, by its own record, from a test row of the fold or
    from a row that is not of its scope."""
    for upstream in rows.upstream:
        _refuse_leaks(upstream, fold)
    node, scope, state = rows.node, rows.scope, rows.state
    if scope is None or state is None:
        return
    seen = _seen(node, state)
    leaked = seen & set(fold.test)
    if leaked:
        raise InputError(f"the state of {node.name} saw test rows of {fold.name}: {', '.join(sorted(leaked)[:5])}")
    beyond = seen - {*scope.train, *scope.valid}
    if beyond:
        raise InputError(f"the state of {node.name} saw rows beyond {scope.name}: {', '.join(sorted(beyond)[:5])}")


def _seen(node: Node, record: Record) -> set[str]:
    """Who a state learned from; a record that does not say is refused, since it may come from another machine."""
    parts = [record.about.get(part) for part in ("train", "valid")]
    if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in parts):
        raise InputError(f"the record of the state of {node.name} does not say which rows it saw: fit it again")
    return {name for part in parts for name in part or ()}


def _steps(store: Store, part: Part, train: set[str]) -> list[int]:
    found = []
    for shard in part.shards:
        table = _table(store, part, shard, ["utterance", "frames"])
        pairs = zip(table["utterance"].to_pylist(), table["frames"].to_pylist(), strict=True)
        found += [frames for name, frames in pairs if name in train and frames]
    return found


def _about(store: Store, parts: Sequence[Part]) -> tuple[list[int], list[str], str]:
    found = []
    for part in parts:
        found.append(shards.about(_table(store, part, part.shards[0], ["utterance"])))
    names = [f"{p.node.name}.{name}" for p, about in zip(parts, found, strict=True) for name in about["names"]]
    dtype = "float32" if any(about["dtype"] == "float32" for about in found) else "float16"
    return [about["dim"] for about in found], names, dtype


def _tracks(store: Store, parts: Sequence[Part], rows: Sequence[Utterance]) -> Iterator[tuple[int, Track | None]]:
    index = {row.id: i for i, row in enumerate(rows)}
    others = [_Lookup(store, part) for part in parts[1:]]
    first = parts[0]
    for shard in first.shards:
        for name, key, track in _read(store, first, shard):
            if first.keys.get(name) == key:
                yield index[name], _concatenated([track, *(other[name] for other in others)], name)


def _concatenated(tracks: Sequence[Track], name: str) -> Track | None:
    """[T, D1], [T, D2] -> [T, D1 + D2]; tracks on one grid differ by a step at most, the longer loses it."""
    if any(track.values is None for track in tracks):
        return None
    lengths = [len(track.values) for track in tracks if track.values is not None]
    if max(lengths) - min(lengths) > 1:
        raise InputError(f"{name}: concatenated stages have {lengths} steps; give them the same rate_hz")
    steps = min(lengths)
    values = np.concatenate([t.values[:steps] for t in tracks if t.values is not None], axis=1)
    valid = np.all([t.valid[:steps] for t in tracks if t.valid is not None], axis=0)
    return Track.of(values, valid=valid)


def _read(store: Store, part: Part, shard: Shard) -> Iterator[tuple[str, str, Track]]:
    return shards.read(_table(store, part, shard))


def _table(store: Store, part: Part, shard: Shard, columns: list[str] | None = None) -> pa.Table:
    """A shard, or some of its columns. Raises InputError where it says that it is of another state than its scope's."""
    table = shards.open_table(store.open(part.records[shard.key]), columns)
    said, expected = shards.about(table)["recipe"].get("state"), part.states[shard.key]
    if said != expected:
        raise InputError(
            f"a shard of {part.node.name} is of another state than the others of its fold: {said}, expected {expected}"
        )
    return table


class _Lookup:
    """Tracks of a part by utterance, one shard in memory at a time."""

    def __init__(self, store: Store, part: Part) -> None:
        self._store, self._part = store, part
        self._place = {
            row.id: shard
            for shard in part.shards
            for row, key in zip(shard.rows, shard.keys, strict=True)
            if part.keys.get(row.id) == key
        }
        self._held: tuple[str, dict[str, Track]] = ("", {})

    def __getitem__(self, name: str) -> Track:
        shard = self._place[name]
        if self._held[0] != shard.key:
            tracks = {found: track for found, _, track in _read(self._store, self._part, shard)}
            self._held = (shard.key, tracks)
        return self._held[1][name]
