"""Runs a stage on the built-in sample: to save its reference, and to compare the libraries here with a reference."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.cache import keys, shards
from pipeline.cache.home import Home
from pipeline.cache.record import REFERENCES, Ref
from pipeline.cache.store import Store
from pipeline.cache.weights import check_there
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.pulled_manifest import Pulled
from pipeline.corpus.recipe import Node
from pipeline.errors import InputError
from pipeline.plan import sample
from pipeline.plan.generations import Comparison
from pipeline.plan.jobs import ExtractJob, ReferenceJob
from pipeline.plan.references import Reference, sample_corpus, sample_runs
from pipeline.plan.session import Session
from pipeline.run.extract_job import extract
from pipeline.run.outcome import Outcome
from pipeline.run.save_shard import made_by
from pipeline.run.stage_calls import Knobs
from pipeline.run.time_spent import REFERENCE
from pipeline.stage import Track

DEVICE = "cpu"
"""Where the sample is computed on every machine, so that libraries alone are compared."""


def open_session(home: Home, options: Options, pulled: Pulled | None = None) -> Session:
    """A session whose stages were compared with what other versions of their libraries gave; see `Session.open`."""
    return Session.open(home, options, pulled, compare)


def reference(job: ReferenceJob, store: Store) -> Outcome:
    """Saves the reference of a stage; the first one saved wins."""
    about = {"states": {stage: state.object for stage, state in job.states.items()}, "stage": job.node.name}
    outcome = Outcome(job.modality)
    record = store.save(
        job.node.family + REFERENCES,
        job.key,
        partial(shards.write, sampled(job.node, job.states, store, outcome.times)),
        suffix=".parquet",
        about=about | made_by(DEVICE, job.node),
    )
    outcome.saved.append(record)
    return outcome


def compare(reference: Reference, store: Store) -> Comparison:
    """Runs the sample and compares it with a reference. Raises InputError, or an error of a library, if it cannot."""
    node, states = reference.node, reference.states(store)
    for each in node.walk():
        absent = [name for name, version in keys.installed(each.stage).items() if version == keys.NOT_INSTALLED]
        if absent:
            raise InputError(f"{' and '.join(absent)} is not installed")
        check_there(each.stage)
    if states is None:
        raise InputError("the fitted state that its sample went through is not here")
    table = shards.open_table(store.bring(reference.record))
    shards.check(table, node.digest)
    return compared(table, sampled(node, states, store))


def compared(theirs: pa.Table, ours: pa.Table) -> Comparison:
    """Compares two shards over the sample, the second of which was made here.

    Rows that failed for a transient reason are left out. Raises InputError if no row with values remains.
    """
    forms = [{name: shards.about(table)[name] for name in ("dim", "dtype", "names")} for table in (theirs, ours)]
    tolerance: float = shards.about(ours)["tolerance"]
    if forms[0] != forms[1]:
        return Comparison(None, tolerance, "other dimensions")
    worst: Comparison | None = None
    for (name, _, was), (_, _, now) in zip(shards.read(theirs), shards.read(ours), strict=True):
        if any(track.reason is not None and track.reason.transient for track in (was, now)):
            continue
        if other := _differing(was, now):
            return Comparison(None, tolerance, f"{other} in {name}")
        if was.values is not None and now.values is not None:
            step, dim, difference = _largest(was, now)
            if worst is None or not difference <= (worst.difference or 0.0):
                worst = Comparison(difference, tolerance, f"{name}, step {step}, dimension {_name(ours, dim)}")
    if worst is None:
        raise InputError("the sample gives no values")
    return worst if np.isfinite(worst.difference or 0.0) else replace(worst, difference=None)


def _differing(was: Track, now: Track) -> str:
    """In what two tracks differ beside their values; "" if in nothing."""
    if was.reason != now.reason:
        return f"reason {now.reason or 'none'}, not {was.reason or 'none'}"
    for name in ("time_s", "valid"):
        if not np.array_equal(*(getattr(track, name) for track in (was, now))):
            return f"other {'times' if name == 'time_s' else 'validity'} of steps"
    steps = [None if track.values is None else track.values.shape for track in (was, now)]
    return "" if steps[0] == steps[1] else "other steps"


def _largest(was: Track, now: Track) -> tuple[int, int, float]:
    """Step, dimension and size of the largest difference over valid steps, relative to the larger of 1 and the value;
    infinite if a value is no number."""
    assert was.values is not None and now.values is not None and was.valid is not None
    before, after = was.values.astype(np.float64), now.values.astype(np.float64)  # [T, D]
    difference = np.abs(after - before) / np.maximum(1.0, np.abs(before))
    difference = np.where(was.valid[:, None], np.nan_to_num(difference, nan=np.inf), 0.0)
    if not difference.size:
        return 0, 0, 0.0
    step, dim = np.unravel_index(np.argmax(difference), difference.shape)
    return int(step), int(dim), float(difference[step, dim])


def _name(table: pa.Table, dim: int) -> str:
    names = shards.about(table)["names"]
    return str(names[dim]) if names else str(dim)


class _Scratch(Store):
    """A store in a folder of its own, which opens fitted states from another store."""

    def __init__(self, root: Path, states: Mapping[str, Ref], other: Store) -> None:
        super().__init__(root)
        self._states, self._other = {ref.object for ref in states.values()}, other

    def open(self, ref: Ref) -> Path:
        """See `Store.open`."""
        return self._other.open(ref) if ref.object in self._states else super().open(ref)


def sampled(node: Node, states: Mapping[str, Ref], store: Store, times: Counter[str] | None = None) -> pa.Table:
    """The shard of a stage over the sample, computed as every shard is. times: gets its seconds by kind."""
    runs = sample_runs(node, states)
    rows = sample.rows()
    before = sample_corpus().before(rows, node.walk())
    job = ExtractJob(node.stage.modality, sample.FOLDER, rows, tuple(runs), before=before)
    with tempfile.TemporaryDirectory() as folder:
        scratch = _Scratch(Path(folder), states, store)
        outcome = extract(job, scratch, Knobs(DEVICE))
        if times is not None:
            times.update({**outcome.times, REFERENCE: sum(outcome.seconds.values())})  # type: ignore[dict-item]
        record = scratch.find(*runs[-1].key)
        assert record is not None
        return shards.open_table(scratch.open(record))
