"""Builds the columns of a view from shards: one aligned column for each modality of a feature set and fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from pipeline.views.view import use_column, write_column


@dataclass(frozen=True)
class FoldRows:
    """The rows of one stage in one fold.

    keys: utterance -> key of its row. shards: where the rows are. marks: utterance -> what distinguishes its row in
    addition to the key. states: shard key -> the object of the state that the shard was made with, None for a stage
    without a fit. records: shard key -> record of the shard. form: of the stage's shards, by its name.
    """

    node: Node
    keys: dict[str, str]
    shards: list[Shard]
    marks: dict[str, str]
    states: dict[str, str | None]
    records: dict[str, Record]
    form: dict[str, Any]

    def identity(self, utterance: str) -> str:
        """The part of the column's key that one row decides: the row's key and its mark.

        A row without values is marked, so that a later repair makes another column. Under a lock a row is marked with
        the object that holds it.
        """
        return self.keys[utterance] + self.marks.get(utterance, "")


def build_columns(
    corpus: Corpus, catalogue: Catalogue, features: str, fold: Fold | None, home: Path
) -> dict[Modality, Path]:
    """The directory of each modality's column. A column that does not exist yet is written.

    Raises InputError if features are not extracted yet, if a fit saw a test row of the fold or a row outside its scope,
    and if a shard was made with another state than the one of its scope.
    """
    selections = corpus.recipe.features[features]
    return {m: build_column(corpus, catalogue, selection, fold, home) for m, selection in selections.items()}


def build_column(corpus: Corpus, catalogue: Catalogue, selection: Selection, fold: Fold | None, home: Path) -> Path:
    """The directory of one modality's column; see `build_columns`."""
    parts, align, key = _planned(corpus, catalogue, selection, fold)
    path, rows, store = home / "views" / key, corpus.manifest.rows, catalogue.store
    if not use_column(path):
        dim, names, dtype = _dimensions(store, parts)
        write_column(path, _tracks(store, parts, rows), len(rows), align, dim, names=names, dtype=dtype)
    return path


def tracks(
    corpus: Corpus, catalogue: Catalogue, selection: Selection, fold: Fold | None, ids: Sequence[str]
) -> tuple[Align, dict[str, Track]]:
    """How a modality is aligned, and before that the track of its first stage, for those of `ids` that have one.

    Raises InputError as `build_columns` does.
    """
    parts, align, _ = _planned(corpus, catalogue, selection, fold)
    wanted, found = set(ids), dict[str, Track]()
    for shard in parts[0].shards:
        if wanted & {row.id for row in shard.rows}:
            rows = shards.read(_table(catalogue.store, parts[0], shard))
            found |= {i: track for i, key, track in rows if i in wanted and parts[0].keys.get(i) == key}
    return align, found


def stage_tracks(corpus: Corpus, catalogue: Catalogue, node: Node, fold: Fold | None) -> ShardTracks:
    """The tracks of one stage as they were extracted, before any alignment. Raises InputError as `build_columns`."""
    return ShardTracks(catalogue.store, _fold_rows(corpus, catalogue, node, fold))


def column_keys(corpus: Corpus, catalogue: Catalogue, features: str, fold: Fold | None) -> dict[Modality, str]:
    """The key of each modality's column, which is the name of its directory. Nothing is written.

    Everything that decides the values is in the key. Raises InputError as `build_columns` does.
    """
    selections = corpus.recipe.features[features]
    return {m: _planned(corpus, catalogue, selection, fold)[2] for m, selection in selections.items()}


def build_all_columns(
    corpus: Corpus, catalogue: Catalogue, only: Sequence[str], home: Path
) -> dict[str, dict[str, dict[Modality, str]]]:
    """Feature set -> fold -> modality -> directory of its column, for all feature sets or those in `only`.

    A feature set that depends on no fit and states its lengths is the same in every fold; its one fold is `all`.
    """
    built: dict[str, dict[str, dict[Modality, str]]] = {}
    for features, selections in corpus.recipe.features.items():
        if only and features not in only:
            continue
        folds: Sequence[Fold | None] = corpus.folds if _differs_by_fold(selections.values()) else [None]
        built[features] = {}
        for fold in folds:
            columns = build_columns(corpus, catalogue, features, fold, home)
            built[features][fold.name if fold else "all"] = {m: str(path) for m, path in columns.items()}
    return built


