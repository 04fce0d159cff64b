"""What one fit does on a worker: gathers the rows of its scope and nothing else, fits, saves the state."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline import atomic
from pipeline.call import Knobs
from pipeline.clips import Clips, Room
from pipeline.decode import decoded
from pipeline.errors import InputError
from pipeline.extract import made_by, stored_tracks
from pipeline.home import MEMORY
from pipeline.jobs import FITS, FitJob
from pipeline.outcome import Outcome, Reason, Unreadable
from pipeline.stage import RAW, Item, Rows
from pipeline.state import save_state
from pipeline.store import Store
from pipeline.utterance import Utterance


class NotYetError(Exception):
    """A row of the fit failed for a reason that may pass; the fit has to wait for it."""


def fit(job: FitJob, store: Store, knobs: Knobs) -> Outcome:
    """Fits a stage on its scope's train and validation rows and saves the state; the first one saved wins.

    A row without this modality takes no part. Raises InputError where a row is held out, or of a group that is, and
    where none is left to learn from; NotYetError where a row is missing for a reason that may pass.
    """
    _refuse_held(job)
    began = time.perf_counter()
    with atomic.scratch(store.root) as scratch:
        room = Room.on(scratch)
        train, valid = (_rows(job, part, store, room) for part in (job.train, job.valid))
        if not train.items:
            raise InputError(f"{job.node.name} has nothing to learn from in {job.scope}")
        try:
            state = job.node.stage.fit(train, valid, job.target, knobs.device)
        except Unreadable as why:
            raise NotYetError(f"a fit of {job.node.name} lost a clip on the way: {why}") from why
    seconds = time.perf_counter() - began
    learned = {"train": _ids(train), "valid": _ids(valid)}
    about = {"stage": job.node.name, "scope": job.scope, "recipe": job.node.describe(), "log": dict(state.log)}
    about |= learned | made_by(knobs.device)
    write = partial(save_state, state)
    record = store.save(job.node.digest + FITS, job.state, write, suffix=".safetensors", seconds=seconds, about=about)
    name = f"{job.node.name} (fit)"
    outcome = Outcome(job.modality)
    outcome.saved.append(record)
    outcome.calls[name] += 1
    outcome.spend(name, seconds)
    return outcome


def _refuse_held(job: FitJob) -> None:
    for part in ("train", "valid"):
        seen = job.held.among(getattr(job, part))
        if seen:
            raise InputError(f"{job.node.name} is not fitted on {job.scope}: {part} holds what is held out: {seen}")


def _rows(job: FitJob, rows: Sequence[Utterance], store: Store, room: Room) -> Rows:
    raw = next((name for name in job.node.inputs if isinstance(name, str) and name in RAW), None)
    items = (
        list(_stored_items(job, rows, store)) if raw is None else _raw_items(job, raw, rows, room, store.root / MEMORY)
    )
    found = Rows(items, ())
    return replace(found, labels=[job.labels[name] for name in _ids(found)])


def _ids(rows: Rows) -> list[str]:
    return rows.items.ids if isinstance(rows.items, Clips) else [item.id for item in rows.items]


def _stored_items(job: FitJob, rows: Sequence[Utterance], store: Store) -> Iterator[Item]:
    sources = {name: dict(stored_tracks(stored, store)) for name, stored in job.stored.items()}
    for row in rows:
        tracks = {name: found[row.id] for name, found in sources.items()}
        for track in tracks.values():
            _refuse_transient(row, track.reason)
        if all(track.values is not None for track in tracks.values()):
            yield Item(row.id, tracks)


def _raw_items(job: FitJob, raw: str, rows: Sequence[Utterance], room: Room, memory: Path) -> Clips:
    clips = Clips(raw, job.node.stage, job.root, room, memory)
    for row, found in decoded(raw, rows, job.root, [[("fit", job.node.stage)]] * len(rows), memory):
        if isinstance(found, Unreadable):
            _refuse_transient(row, found.reason)
        else:
            clips.add(row, found["fit"])
    return clips


def _refuse_transient(row: Utterance, reason: Reason | None) -> None:
    """A state's key names its rows: one that is missing for a reason that may pass cannot be left out of it."""
    if reason is not None and reason.transient:
        raise NotYetError(f"a fit waits for {row.id}: {reason}")
