"""Where the time of an extraction goes: the seconds of its workers by kind, and those in which they wait for work."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from pipeline.cache.atomic import publish

DECODE, LOAD, READ, STORE, REFERENCE = "decode", "load", "read", "store", "references"
"""What a job does outside its stages: waits for raw input, loads stages, reads rows of other stages, and saves shards
(makes a table, compresses, writes and hashes it). References are what stages take on the built-in sample."""
START, OTHER, IDLE = "start", "other", "idle"
"""What a run takes before and after its jobs, what a job takes beside all that is measured, and waiting for a job."""

T = TypeVar("T")
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@contextmanager
def timed(times: Counter[str], kind: str) -> Iterator[None]:
    """Adds the seconds of this context to a kind."""
    began = time.perf_counter()
    try:
        yield
    finally:
        times[kind] += time.perf_counter() - began  # type: ignore[assignment] # a Counter adds up seconds as well


def waited(times: Counter[str], kind: str, values: Iterable[T]) -> Iterator[T]:
    """The values; adds the seconds that the caller waits for them to a kind."""
    source = iter(values)
    while True:
        with timed(times, kind):
            value = next(source, source)
        if value is source:
            return
        yield value  # type: ignore[misc] # not the source


@checked(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class TimeSpent:
    """What a run took. seconds: of all workers together by kind, stages by name; their sum is `wall_s` times `workers`.

    idle_s: the seconds that each worker waited for a job, the busiest worker first.
    """

    wall_s: _Seconds
    workers: int
    seconds: Mapping[str, _Seconds]
    idle_s: tuple[_Seconds, ...]

    @property
    def shares(self) -> dict[str, float]:
        """The share of each kind, the largest first."""
        total = sum(self.seconds.values()) or 1.0
        return {kind: value / total for kind, value in sorted(self.seconds.items(), key=lambda entry: -entry[1])}

    @property
    def line(self) -> str:
        """The shares in one line, without those that round to zero."""
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in self.shares.items() if share >= 0.005)
        return f"Time: {self.wall_s:,.1f} s on {self.workers} worker{'s' * (self.workers != 1)}: {shares}"

    def answer(self) -> dict[str, object]:
        """The same as JSON-able data."""
        seconds = {kind: round(value, 3) for kind, value in self.seconds.items()}
        shares = {kind: round(share, 4) for kind, share in self.shares.items()}
        idle_s = [round(value, 3) for value in self.idle_s]
        return {
            "wall_s": round(self.wall_s, 3),
            "workers": self.workers,
            "seconds": seconds,
            "share": shares,
            "idle_s": idle_s,
        }


@dataclass
class Clock:
    """The time of a run as it goes on. working_s: of it, while workers could take jobs. workers: their number."""

    began: float = field(default_factory=time.perf_counter)
    working_s: float = 0.0
    workers: int = 0

    @contextmanager
    def working(self, workers: int) -> Iterator[None]:
        """Counts the time of this context as one in which so many workers could take jobs."""
        self.workers = max(self.workers, workers)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.working_s += time.perf_counter() - began

    def spent(
        self, stages: Mapping[str, float], times: Mapping[str, float], busy: Mapping[str, float]
    ) -> TimeSpent | None:
        """What the run took until now; None if it had no workers.

        stages, times: the seconds of jobs by stage, and by kind outside stages. busy: by worker, of its jobs in all.
        """
        if not self.workers:
            return None
        wall_s, known = time.perf_counter() - self.began, sum(stages.values()) + sum(times.values())
        everyone = [*busy.values(), *[0.0] * (self.workers - len(busy))]
        idle_s = sorted(max(0.0, self.working_s - seconds) for seconds in everyone)
        between = {
            START: (wall_s - self.working_s) * self.workers,
            OTHER: max(0.0, sum(busy.values()) - known),
            IDLE: max(0.0, self.working_s * self.workers - sum(busy.values())),
        }
        return TimeSpent(wall_s, self.workers, {**stages, **times, **between}, tuple(idle_s))


_SPENT = TypeAdapter(TimeSpent)


def keep(home: Path, dataset: str, spent: TimeSpent) -> None:
    """Keeps what the last extraction of a dataset took that had something to do."""
    publish(_place(home, dataset), json.dumps(asdict(spent), indent=1))


def kept(home: Path, dataset: str) -> TimeSpent | None:
    """What the last extraction took; None if nothing is kept, or something that this version does not read."""
    try:
        spent: TimeSpent = _SPENT.validate_json(_place(home, dataset).read_bytes())
    except (OSError, ValidationError):
        return None
    return spent


def _place(home: Path, dataset: str) -> Path:
    return home / "history" / dataset / "time.json"
