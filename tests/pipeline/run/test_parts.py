"""The last jobs of a run are computed in parts by several workers, and give what whole jobs give."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipeline.cache.store import Store
from pipeline.plan.jobs import PART_ROWS, ExtractJob
from pipeline.plan.planner import plan
from pipeline.run.dask_workers import Workers
from pipeline.run.inline_workers import Inline
from pipeline.run.outcome import Again, Died, Outcome
from pipeline.run.worker import WORK, Divisible, join
from tests.pipeline.run.test_cache_rules import same
from tests.small import driven


class InParts(Inline):
    """Workers that do every job in three parts, if it has so many."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def run(self, function: Any, more: Any, *arguments: Any) -> Iterator[tuple[Any, Any]]:
        def whole(job: Any, *arguments: Any) -> Any:
            parts = function.split(job, 3)
            self.counts.append(len(parts))
            if len(parts) == 1:
                return function(job, *arguments)
            return function.join(job, [function.part(part, *arguments) for part in parts], *arguments)

        return super().run(whole, more, *arguments)


def audio_jobs(small) -> list[ExtractJob]:
    catalogue = small.session(modality="audio").catalogue
    return [job for job in plan(catalogue).jobs if isinstance(job, ExtractJob)]


def test_parts_have_all_rows_once_in_order_with_their_keys(small):
    for job in audio_jobs(small):
        parts = job.parts(3)
        assert len(parts) == min(3, len(job.rows) // PART_ROWS)
        assert sum((part.rows for part in parts), ()) == job.rows
        for number, run in enumerate(job.runs):
            assert sum((part.runs[number].keys for part in parts), ()) == run.keys
        assert max(len(part.rows) for part in parts) <= 1 + min(len(part.rows) for part in parts)


def test_a_job_that_has_too_few_rows_for_two_parts_stays_whole(small):
    job = replace(audio_jobs(small)[0], rows=audio_jobs(small)[0].rows[: 2 * PART_ROWS - 1])
    assert [part.rows for part in job.parts(4)] == [job.rows]


def test_rows_counts_and_reasons_of_jobs_in_parts_are_those_of_whole_jobs(small, demo_root, extracted_home):
    (small.root / small.session().corpus.manifest.rows[5].audio[0].path).unlink()
    workers, session = InParts(), small.session(modality="audio")
    counts = driven(session.catalogue, workers).total()
    assert max(workers.counts) > 1
    rows, found = len(session.corpus.manifest.rows), small.rows()
    assert dict(counts.computed) == {"audio_mfcc": rows, "audio_opensmile": rows}
    assert {reason for reasons in counts.reasons.values() for reason in reasons.values()} == {"missing_file"}
    assert sum(counts.busy.values()) >= sum(counts.seconds.values()) > 0
    expected = type(small)(demo_root, extracted_home, small.path).rows()
    sound = {place: row for place, row in found.items() if row[1].values is not None and place[0].startswith("audio")}
    assert len(sound) == 2 * (rows - 1)
    assert same(sound, {place: expected[place] for place in sound})


def test_a_part_that_has_to_wait_speaks_for_the_job_and_nothing_is_saved(small):
    job, again = audio_jobs(small)[0], Again("an upstream shard is damaged")
    assert join(job, [Outcome("audio"), again], None, None) == Outcome("audio")  # type: ignore[arg-type]
    assert join(job, [again], None, None) is again  # type: ignore[arg-type]
    assert not any(Store(small.home / "cache").held(*key) for key in job.keys)


# --- on Dask ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    """A job that adds up numbers."""

    id: str
    numbers: tuple[int, ...]
    gpu: bool = False


def whole(job: Sum) -> tuple[str, int]:
    return "whole", sum(job.numbers)


def halves(job: Sum, count: int) -> Sequence[Sum]:
    return [Sum(job.id, job.numbers[:2]), Sum(job.id, job.numbers[2:])] if count > 1 else [job]


def half(job: Sum) -> int:
    return sum(job.numbers)


def added(job: Sum, found: Sequence[int]) -> tuple[str, int]:
    return f"{len(found)} parts", sum(found)


def deadly(job: Sum) -> int:
    os._exit(9)


def once(jobs):
    given = iter([jobs])
    return lambda: next(given, [])


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    with Workers(count=2) as cluster:
        yield cluster


def test_jobs_are_done_in_parts_once_no_more_of_them_wait_than_there_are_workers(two):
    jobs = [Sum(f"s{number}", (1, 2, number)) for number in range(5)]
    found = dict(two.run(Divisible(whole, halves, half, added), once(jobs)))
    assert [found[job][1] for job in jobs] == [3 + number for number in range(5)]
    assert [found[job][0] for job in jobs] == ["whole", "whole", "whole", "2 parts", "2 parts"]


def test_an_error_of_a_part_is_raised_here(two):
    jobs = [Sum("s", (1, "text", 3))]  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        list(two.run(Divisible(whole, halves, half, added), once(jobs)))


@pytest.mark.slow
def test_a_job_whose_part_kills_its_workers_has_died(two):
    [(_, found)] = two.run(Divisible(whole, halves, deadly, added), once([Sum("s", (1, 2, 3))]))
    assert isinstance(found, Died)


@pytest.mark.slow
def test_two_workers_that_share_the_last_shards_give_the_rows_of_one_process(small, extracted_home):
    session = small.session(modality="audio")
    assert any(len(WORK.split(job, 2)) == 2 for job in plan(session.catalogue).jobs)
    driven(session.catalogue, Workers(count=2))
    expected = type(small)(small.root, extracted_home, small.path).rows()
    found = {place: row for place, row in small.rows().items() if place[0].startswith("audio")}
    assert len(found) == 120 and same(found, {place: expected[place] for place in found})
