"""The parts of a plan are disjoint and together the whole, whenever each is planned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.plan.jobs import ExtractJob, FitJob, Plan
from pipeline.plan.part import Part
from pipeline.utterance import Utterance
from tests.clips import LEARNED_SET, WORDS_SET, Clips, talk
from tests.pipeline.run.test_cache_rules import same
from tests.pipeline.run.test_crash import command, named_wrongly, saved_rows

TOGETHER = 8


@pytest.fixture
def table(tmp_path: Path) -> Clips:
    return talk(tmp_path)


def ids(plan: Plan) -> list[str]:
    return sorted(job.id for job in plan.jobs)


def test_the_parts_of_a_plan_are_its_extraction_jobs_each_once(table):
    whole = ids(table.session().plan())
    for parts in (1, 2, 3, 7, 40):
        each = [ids(table.session(part=f"{number}/{parts}").plan()) for number in range(1, parts + 1)]
        assert sorted(job for part in each for job in part) == whole and len(whole) > 4


def test_a_part_is_the_same_whatever_others_have_done_meanwhile(table):
    second = ids(table.session(part="2/3").plan())
    assert table.extract(part="1/3") and ids(table.session(part="2/3").plan()) == second
    assert table.extract(part="3/3") and ids(table.session(part="2/3").plan()) == second


def test_a_part_leaves_fits_to_a_call_without_a_part_which_does_what_is_left(tmp_path):
    table = talk(tmp_path, sets=WORDS_SET + LEARNED_SET)
    assert any(isinstance(job, FitJob) for job in table.session().plan().jobs)
    for number in (1, 2):
        table.extract(part=f"{number}/2")
        assert table.count("calls").keys() == {"text_word2vec " + node.digest[:6] for node in frozen(table)}
    left = table.session().plan().jobs
    assert [type(job) for job in left] == [FitJob]
    table.extract()
    assert table.session().plan().jobs == []


def frozen(table):
    return [rows.node for rows in table.session().catalogue if not rows.node.scoped]


def test_a_part_notes_no_extraction_and_builds_no_view(table):
    table.extract(part="1/2")
    assert not (table.home / "history").exists() and not (table.home / "views").exists()


@pytest.mark.slow
def test_eight_parts_at_once_make_the_cache_of_one_run_and_compute_nothing_twice(tmp_path):
    for name in ("parts", "alone"):
        (tmp_path / name).mkdir()
    table, alone = talk(tmp_path / "parts"), talk(tmp_path / "alone")
    table.session()  # writes the table, which the processes read
    processes = [
        command(table, "--part", f"{number}/{TOGETHER}", "--workers", "0") for number in range(1, TOGETHER + 1)
    ]
    answers = [json.loads(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * TOGETHER
    computed = [sum(answer["computed"].values()) for answer in answers]
    assert sum(computed) == len(table.lines) == saved_rows(table) and sum(map(bool, computed)) > 2
    assert alone.extract() and same(table.rows(), alone.rows()) and not named_wrongly(table)
    assert table.extract() == {}


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "1/0", "3", "a/b", "1/4/2", "-1/4", "1 / 4"])
def test_what_is_no_part_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="such as 3/40"):
        Part.parse(text)


@given(rows=st.integers(1, 300), parts=st.integers(1, 50))
def test_every_row_is_in_one_part_and_parts_differ_by_a_row_at_most(rows, parts):
    place = {f"u{number}": number for number in range(rows)}
    jobs = [ExtractJob("text", Path(), (Utterance(id=name, dialogue="d", turn=0),), ()) for name in place]
    counts = [len(Part(number, parts).of(Plan(jobs=list(jobs)), place).jobs) for number in range(1, parts + 1)]
    assert sum(counts) == rows and max(counts) - min(counts) <= 1
