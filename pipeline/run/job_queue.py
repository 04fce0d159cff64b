"""Whose turn it is: gives the jobs of a plan to workers, each once, and plans again as fits end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.plan.catalogue import Planner
from pipeline.plan.jobs import ExtractJob, FitJob, Job
from pipeline.plan.planned import Plan
from pipeline.reason import Died

log = logging.getLogger(__name__)

Watch = Callable[[Sequence[Job], Job | None], None]
"""Told of new jobs, and of every job that ended."""


class Turns:
    """Gives each job once; plans again when a fit has ended or nothing is left, so that a fit's dependants start."""

    def __init__(self, planner: Planner, plan: Plan, watch: Watch) -> None:
        self.planner, self.watch = planner, watch
        self.isolated: list[ExtractJob] = []
        self._fresh: list[Job] = list(plan.jobs)
        self._given: set[tuple[str, str]] = set()
        self._open: dict[str, Job] = {}
        self._stale = False

    def more(self) -> list[Job]:
        """Jobs not given before, fits first."""
        if self._stale or not (self._fresh or self._open):
            self._fresh, self._stale = self.planner.plan().jobs, False
        left = [job for job in map(self._left, self._fresh) if job is not None]
        new = sorted(left, key=lambda job: not isinstance(job, FitJob))
        self._fresh = []
        self._given.update(key for job in new for key in job.keys)
        self._open.update((job.id, job) for job in new)
        self.watch(new, None)
        return new

    def _left(self, job: Job) -> Job | None:
        """What of a job was not given before: a shard that is under way, or partly saved, is not asked for again.

        None where nothing is left, or where what is left stands on something under way: it comes with a later plan.
        """
        if isinstance(job, FitJob):
            return None if self._given.issuperset(job.keys) else job
        left = [run for run in job.runs if run.key not in self._given]
        under_way = {run.node for run in job.runs if run.key in self._given}
        if not left or any(up in under_way and up.name not in run.stored for run in left for up in run.node.upstream):
            return None
        return replace(job, runs=tuple(left))

    def died(self, job: Job, death: Died) -> None:
        """Keeps a job that killed its workers for another run, row by row. A fit cannot be cut: that is an error."""
        if isinstance(job, FitJob):
            raise RuntimeError(f"fitting {job.node.name} on {job.scope} killed its workers: {death.reason}")
        log.warning("a job of %s killed its workers; running it row by row: %s", job.modality, death.reason)
        self.isolated.append(job)

    def ended(self, job: Job) -> None:
        """Plans again next time where others may have waited for it."""
        self._open.pop(job.id, None)
        last = self._feeds_fit(job) and not any(map(self._feeds_fit, self._open.values()))
        self._stale = self._stale or isinstance(job, FitJob) or last

    def _feeds_fit(self, job: Job) -> bool:
        """True for rows of a stage that others stand on."""
        feeding = {up.name for node, _ in self.planner.wanted for up in node.upstream}
        return isinstance(job, ExtractJob) and any(run.node.name in feeding for run in job.runs)
