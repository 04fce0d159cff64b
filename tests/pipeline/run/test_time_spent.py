"""Where the time of an extraction went adds up to the whole of it, and is shown."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from pipeline.run import time_spent
from pipeline.run.time_spent import DECODE, IDLE, LOAD, START, STORE, Clock, waited
from tests.small import Small


def test_the_seconds_of_all_kinds_are_those_of_the_run_times_its_workers(small: Small) -> None:
    small.extract(modality="audio")
    spent = small.last.spent
    assert spent is not None and spent.workers == 1
    assert {"audio_mfcc", "audio_opensmile", DECODE, LOAD, STORE, START, IDLE} <= spent.seconds.keys()
    assert sum(spent.seconds.values()) == pytest.approx(spent.wall_s)
    assert sum(spent.shares.values()) == pytest.approx(1)
    assert spent.seconds[STORE] > 0 and spent.seconds["audio_opensmile"] > spent.seconds[IDLE]


def test_it_is_kept_for_the_report_and_a_run_without_work_leaves_it(small: Small) -> None:
    small.extract(features=("sound",))
    kept = time_spent.kept(small.home, small.name)
    small.extract(features=("sound",))
    assert small.last.spent is None
    assert kept is not None and time_spent.kept(small.home, small.name) == kept
    (small.home / "history" / small.name / "time.json").write_text("{}")
    assert time_spent.kept(small.home, small.name) is None


def test_a_worker_without_a_job_is_idle_all_the_time_that_others_work() -> None:
    clock = Clock()
    clock.workers, clock.working_s, clock.began = 3, 10.0, clock.began - 12.0
    spent = clock.spent({"stage": 8.0}, {STORE: 1.0}, {"one": 10.0, "two": 4.0})
    assert spent is not None and spent.idle_s == (0.0, 6.0, 10.0)
    assert spent.seconds[IDLE] == 16.0 and spent.seconds["other"] == 5.0
    assert spent.seconds[START] == pytest.approx(6.0, abs=0.5)
    assert json.loads(json.dumps(spent.answer()))["share"]["stage"] == pytest.approx(8 / 36, abs=0.01)
    assert spent.line.startswith("Time: 12.0 s on 3 workers: idle 44%, stage 22%")


def test_only_waiting_for_a_value_counts_and_not_what_is_done_with_it() -> None:
    times = Counter[str]()
    for _ in waited(times, DECODE, range(3)):
        before = times[DECODE]
        sum(range(10_000))
        assert times[DECODE] == before
    assert times[DECODE] > 0
