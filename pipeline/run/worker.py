"""What a worker does with one job: looks whether somebody saved it meanwhile, does it, and hands the outcome on."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.cache.store import CorruptError, Store
from pipeline.plan.jobs import ExtractJob, Job, ReferenceJob
from pipeline.run.exchange import Exchange
from pipeline.run.extract_job import compute, extract
from pipeline.run.fit_job import NotYetError, fit
from pipeline.run.outcome import Again, Outcome
from pipeline.run.reference_job import reference
from pipeline.run.save_shard import Part, save_parts
from pipeline.run.stage_calls import Knobs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Divisible:
    """A function of a job that can also be done in parts, with the same result, so that several workers do it at once.

    whole(job, *arguments). split(job, count): at most so many jobs, or the job alone. part(job, *arguments) of each,
    and join(job, found, *arguments) of what these returned.
    """

    whole: Callable[..., Any]
    split: Callable[[Any, int], Sequence[Any]]
    part: Callable[..., Any]
    join: Callable[..., Any]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Does a job as a whole."""
        return self.whole(*arguments, **named)

    def pieces(self, job: Any, count: int) -> list[Any]:
        """The parts of a job as pieces of it, `count` at most; the job itself if it stays whole."""
        parts = self.split(job, count)
        divided = Divided(self, job, len(parts))
        return [Piece(part, divided) for part in parts] if len(parts) > 1 else [job]


@dataclass(eq=False)
class Divided:
    """A job that is done in so many pieces. by: what does them. found: what stands for the results of those that have
    ended. failed: whether one of them failed, so that the job is given up.
    """

    by: Divisible
    job: Any
    pieces: int
    found: list[Any] = field(default_factory=list)
    failed: bool = False

    def whole(self, found: Any) -> bool:
        """Takes the result of a piece; True if it was the last one."""
        self.found.append(found)
        return len(self.found) == self.pieces

    def give_up(self) -> bool:
        """Notes that a piece failed; True if it is the first one that did."""
        first, self.failed = not self.failed, True
        return first


@dataclass(eq=False)
class Piece:
    """One part of a job."""

    part: Any
    of: Divided

    @property
    def gpu(self) -> bool:
        """True if it wants a GPU."""
        return bool(self.part.gpu)


def run(job: Job, exchange: Exchange, knobs: Knobs) -> Outcome | Again:
    """Does one job on a worker, and says how long that took. Raises InputError where this machine can't do it."""
    return _attempt(job, exchange, knobs, _done)


def split(job: Job, count: int) -> Sequence[Job]:
    """The parts of a job; fits and references stay whole."""
    return job.parts(count) if isinstance(job, ExtractJob) else [job]


def part(job: ExtractJob, exchange: Exchange, knobs: Knobs) -> Part | Outcome | Again:
    """Computes the rows of a part of a job, and saves nothing; the outcome of the job if it is saved already."""
    return _attempt(job, exchange, knobs, _computed)


def join(job: ExtractJob, found: Sequence[Part | Outcome | Again], exchange: Exchange, knobs: Knobs) -> Outcome | Again:
    """Saves the rows of all parts of a job. What is no part is the answer for the whole job."""
    parts = [each for each in found if isinstance(each, Part)]
    if len(parts) < len(found):
        return next(each for each in found if not isinstance(each, Part))
    return _attempt(job, exchange, knobs, lambda job, store, knobs: save_parts(parts, job, store))


WORK = Divisible(run, split, part, join)
"""What a worker does with a job."""

R = TypeVar("R", Outcome, Part)


def _attempt(job: Job, exchange: Exchange, knobs: Knobs, do: Callable[[Any, Store, Knobs], R]) -> R | Outcome | Again:
    """What `do` makes of a job, and how long it took; the outcome of the job if it is saved already, and `Again` if
    something upstream is not as it has to be."""
    began = time.perf_counter()
    store, knobs = exchange.store(), knobs.on_worker(job.gpu)
    try:
        result = _saved(job, store) or do(exchange.localised(job), store, knobs)
    except CorruptError as error:
        log.warning("%s", error)
        return Again(error.message, error.ref)
    except NotYetError as error:
        log.warning("%s", error)
        return Again(str(error))
    shared = exchange.share(store, result) if isinstance(result, Outcome) else result
    worker = f"{socket.gethostname()} {os.getpid()}"
    shared.busy[worker] = shared.busy.get(worker, 0.0) + time.perf_counter() - began
    return shared


def _done(job: Job, store: Store, knobs: Knobs) -> Outcome:
    if isinstance(job, ReferenceJob):
        return reference(job, store)
    return extract(job, store, knobs) if isinstance(job, ExtractJob) else fit(job, store, knobs)


def _computed(job: ExtractJob, store: Store, knobs: Knobs) -> Part:
    found = Part()
    found.runs += [run.bare() for run in compute(job, store, knobs, found.times)]
    return found


def _saved(job: Job, store: Store) -> Outcome | None:
    """The outcome of a job of which another driver has saved everything since this one planned."""
    records = [record for key in job.keys if (record := store.held(*key)) is not None]
    try:
        for record in records:
            store.open(record)
    except CorruptError:
        return None
    return Outcome(job.modality, saved=records) if len(records) == len(job.keys) else None