def _differs_by_fold(selections: Iterable[Selection]) -> bool:
    return any(s.align.length == "auto" or any(node.scoped for node in s.parts) for s in selections)


def _planned(
    corpus: Corpus, catalogue: Catalogue, selection: Selection, fold: Fold | None
) -> tuple[list[FoldRows], Align, str]:
    """The rows of each stage in a column, how they are aligned, and the column's key."""
    parts = [_fold_rows(corpus, catalogue, node, fold) for node in selection.parts]
    length = selection.align.length
    if length == "auto":
        if fold is None:
            raise InputError('align.length = "auto" needs labelled train rows')
        length = auto_length(_steps(catalogue.store, parts[0], set(fold.train)))
    align = Align(selection.align.mode, length)
    rows = [[part.identity(row.id) for row in corpus.manifest.rows] for part in parts]
    return parts, align, keys.view_key(rows, align.mode, align.length)


def _fold_rows(corpus: Corpus, catalogue: Catalogue, node: Node, fold: Fold | None) -> FoldRows:
    scopes: Sequence[Scope | None] = corpus.scopes[fold.name] if node.scoped and fold else [None]
    part = FoldRows(node, {}, [], {}, {}, {}, {})
    for rows in (catalogue.of(node, scope) for scope in scopes):
        if fold is not None:
            _refuse_leaks(rows, fold)
        if rows.waiting:
            _refuse_missing(node)
        for shard in rows.shards:
            _add(part, rows, shard, isinstance(catalogue.store, LockedStore))
    return part


def _add(part: FoldRows, rows: StageRows, shard: Shard, locked: bool) -> None:
    """Adds the rows of a shard that get their features from the scope of `rows`."""
    record = rows.record(shard) or _refuse_missing(rows.node)
    applied = set(rows.scope.apply) if rows.scope else rows.ids
    added = {row.id: key for row, key in zip(shard.rows, shard.keys, strict=True) if row.id in applied}
    part.keys.update(added)
    if locked:
        part.marks.update(dict.fromkeys(added, record.object))
    part.marks.update({i: "~" for i, reason in record.reasons.items() if i in added and Reason(reason).failed})
    part.shards.append(shard)
    part.states[shard.key] = rows.state.object if rows.state else None
    part.records[shard.key] = record


def _refuse_missing(node: Node) -> NoReturn:
    raise InputError(f"{node.name} is not extracted for all rows: run `affectory extract` first")


def _refuse_leaks(rows: StageRows, fold: Fold) -> None:
    """Raises InputError if the record of a state, of this stage or one upstream, names a row that it may not have seen.

    Such a row is a test row of the fold, or one outside the scope of the fit.
    """
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
    """The utterances that a state learned from. A record that does not name them is refused."""
    parts = [record.about.get(part) for part in ("train", "valid")]
    if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in parts):
        raise InputError(f"the record of the state of {node.name} does not say which rows it saw: fit it again")
    return {name for part in parts for name in part or ()}


def _steps(store: Store, part: FoldRows, train: set[str]) -> list[int]:
    """The number of steps of each train row that has any."""
    steps: list[int] = []
    for shard in part.shards:
        table = _table(store, part, shard, ["utterance", "frames"])
        frames = zip(table["utterance"].to_pylist(), table["frames"].to_pylist(), strict=True)
        steps += [count for utterance, count in frames if utterance in train and count]
    return steps


