"""What became of one job, and of all jobs of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.cache.record import Record, Ref
from pipeline.run.time_spent import TimeSpent


@dataclass
class Outcome:
    """What one job did: by stage, rows computed and copied, calls of the stage, seconds, and reasons and messages by
    utterance.

    On a worker a stage is named by its digest, that of a fit followed by `FITS`. saved: the records of what was saved.
    times: seconds outside stages, by kind. busy: seconds in all, by worker. See `pipeline.run.time_spent`.
    """

    modality: str
    computed: Counter[str] = field(default_factory=Counter)
    copied: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, dict[str, str]] = field(default_factory=dict)
    messages: dict[str, dict[str, str]] = field(default_factory=dict)
    saved: list[Record] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)
    busy: dict[str, float] = field(default_factory=dict)

    def add(self, other: Outcome, names: Mapping[str, str] | None = None) -> None:
        """Adds another job's outcome to this one, under other names of the stages if they are given."""
        called = names or {}
        for kind in ("computed", "copied", "calls", "seconds", "times", "busy"):
            mine = getattr(self, kind)
            for stage, count in getattr(other, kind).items():
                name = called.get(stage, stage)
                mine[name] = mine.get(name, 0) + count
        for kind in ("reasons", "messages"):
            for stage, said in getattr(other, kind).items():
                getattr(self, kind).setdefault(called.get(stage, stage), {}).update(said)


@dataclass(frozen=True)
class Again:
    """The outcome of a job that has to wait for an upstream object, which is damaged, or for a row that failed for a
    transient reason.

    lost: the object that is damaged or gone, if that is why.
    """

    message: str
    lost: Ref | None = None


@dataclass(frozen=True)
class Died:
    """The outcome of a job that killed its workers. peak_bytes: the most memory that a worker of this machine used
    before it ended, 0 if that is unknown."""

    message: str
    peak_bytes: int = 0

    @property
    def advice(self) -> str:
        """The likely cause, and what to lower."""
        memory = f", the largest with {self.peak_bytes / 2**30:.1f} GB of memory" if self.peak_bytes else ""
        return (
            f"killed its workers{memory}. If memory is why, run fewer at once (WORKERS=1) or lower the batch or the "
            "length of its clips in the recipe"
        )


@dataclass
class RunCounts:
    """What a run did, by modality. names: of stages, by digest. waiting: by job, why it could not be done.

    spent: what it took; None if there was nothing to do.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    cached: dict[str, int] = field(default_factory=dict)
    jobs: int = 0
    waiting: dict[str, str] = field(default_factory=dict)
    spent: TimeSpent | None = None

    def add(self, outcome: Outcome) -> None:
        """Adds the outcome of one job."""
        self.outcomes.setdefault(outcome.modality, Outcome(outcome.modality)).add(outcome, self.names)
        self.jobs += 1

    def total(self) -> Outcome:
        """The sum over modalities."""
        total = Outcome("all")
        for outcome in self.outcomes.values():
            total.add(outcome)
        return total
