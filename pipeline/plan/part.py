"""A part of a plan, for many calls without a scheduler between them: the third of forty does its own shards alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.errors import InputError
from pipeline.plan.jobs import ExtractJob, Job, Plan, ReferenceJob

_WRITTEN = re.compile(r"([1-9]\d*)/([1-9]\d*)")


@dataclass(frozen=True)
class Part:
    """The part `number` of `parts` about equal ones, counted from 1.

    A shard belongs to the part in which its first row lies, by the row's place in the manifest. That depends neither on
    the stage nor on what is cached, so that calls at different times never do the same shard.
    """

    number: int
    parts: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """A part written as `3/40`. Raises InputError for anything else, and for a number beyond the parts."""
        written = _WRITTEN.fullmatch(text)
        if not written or int(written[1]) > int(written[2]):
            raise InputError(f"--part {text}: expected <number>/<parts>, such as 3/40 for the third of forty parts")
        return cls(int(written[1]), int(written[2]))

    def of(self, plan: Plan, place: Mapping[str, int]) -> Plan:
        """The extraction jobs of this part. Fits are left to a call without a part, since each needs rows of all parts.
        References are the first part's.

        place: of each utterance in the manifest, from 0.
        """
        return replace(plan, jobs=[job for job in plan.jobs if self._has(job, place)])

    def _has(self, job: Job, place: Mapping[str, int]) -> bool:
        if not isinstance(job, ExtractJob):
            return isinstance(job, ReferenceJob) and self.number == 1
        return place[job.rows[0].id] * self.parts // len(place) == self.number - 1
