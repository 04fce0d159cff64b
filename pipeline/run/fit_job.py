"""Does a fit on a worker: gathers the rows of its scope and nothing else, fits the stage, saves the state."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.cache import atomic
from pipeline.cache.home import MEMORY
from pipeline.cache.record import FITS
from pipeline.cache.states import save_state
from pipeline.cache.store import Store
from pipeline.errors import InputError, needing_memory
from pipeline.fit_progress import ReadLines, naming
from pipeline.media.decode import decoded
from pipeline.plan.jobs import FitJob
from pipeline.reason import Reason, Unreadable
from pipeline.run.clips_on_disk import Clips, Room
from pipeline.run.extract_job import stored_tracks
from pipeline.run.outcome import Outcome
from pipeline.run.save_shard import made_by
from pipeline.run.stage_calls import Knobs, machine_to_blame
from pipeline.stage import RAW, Item, Rows, State
from pipeline.utterance import Utterance


class NotYetError(Exception):
    """A row of the fit failed for a transient reason, so the fit has to wait for it."""


@dataclass
class _Missing:
    """Rows that failed for a transient reason, with that reason. A fit waits for them unless it is lenient."""

    name: str
    lenient: bool
    reasons: dict[str, str] = field(default_factory=dict)

    def note(self, row: Utterance, reason: Reason | None) -> None:
        """Notes such a row. Raises NotYetError unless the fit is lenient."""
        if reason is None or not reason.transient:
            return
        if not self.lenient:
            raise NotYetError(f"{self.name} waits for {row.id}: {reason}")
        self.reasons[row.id] = reason.value


def fit(job: FitJob, store: Store, knobs: Knobs) -> Outcome:
    """Fits a stage on its scope's train and validation rows and saves the state; the first one saved wins.

    A row without this modality takes no part. A row that failed for a transient reason raises NotYetError, so that the
    fit is tried again, or is left out if `knobs` say so or an earlier state did so: the state is then provisional, see
    `pipeline.plan.shortfall`. Nothing is done if the same rows would be left out as before. Raises InputError if a row
    is held out, or belongs to a group that is, and if none is left to learn from.
    """
    _refuse_held(job)
    began = time.perf_counter()
    missing = _Missing(job.name, knobs.lenient or bool(job.left_out))
    with atomic.scratch(store.root) as scratch, naming(job.name):
        if _still_missing(job, store):
            return Outcome(job.modality)
        room = Room.on(scratch)
        train, valid = (_rows(job, part, store, room, missing) for part in (job.train, job.valid))
        if missing.reasons and missing.reasons.keys() == job.left_out.keys():
            return Outcome(job.modality)
        if not train.items:
            raise InputError(f"{job.node.name} has nothing to learn from in {job.scope}")
        try:
            with machine_to_blame(), needing_memory(f"the fit of {job.node.name} on {job.scope}"):
                state = job.node.stage.fit(train, valid, job.target, knobs.device)
        except Unreadable as why:
            raise NotYetError(f"{missing.name} lost a clip on the way: {why}") from why
        learned = {"train": _ids(train), "valid": _ids(valid)}
    about = learned | made_by(knobs.device, job.node)
    return _saved(job, store, state, time.perf_counter() - began, about, missing.reasons)


def _saved(
    job: FitJob, store: Store, state: State, seconds: float, about: Mapping[str, Any], reasons: Mapping[str, str]
) -> Outcome:
    about = {**about, "stage": job.node.name, "scope": job.scope, "recipe": job.node.describe(), "log": dict(state.log)}
    record = store.save(
        job.node.digest + FITS,
        job.state,
        partial(save_state, state),
        suffix=".safetensors",
        provisional=bool(reasons),
        seconds=seconds,
        reasons=reasons,
        about=about,
    )
    stage = job.node.digest + FITS
    return Outcome(job.modality, calls=Counter({stage: 1}), seconds={stage: seconds}, saved=[record])


def _still_missing(job: FitJob, store: Store) -> bool:
    """True if the first row of raw input that was left out fails again; it is decoded before all others are."""
    raw = _raw(job)
    rows = [row for row in (*job.train, *job.valid) if row.id in job.left_out][:1] if raw else []
    wanted = [[("fit", job.node.stage)]] * len(rows)
    tried = decoded(raw or "", rows, job.root, wanted, store.root / MEMORY, job.before)
    return any(isinstance(found, Unreadable) and found.reason.transient for _, found in tried)


def _refuse_held(job: FitJob) -> None:
    for part in ("train", "valid"):
        rows: Sequence[Utterance] = getattr(job, part)
        seen = job.held.among([*rows, *(turn for row in rows for turn in job.before.get(row.id, ()))])
        if seen:
            raise InputError(f"{job.node.name} is not fitted on {job.scope}: {part} holds what is held out: {seen}")


def _rows(job: FitJob, rows: Sequence[Utterance], store: Store, room: Room, missing: _Missing) -> Rows:
    raw = _raw(job)
    if raw is None:
        found = Rows(list(_stored_items(job, rows, store, missing)), ())
    else:
        found = Rows(_raw_items(job, raw, rows, room, store.root / MEMORY, missing), ())
    return replace(found, labels=[job.labels[name] for name in _ids(found)])


def _raw(job: FitJob) -> str | None:
    """The raw input that the stage reads; None for a stage that reads other stages."""
    return next((name for name in job.node.inputs if isinstance(name, str) and name in RAW), None)


def _ids(rows: Rows) -> list[str]:
    return rows.items.ids if isinstance(rows.items, Clips) else [item.id for item in rows.items]


def _stored_items(job: FitJob, rows: Sequence[Utterance], store: Store, missing: _Missing) -> Iterator[Item]:
    sources = {name: dict(stored_tracks(stored, store)) for name, stored in job.stored.items()}
    for row in rows:
        tracks = {name: found[row.id] for name, found in sources.items()}
        for track in tracks.values():
            missing.note(row, track.reason)
        if all(track.values is not None for track in tracks.values()):
            yield Item(row.id, tracks)


def _raw_items(job: FitJob, raw: str, rows: Sequence[Utterance], room: Room, memory: Path, missing: _Missing) -> Clips:
    clips, lines = Clips(raw, job.node.stage, job.root, room, memory), ReadLines(len(rows))
    for row, found in decoded(raw, rows, job.root, [[("fit", job.node.stage)]] * len(rows), memory, job.before):
        if isinstance(found, Unreadable):
            missing.note(row, found.reason)
        else:
            clips.add(row, found["fit"])
            lines.reached(len(clips))
    return clips
