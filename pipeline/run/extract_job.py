"""Does an extraction job on a worker: decodes once, runs every stage in batches that span clips, saves shards."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from pipeline.backends.spent import Spent, counted_in
from pipeline.cache import keys, shards
from pipeline.cache.home import MEMORY
from pipeline.cache.record import Record
from pipeline.cache.store import Store
from pipeline.corpus.recipe import Node
from pipeline.errors import InputError
from pipeline.media.child import Child
from pipeline.media.decode import Decoded, decoded, size_bytes
from pipeline.plan.jobs import ExtractJob, Run, Stored
from pipeline.reason import Reason, Unreadable, one_line
from pipeline.remark import Remark, joined
from pipeline.run.outcome import Outcome
from pipeline.run.stage_calls import Call, Knobs, alone_bound, by_halves, here, in_child
from pipeline.run.time_spent import DECODE, LOAD, READ, STORE, timed, waited
from pipeline.run.tries import TRIES, counted, settled
from pipeline.stage import ID, RAW, Frames, Item, Spec, Track, Waveform
from pipeline.utterance import Utterance

log = logging.getLogger(__name__)

BATCH_BYTES = 2**30
"""A batch with so many bytes of sound or pictures is not filled up."""


@dataclass
class _Work:
    """One run in progress: its tracks so far by utterance, and items waiting for a full batch.

    otherwise: the versions of libraries that rows were computed with which other shards hold, by utterance.
    """

    run: Run
    device: str
    call: Call
    tracks: dict[str, Track] = field(default_factory=dict)
    otherwise: dict[str, Mapping[str, str]] = field(default_factory=dict)
    waiting: list[Item] = field(default_factory=list)
    waiting_bytes: int = 0
    calls: int = 0
    seconds: float = 0.0
    spent: Spent = field(default_factory=Spent)


def extract(job: ExtractJob, store: Store, knobs: Knobs) -> Outcome:
    """Runs a job and saves its shards; returns counts and reasons, never features.

    Raises ValueError if a stage breaks its promise, which is a bug, CorruptError if an upstream object is damaged, and
    MachineError or SpaceError for what this machine lacks. Whatever is the fault of a clip becomes the reason of its
    row.
    """
    with ExitStack() as stack:
        outcome = Outcome(job.modality)
        with timed(outcome.times, LOAD):
            child = stack.enter_context(Child(bound=alone_bound())) if knobs.isolated else None
            works = [_begin(run, job, store, knobs, child) for run in job.runs]
        for kind in (*RAW, ID):
            _run_raw(kind, job, works, store, knobs, outcome.times)
        for work in works:
            _finish_upstream(work, works, job, store, knobs, outcome.times)
            with timed(outcome.times, STORE):
                _save(work, job, store, outcome)
    return outcome


def _begin(run: Run, job: ExtractJob, store: Store, knobs: Knobs, child: Child | None) -> _Work:
    copies = list(_copied(run, job, store))
    copied = {name: track for name, track, _ in copies}
    otherwise = {name: versions for name, _, versions in copies}
    if len(copied) == len(job.rows):
        return _Work(run, knobs.device, Call(_stored_spec(run, store), _nothing), copied, otherwise)
    state = store.open(run.state) if run.state else None
    call = in_child(child, run.node, knobs.device, state) if child else here(run.node, knobs.device, state)
    return _Work(run, knobs.device, call, copied, otherwise)


def _nothing(items: list[Item]) -> list[Track]:
    raise AssertionError("every row of this run is a copy")


def _copied(run: Run, job: ExtractJob, store: Store) -> Iterator[tuple[str, Track, Mapping[str, str]]]:
    """The tracks of rows that another shard of this stage holds, under this job's own ids, each with the versions of
    libraries that it was computed with."""
    by_key: dict[str, tuple[Track, Mapping[str, str]]] = {}
    for shard in sorted(set(run.copies.values()), key=lambda ref: ref.object):
        table, record = shards.open_table(store.open(shard)), store.find(shard.stage, shard.key)
        shards.check(table, shard.stage)
        about = record.about if record else {}
        otherwise = about.get("otherwise", {})
        for name, key, track in shards.read(table):
            if key in run.copies:
                versions = otherwise.get(name, about.get("libraries", {}))
                by_key[key] = (_annotated(track, record, name), versions)
    for row, key in zip(job.rows, run.keys, strict=True):
        if key in by_key:
            yield row.id, *by_key[key]


def _annotated(track: Track, record: Record | None, name: str) -> Track:
    """The track of a row with what its record says of it."""
    if record is None:
        return track
    return replace(track, message=record.messages.get(name, ""), remarks=record.remarks_on(name))


def _stored_spec(run: Run, store: Store) -> Spec:
    about = shards.about(shards.open_table(store.open(next(iter(run.copies.values()))), ["utterance"]))
    return Spec(about["dim"], tuple(about["names"]), about["dtype"], about["tolerance"])


def _run_raw(
    kind: str, job: ExtractJob, works: Sequence[_Work], store: Store, knobs: Knobs, times: Counter[str]
) -> None:
    """Runs the stages that read raw `kind` over the rows they still lack."""
    reading = [work for work in works if kind in work.run.node.inputs]
    for work in reading:
        for name, reason in job.unreadable.items() if kind != ID else ():
            work.tracks.setdefault(name, Track.failed(reason, "as the doctor found"))
    rows = [row for row in job.rows if any(row.id not in work.tracks for work in reading)]
    wanted = [[(w.run.node.digest, w.run.node.stage) for w in reading if row.id not in w.tracks] for row in rows]
    inputs_of = decoded(kind, rows, job.root, wanted, store.root / MEMORY, job.before)
    for row, inputs in waited(times, DECODE, inputs_of):
        for work in reading:
            if row.id not in work.tracks:
                _offer(work, kind, row, inputs, knobs)
    for work in reading:
        _flush(work)


def _offer(work: _Work, kind: str, row: Utterance, inputs: Decoded, knobs: Knobs) -> None:
    if isinstance(inputs, Unreadable):
        log.info("%s: %s has no %s: %s", work.run.node.name, row.id, kind, inputs)
        work.tracks[row.id] = Track.failed(inputs.reason, inputs.detail)
        return
    value = inputs[work.run.node.digest]
    work.waiting.append(Item(row.id, {kind: value}))
    work.waiting_bytes += size_bytes(value)
    if len(work.waiting) >= (knobs.batch or work.run.node.stage.batch) or work.waiting_bytes >= BATCH_BYTES:
        _flush(work)


def _finish_upstream(
    work: _Work, works: Sequence[_Work], job: ExtractJob, store: Store, knobs: Knobs, times: Counter[str]
) -> None:
    """Runs a stage that reads other stages over the rows it still lacks."""
    todo = [row.id for row in job.rows if row.id not in work.tracks]
    if not todo:
        return
    here = {other.run.node.name: other.tracks for other in works if other.run.node in work.run.node.upstream}
    with timed(times, READ):
        elsewhere = {name: stored for name, stored in work.run.stored.items() if name not in here}
        sources = {name: dict(stored_tracks(stored, store)) for name, stored in elsewhere.items()} | here
    for name in todo:
        tracks = {source: replace(found[name], remarks=()) for source, found in sources.items()}
        failed = [(source, track) for source, track in tracks.items() if track.reason is not None]
        if failed:
            source, track = failed[0]
            work.tracks[name] = replace(track, message=track.message or f"{source} has no values")
            continue
        work.waiting.append(Item(name, tracks))
        if len(work.waiting) >= (knobs.batch or work.run.node.stage.batch):
            _flush(work)
    _flush(work)


def stored_tracks(stored: Stored, store: Store) -> Iterator[tuple[str, Track]]:
    """(utterance, track) of every row in `stored.keys`.

    Raises CorruptError if a shard is damaged, InputError if one is not what its record says.
    """
    by_key: dict[str, Track] = {}
    needed = set(stored.keys.values())
    for shard in stored.shards:
        table = shards.open_table(store.open(shard))
        shards.check(table, shard.stage)
        by_key.update((key, track) for _, key, track in shards.read(table) if key in needed)
    if lost := stored.keys.keys() - {name for name, key in stored.keys.items() if key in by_key}:
        raise InputError(f"the shards of {', '.join(sorted(lost)[:5])} do not hold these rows")
    for name, key in stored.keys.items():
        yield name, by_key[key]


def _flush(work: _Work) -> None:
    items, work.waiting, work.waiting_bytes = work.waiting, [], 0
    if not items:
        return
    began = time.perf_counter()
    with counted_in(work.spent):
        tracks, calls = by_halves(work.call.transform, items, work.run.node.name)
    work.calls += calls
    for item, track in zip(items, tracks, strict=True):
        remarks = joined((*_read_with(item), *track.remarks))
        work.tracks[item.id] = replace(_checked(work, item, track), remarks=remarks)
    work.seconds += time.perf_counter() - began


def _read_with(item: Item) -> Iterator[Remark]:
    """The remarks on the sound and the pictures of an item."""
    for value in item.inputs.values():
        if isinstance(value, Waveform | Frames):
            yield from value.remarks


def _checked(work: _Work, item: Item, track: Track) -> Track:
    """The track, if it is as the stage's Spec promises. Non-finite values become a reason, and so does a track without
    a valid step (no word has a vector, no frame a face); a wrong shape raises ValueError."""
    if track.values is None or track.valid is None:
        return track
    steps, dim = track.values.shape[0], work.call.spec.dim
    times = steps if track.time_s is None else len(track.time_s)
    got = (*track.values.shape, len(track.valid), times)
    if got != (steps, dim, steps, steps):
        name = work.run.node.name
        raise ValueError(f"{name}: values, valid, time_s of {got}, expected [{steps}, {dim}], in utterance {item.id}")
    valid = track.values[track.valid]
    if not len(valid):
        return Track.failed(Reason.NOTHING_VALID, f"none of {steps} steps has information")
    wrong = int(np.sum(~np.isfinite(valid).all(axis=1)))
    if wrong:
        return Track.failed(Reason.NON_FINITE, f"{wrong} of {len(valid)} valid steps are not finite")
    return track


def _save(work: _Work, job: ExtractJob, store: Store, outcome: Outcome) -> None:
    run, stage = work.run, work.run.node.digest
    ids = [row.id for row in job.rows]
    tries = counted(work.tracks, store.find(stage, run.shard))
    tracks = list(settled({i: work.tracks[i] for i in ids}, tries).values())
    table = shards.to_table(ids, run.keys, tracks, work.call.spec, _recipe(run))
    reasons = {i: t.reason.value for i, t in zip(ids, tracks, strict=True) if t.reason is not None}
    messages = {i: one_line(t.message) for i, t in zip(ids, tracks, strict=True) if t.message}
    transient = {i for i, reason in reasons.items() if Reason(reason).transient}
    copied = sum(key in run.copies for key in run.keys)
    computed = len(ids) - copied
    about = {"rows": len(ids), "computed": computed, **made_by(work.device, run.node)}
    if otherwise := {i: dict(v) for i, v in work.otherwise.items() if v != about["libraries"]}:
        about["otherwise"] = otherwise
    if tries:
        about[TRIES] = tries
    if networks := work.spent.answer():
        about["networks"] = networks
    record = store.save(
        stage,
        run.shard,
        partial(shards.write, table),
        suffix=".parquet",
        rows=tuple(key for i, key in zip(ids, run.keys, strict=True) if i not in transient),
        provisional=bool(transient),
        seconds=work.seconds,
        reasons=reasons,
        messages=messages,
        remarks=_by_kind(zip(ids, tracks, strict=True)),
        about=about | {"stage": run.node.name},
    )
    outcome.saved.append(record)
    outcome.computed[stage] += computed
    outcome.copied[stage] += copied
    outcome.calls[stage] += work.calls
    outcome.seconds[stage] = work.seconds
    outcome.reasons[stage] = reasons


def _by_kind(rows: Iterable[tuple[str, Track]]) -> dict[str, dict[str, str]]:
    """The remarks on rows by kind and utterance, as a record keeps them."""
    by_kind: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, track in rows:
        for remark in track.remarks:
            by_kind[remark.kind.value][name] = remark.written
    return dict(by_kind)


def made_by(device: str, node: Node) -> dict[str, Any]:
    """Where, when and with which libraries something was computed, which is part of a record and of no key."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    made = {"backend": device, "host": socket.gethostname(), "process": os.getpid(), "at": at}
    return made | {"libraries": keys.installed(node.stage)}


def _recipe(run: Run) -> Mapping[str, Any]:
    return run.node.describe() | {"state": run.state and run.state.object, "keys": keys.KEY_VERSION}