def _dimensions(store: Store, parts: Sequence[FoldRows]) -> tuple[int, list[str], str]:
    """The width of a column, the names of its dimensions, and the dtype that loses nothing of any stage."""
    stages = [(part.node.name, shards.about(_table(store, part, part.shards[0], ["utterance"]))) for part in parts]
    names = [f"{stage}.{name}" for stage, about in stages for name in about["names"]]
    dtype = "float32" if any(about["dtype"] == "float32" for _, about in stages) else "float16"
    return sum(about["dim"] for _, about in stages), names, dtype


def _tracks(store: Store, parts: Sequence[FoldRows], rows: Sequence[Utterance]) -> Iterator[tuple[int, Track | None]]:
    """The number of each row, in the order of the first stage's shards, and its track, None for one without values."""
    numbers = {row.id: number for number, row in enumerate(rows)}
    first, others = parts[0], [ShardTracks(store, part) for part in parts[1:]]
    for shard in first.shards:
        for utterance, key, track in shards.read(_table(store, first, shard)):
            if first.keys.get(utterance) == key:
                yield numbers[utterance], _concatenated([track, *(other[utterance] for other in others)], utterance)


def _concatenated(tracks: Sequence[Track], name: str) -> Track | None:
    """[T, D1], [T, D2] -> [T, D1 + D2]. Tracks on one grid differ by one step at most, which the longer one loses."""
    if any(track.values is None for track in tracks):
        return None
    lengths = [len(track.values) for track in tracks if track.values is not None]
    if max(lengths) - min(lengths) > 1:
        raise InputError(f"{name}: concatenated stages have {lengths} steps; give them the same rate_hz")
    steps = min(lengths)
    values = np.concatenate([t.values[:steps] for t in tracks if t.values is not None], axis=1)
    valid = np.all([t.valid[:steps] for t in tracks if t.valid is not None], axis=0)
    return Track.of(values, valid=valid)


def _table(store: Store, part: FoldRows, shard: Shard, columns: list[str] | None = None) -> pa.Table:
    """A shard, or some of its columns.

    Raises InputError if it is not the shard that was asked for, or was made with another state than its scope has.
    """
    record = part.records[shard.key]
    path = store.open(record)
    try:
        table = shards.open_table(path, columns)
        shards.check(table, part.node.digest, [(row.id, key) for row, key in zip(shard.rows, shard.keys, strict=True)])
        _check_form(part, table)
    except InputError as error:
        raise InputError(f"{part.node.name}: object {record.object[:12]} is not that shard: {error}") from error
    state, expected = shards.about(table)["recipe"].get("state"), part.states[shard.key]
    if state != expected:
        raise InputError(
            f"a shard of {part.node.name} is of another state than the others of its fold: {state}, expected {expected}"
        )
    return table


def _check_form(part: FoldRows, table: pa.Table) -> None:
    """Raises InputError if the shards of a stage do not have one width, one dtype and the same dimensions."""
    about = shards.about(table)
    form = {name: about[name] for name in ("dim", "dtype", "names")}
    if part.form.setdefault(part.node.name, form) != form:
        raise InputError(f"it has {form['dim']} dimensions in {form['dtype']}, or others than the shards before it")


class ShardTracks:
    """The tracks of a stage by utterance. One shard at a time is in memory."""

    def __init__(self, store: Store, part: FoldRows) -> None:
        self._store, self._part = store, part
        self._shards = {
            row.id: shard
            for shard in part.shards
            for row, key in zip(shard.rows, shard.keys, strict=True)
            if part.keys.get(row.id) == key
        }
        self._read_key, self._read_tracks = "", dict[str, Track]()

    def __contains__(self, utterance: str) -> bool:
        return utterance in self._shards

    def form(self) -> tuple[int, tuple[str, ...]]:
        """The width of the stage, and the names of its dimensions, which may be none."""
        dim, names, _ = _dimensions(self._store, [self._part])
        return dim, tuple(name.partition(".")[2] for name in names)

    def __getitem__(self, utterance: str) -> Track:
        shard = self._shards[utterance]
        if self._read_key != shard.key:
            self._read_tracks = {name: track for name, _, track in shards.read(_table(self._store, self._part, shard))}
            self._read_key = shard.key
        return self._read_tracks[utterance]
