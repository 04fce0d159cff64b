"""Gives the jobs of a plan to workers, each once, and plans again when what has ended makes others possible."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.plan.catalogue import Catalogue
from pipeline.plan.jobs import ExtractJob, FitJob, Job
from pipeline.run.outcome import Died
from pipeline.stage import Modality

log = logging.getLogger(__name__)

SLOWEST: Sequence[Modality] = ("visual", "audio", "text")
"""The modalities by what a row of them takes, as a rule; its own rate may be unknown."""

Watch = Callable[[Sequence[Job], Job | None], None]
"""Told of new jobs, and of every job that ended."""


class JobQueue:
    """Gives each job once. It plans again when a fit has ended, when the last rows that some fit may learn from have
    been saved, and when jobs that had to be held back may have become possible."""

    def __init__(self, catalogue: Catalogue, jobs: Sequence[Job], plan: Callable[[], Sequence[Job]], watch: Watch):
        self.plan, self.watch = plan, watch
        self.isolated: list[ExtractJob] = []
        self._upstream = {node.digest for rows in catalogue for node in rows.node.upstream}
        self._fresh: list[Job] = list(jobs)
        self._given: set[tuple[str, str]] = set()
        self._given_ids: set[str] = set()
        self._open: set[str] = set()
        self._feeding: set[str] = set()
        self._stale = self._held_back = False

    def more(self) -> list[Job]:
        """Jobs not given before, the most urgent first."""
        if self._stale or (self._held_back and not self._open):
            self._fresh, self._stale, self._held_back = list(self.plan()), False, False
        left = [job for job in map(self._left, self._fresh) if job is not None]
        feeding = {job.id for job in left if self._feeds(job)}
        new = sorted(left, key=lambda job: _urgency(job, job.id in feeding))
        self._fresh = []
        self._given.update(key for job in new for key in job.keys)
        self._given_ids.update(job.id for job in new)
        self._open.update(job.id for job in new)
        self._feeding |= feeding
        self.watch(new, None)
        return new

    def ended(self, job: Job) -> None:
        """Plans again next time if others may have waited for this job."""
        self._open.discard(job.id)
        last = job.id in self._feeding and len(self._feeding) == 1
        self._feeding.discard(job.id)
        self._stale = self._stale or isinstance(job, FitJob) or last

    def isolate(self, job: ExtractJob, death: Died) -> None:
        """Keeps a job that killed its workers for another run, row by row."""
        log.warning("a job of %s killed its workers; running it row by row: %s", job.modality, death.message)
        self.isolated.append(job)

    def _left(self, job: Job) -> Job | None:
        """The runs of a job that were not given before: a shard that is under way, or partly saved, is not asked for
        again. None if nothing is left, or if what is left reads something under way: a later plan has it."""
        if not isinstance(job, ExtractJob):
            return None if job.id in self._given_ids else job
        left = [run for run in job.runs if run.key not in self._given]
        under_way = {run.node for run in job.runs if run.key in self._given}
        if any(up in under_way and up.name not in run.stored for run in left for up in run.node.upstream):
            self._held_back = True
            return None
        return replace(job, runs=tuple(left)) if left else None

    def _feeds(self, job: Job) -> bool:
        """True for rows of a stage that other stages read."""
        return isinstance(job, ExtractJob) and any(node.digest in self._upstream for node in job.nodes)


def _urgency(job: Job, feeds: bool) -> tuple[int, int, int]:
    """The least is the most urgent: fits and references, then rows that other stages read, then the modality that takes
    longest and of it the largest shard, so that what is left for the end is small."""
    if not isinstance(job, ExtractJob):
        return 0, 0, 0
    return 2 - feeds, SLOWEST.index(job.modality), -len(job.rows)
