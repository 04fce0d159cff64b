"""Drives an extraction: sends jobs to workers, plans again as fits end, and counts what became of each row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.cache.record import FITS
from pipeline.corpus.open_corpus import CorpusLocation
from pipeline.corpus.recipe import distinct_names
from pipeline.errors import InputError
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.jobs import ExtractJob, Job, Plan
from pipeline.reason import Reason
from pipeline.run.exchange import Exchange, OwnCache, SharedCache, adopt, inodes, shares, token
from pipeline.run.inline_workers import Inline
from pipeline.run.job_queue import JobQueue, Watch
from pipeline.run.outcome import Again, Died, Outcome, RunCounts
from pipeline.run.stage_calls import Knobs
from pipeline.run.time_spent import Clock
from pipeline.run.worker import WORK, run

if TYPE_CHECKING:
    from pipeline.run.dask_workers import Workers  # Dask takes half a second to import: only if there is work

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often a run plans again after an upstream object turned out corrupt, or a fit had to wait for a row; in the last
round fits leave out the rows that they have to wait for."""


def drive(
    catalogue: Catalogue,
    plan: Callable[[], Plan],
    start: Callable[[Plan], Workers | Inline],
    knobs: Knobs,
    watch: Watch,
    location: CorpusLocation | None = None,
) -> RunCounts:
    """Runs all jobs of a catalogue. `start` gets the plan and gives the workers; it is not called if there is no job.

    location: where workers that do not see this machine's disk find the corpus; they need a remote.
    """
    driver, clock = _Driver(catalogue, plan, watch), Clock()
    todo = plan()
    driver.counts.cached = {driver.names[node.digest]: count for node, count in todo.cached.items()}
    for left in reversed(range(ROUNDS)):
        driver.counts.waiting = dict(driver.hopeless)
        if not driver.possible(todo):
            break
        with start(todo) as workers:
            exchange = _exchange(catalogue, workers, location)
            with clock.working(workers.width):
                sound = driver.round(todo, workers, exchange, replace(knobs, lenient=not left))
        if sound:
            break
        todo = plan()
    total = driver.counts.total()
    driver.counts.spent = clock.spent(total.seconds, total.times, total.busy)
    return driver.counts


class _Driver:
    """One run over a catalogue: what has been counted, and what killed its workers and is not tried again.

    hopeless: jobs that were given up, with a message for each. apart: shards that were computed row by row.
    """

    def __init__(self, catalogue: Catalogue, plan: Callable[[], Plan], watch: Watch) -> None:
        self.catalogue, self.plan, self.watch = catalogue, plan, watch
        called = distinct_names(node for node, _ in catalogue.wanted)
        self.names = {node.digest: name for node, name in called.items()}
        self.counts = RunCounts(self.names | {f"{stage}{FITS}": f"{name} (fit)" for stage, name in self.names.items()})
        self.hopeless: dict[str, str] = {}
        self.apart: set[tuple[str, str]] = set()

    def possible(self, plan: Plan) -> list[Job]:
        """The jobs that did not kill their workers."""
        return [job for job in plan.jobs if job.id not in self.hopeless and not self.apart.issuperset(job.keys)]

    def round(self, plan: Plan, workers: Workers | Inline, exchange: Exchange, knobs: Knobs) -> bool:
        """Runs a plan and what its fits make possible; False if planning again may make more possible.

        Jobs that killed their workers are run once more at the end, row by row.
        """
        queue = JobQueue(self.catalogue, self.possible(plan), lambda: self.possible(self.plan()), self.watch)
        sound = self._send(queue, queue.more, workers, exchange, knobs)
        if queue.isolated:
            self.apart.update(key for job in queue.isolated for key in job.keys)
            once = iter([queue.isolated])
            self._send(queue, lambda: next(once, []), workers, exchange, replace(knobs, isolated=True))
        return sound and not queue.isolated

    def _send(
        self,
        queue: JobQueue,
        more: Callable[[], Sequence[Job]],
        workers: Workers | Inline,
        exchange: Exchange,
        knobs: Knobs,
    ) -> bool:
        """Sends jobs until there are no more; False if one has to wait for something upstream."""
        sound, store = True, self.catalogue.store
        work: Callable[..., Any] = run if knobs.isolated else WORK
        for job, result in workers.run(work, lambda: exchange.offer(store, more()), exchange, knobs):
            if isinstance(result, Outcome):
                self._done(job, result)
            elif isinstance(result, Died):
                self._died(queue, job, result, knobs)
            else:
                sound = False
                self._wait(job, result)
            queue.ended(job)
        return sound

    def _done(self, job: Job, outcome: Outcome) -> None:
        adopt(self.catalogue.store, outcome.saved)
        self._log_failed(outcome)
        self.counts.add(replace(outcome, saved=[]))
        self.watch((), job)

    def _log_failed(self, outcome: Outcome) -> None:
        """Names every row of a job that failed in the log of the run, whichever worker computed it."""
        for stage, reasons in outcome.reasons.items():
            for name, reason in reasons.items():
                if Reason(reason).failed:
                    said = outcome.messages[stage].get(name, "no message")
                    log.info("%s: %s failed: %s: %s", self.names[stage], name, reason, said)

    def _wait(self, job: Job, again: Again) -> None:
        self.counts.waiting[job.id] = again.message
        if again.lost is not None:
            self.catalogue.store.distrust(again.lost)

    def _died(self, queue: JobQueue, job: Job, death: Died, knobs: Knobs) -> None:
        """Keeps a job for another run, row by row. A fit or a reference is given up: it is not run in parts."""
        if isinstance(job, ExtractJob) and not knobs.isolated:
            queue.isolate(job, death)
            return
        if isinstance(job, ExtractJob):
            name = f"a job of {len(job.rows)} rows of {job.modality}, row by row,"
        else:
            name = job.name
        self.hopeless[job.id] = self.counts.waiting[job.id] = f"{name} {death.advice}"


def _exchange(catalogue: Catalogue, workers: Workers | Inline, location: CorpusLocation | None) -> Exchange:
    """Through the cache alone if all workers see it, else through the remote. Raises InputError if there is none."""
    store, root = catalogue.store, catalogue.manifest.root
    url = store.remote.url if store.remote else ""
    workers.preflight()
    with token(store.root) as seen:
        if workers.agree(partial(shares, store.root, inodes(seen, root))):
            return SharedCache(store.root, url)
    if not url or location is None:
        raise InputError(
            f"not every worker sees {store.root} and {root}, or some have an AFFECTORY_HOME of their own: mount them "
            "there, or set AFFECTORY_REMOTE, through which they then exchange shards"
        )
    workers.everywhere(location.ready)
    return OwnCache(url, location)
