"""What a worker does with one job: looks whether somebody saved it meanwhile, does it, and hands the outcome on."""

from __future__ import annotations

import logging
import os
import socket
import time

from pipeline.cache.record import Record
from pipeline.cache.store import CorruptError, Store
from pipeline.plan.jobs import ExtractJob, Job, ReferenceJob
from pipeline.run.exchange import Exchange
from pipeline.run.extract_job import extract
from pipeline.run.fit_job import NotYetError, fit
from pipeline.run.outcome import Again, Outcome
from pipeline.run.reference_job import reference
from pipeline.run.stage_calls import Knobs

log = logging.getLogger(__name__)


def run(job: Job, exchange: Exchange, knobs: Knobs) -> Outcome | Again:
    """Does one job on a worker, and says how long that took. Raises InputError where this machine can't do it."""
    began = time.perf_counter()
    result = _run(job, exchange, knobs)
    if isinstance(result, Outcome):
        result.busy[f"{socket.gethostname()} {os.getpid()}"] = time.perf_counter() - began
    return result


def _run(job: Job, exchange: Exchange, knobs: Knobs) -> Outcome | Again:
    store, knobs = exchange.store(), knobs.on_worker(job.gpu)
    if (saved := _saved(job, store)) is not None:
        return exchange.share(store, Outcome(job.modality, saved=saved))
    job = exchange.localised(job)
    try:
        outcome = _done(job, store, knobs)
    except CorruptError as error:
        log.warning("%s", error)
        return Again(error.message, error.ref)
    except NotYetError as error:
        log.warning("%s", error)
        return Again(str(error))
    return exchange.share(store, outcome)


def _done(job: Job, store: Store, knobs: Knobs) -> Outcome:
    if isinstance(job, ReferenceJob):
        return reference(job, store)
    return extract(job, store, knobs) if isinstance(job, ExtractJob) else fit(job, store, knobs)


def _saved(job: Job, store: Store) -> list[Record] | None:
    """The records of everything that the job would save, if another driver has saved it since this one planned."""
    records = [record for key in job.keys if (record := store.held(*key)) is not None]
    try:
        for record in records:
            store.open(record)
    except CorruptError:
        return None
    return records if len(records) == len(job.keys) else None
