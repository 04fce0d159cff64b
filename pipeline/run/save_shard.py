"""Rows that a job has computed, and the shards that they are saved as."""

from __future__ import annotations

import os
import socket
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pipeline.backends.spent import Spent
from pipeline.cache import keys, shards
from pipeline.cache.store import Store
from pipeline.corpus.recipe import Node
from pipeline.plan.jobs import ExtractJob, Run
from pipeline.reason import Reason, one_line
from pipeline.run.outcome import Outcome
from pipeline.run.time_spent import STORE, timed
from pipeline.run.tries import TRIES, counted, settled
from pipeline.stage import Spec, Track


@dataclass(kw_only=True)
class Computed:
    """One run of a job over rows that are not saved yet: their tracks by utterance.

    otherwise: the versions of libraries that rows were computed with which other shards hold, by utterance. calls,
    seconds: of the stage. spent: what its networks took.
    """

    run: Run
    device: str
    spec: Spec
    tracks: dict[str, Track] = field(default_factory=dict)
    otherwise: dict[str, Mapping[str, str]] = field(default_factory=dict)
    calls: int = 0
    seconds: float = 0.0
    spent: Spent = field(default_factory=Spent)

    def bare(self) -> Computed:
        """The same without what only the worker has that computed it."""
        return Computed(**{part.name: getattr(self, part.name) for part in fields(Computed)})


@dataclass
class Part:
    """What a worker computed of some rows of a job: its runs, and seconds as in `Outcome`."""

    runs: list[Computed] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)
    busy: dict[str, float] = field(default_factory=dict)


def save_parts(parts: Sequence[Part], job: ExtractJob, store: Store) -> Outcome:
    """Saves the rows of all parts of a job as its shards."""
    outcome = Outcome(job.modality)
    for part in parts:
        outcome.add(Outcome(job.modality, times=part.times, busy=part.busy))
    for number, run in enumerate(job.runs):
        with timed(outcome.times, STORE):
            save(joined(run, [part.runs[number] for part in parts]), job, store, outcome)
    return outcome


def joined(run: Run, parts: Sequence[Computed]) -> Computed:
    """The rows of all parts of a job as those of its run."""
    whole = Computed(run=run, device=parts[0].device, spec=parts[0].spec)
    for part in parts:
        whole.tracks |= part.tracks
        whole.otherwise |= part.otherwise
        whole.calls += part.calls
        whole.seconds += part.seconds
        for backend, inputs in part.spent.inputs.items():
            whole.spent.add(backend, inputs, part.spent.seconds[backend])
    return whole


def save(computed: Computed, job: ExtractJob, store: Store, outcome: Outcome) -> None:
    """Saves the rows of a run as the shard of the job, and counts them in its outcome."""
    run, stage = computed.run, computed.run.node.digest
    ids = [row.id for row in job.rows]
    tries = counted(computed.tracks, store.find(stage, run.shard))
    tracks = list(settled({i: computed.tracks[i] for i in ids}, tries).values())
    table = shards.to_table(ids, run.keys, tracks, computed.spec, _recipe(run))
    reasons = {i: t.reason.value for i, t in zip(ids, tracks, strict=True) if t.reason is not None}
    messages = {i: one_line(t.message) for i, t in zip(ids, tracks, strict=True) if t.message}
    transient = {i for i, reason in reasons.items() if Reason(reason).transient}
    copied = sum(key in run.copies for key in run.keys)
    about = {"rows": len(ids), "computed": len(ids) - copied, **made_by(computed.device, run.node)}
    if otherwise := {i: dict(v) for i, v in computed.otherwise.items() if v != about["libraries"]}:
        about["otherwise"] = otherwise
    if tries:
        about[TRIES] = tries
    if networks := computed.spent.answer():
        about["networks"] = networks
    record = store.save(
        stage,
        run.shard,
        partial(shards.write, table),
        suffix=".parquet",
        rows=tuple(key for i, key in zip(ids, run.keys, strict=True) if i not in transient),
        provisional=bool(transient),
        seconds=computed.seconds,
        reasons=reasons,
        messages=messages,
        remarks=_by_kind(zip(ids, tracks, strict=True)),
        about=about | {"stage": run.node.name},
    )
    outcome.saved.append(record)
    outcome.computed[stage] += len(ids) - copied
    outcome.copied[stage] += copied
    outcome.calls[stage] += computed.calls
    outcome.seconds[stage] = computed.seconds
    outcome.reasons[stage], outcome.messages[stage] = reasons, messages


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
