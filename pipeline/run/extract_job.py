"""Does an extraction job on a worker: decodes once, runs every stage in batches that span clips, saves shards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.backends.spent import counted_in
from pipeline.cache import shards
from pipeline.cache.home import MEMORY
from pipeline.cache.record import Record
from pipeline.cache.store import Store
from pipeline.errors import InputError
from pipeline.media.child import Child
from pipeline.media.decode import Decoded, decoded, size_bytes
from pipeline.plan.jobs import ExtractJob, Run, Stored
from pipeline.reason import Reason, Unreadable
from pipeline.remark import Remark, joined
from pipeline.run.outcome import Outcome
from pipeline.run.save_shard import Computed, save
from pipeline.run.stage_calls import Call, Knobs, Transform, alone_bound, by_halves, here, in_child
from pipeline.run.time_spent import DECODE, LOAD, READ, STORE, timed, waited
from pipeline.stage import ID, RAW, Frames, Item, Spec, Track, Waveform
from pipeline.utterance import Utterance

BATCH_BYTES = 2**30
"""A batch with so many bytes of sound or pictures is not filled up."""


@dataclass(kw_only=True)
class _Work(Computed):
    """One run in progress: its rows so far, and items waiting for a full batch."""

    transform: Transform
    waiting: list[Item] = field(default_factory=list)
    waiting_bytes: int = 0


def extract(job: ExtractJob, store: Store, knobs: Knobs) -> Outcome:
    """Runs a job and saves its shards; returns counts and reasons, never features.

    Raises as `compute` does, and SpaceError if the disk is full.
    """
    outcome = Outcome(job.modality)
    for run in compute(job, store, knobs, outcome.times):
        with timed(outcome.times, STORE):
            save(run, job, store, outcome)
    return outcome


def compute(job: ExtractJob, store: Store, knobs: Knobs, times: Counter[str]) -> Iterator[Computed]:
    """The rows of each run of a job, computed. times: is given the seconds outside stages, by kind.

    Raises ValueError if a stage breaks its promise, which is a bug, CorruptError if an upstream object is damaged, and
    MachineError or SpaceError for what this machine lacks. Whatever is the fault of a clip becomes the reason of its
    row.
    """
    with ExitStack() as stack:
        with timed(times, LOAD):
            child = stack.enter_context(Child(bound=alone_bound())) if knobs.isolated else None
            works = [_begin(run, job, store, knobs, child) for run in job.runs]
        for kind in (*RAW, ID):
            _run_raw(kind, job, works, store, knobs, times)
        for work in works:
            _finish_upstream(work, works, job, store, knobs, times)
            yield work


def _begin(run: Run, job: ExtractJob, store: Store, knobs: Knobs, child: Child | None) -> _Work:
    copies = list(_copied(run, job, store))
    copied = {name: track for name, track, _ in copies}
    otherwise = {name: versions for name, _, versions in copies}
    if len(copied) == len(job.rows):
        call = Call(_stored_spec(run, store), _nothing)
    else:
        state = store.open(run.state) if run.state else None
        call = in_child(child, run.node, knobs.device, state) if child else here(run.node, knobs.device, state)
    return _Work(
        run=run, device=knobs.device, spec=call.spec, tracks=copied, otherwise=otherwise, transform=call.transform
    )


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
        tracks, calls = by_halves(work.transform, items, work.run.node.name)
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
    steps, dim = track.values.shape[0], work.spec.dim
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
