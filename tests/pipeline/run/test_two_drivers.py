"""Two drivers on one cache, and two machines on one remote, at the same time: the end is as if there were one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.cache import keys, shards
from pipeline.cache.home import Home
from pipeline.cache.record import FITS
from pipeline.cache.remote import Remote
from pipeline.corpus.open_corpus import Options
from pipeline.plan.jobs import named
from pipeline.plan.session import Session
from pipeline.run import extraction
from pipeline.stage import State
from pipeline.transfer import push_pull
from stages.text_word2vec import TextWord2vec
from tests.clips import LEARNED_SET, WORDS_SET, talk
from tests.pipeline.run.test_cache_rules import same
from tests.pipeline.run.test_crash import actions, command, frozen, named_wrongly, saved_rows, shapes
from tests.small import Small

SETS = WORDS_SET + LEARNED_SET


def answers(teams: list[Small]) -> list[dict]:
    """What `affectory extract` answers for each team, all started together."""
    processes = [command(team) for team in teams]
    outs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(teams)
    return [json.loads(out) for out in outs]


def states(made: Small) -> dict[str, list[str]]:
    """The states of each fit, by stage and scope."""
    catalogue = made.session().catalogue
    fitted = [(node, scope) for node, scope in catalogue.wanted if node.stage.fitted]
    found = {}
    for node, scope in fitted:
        folder = catalogue.store.root / "actions" / f"{node.digest}{FITS}"
        found[f"{node.name}@{scope.name}"] = sorted(path.stem for path in folder.glob("*.json"))
    return found


def stood_on(made: Small) -> set[tuple[str, str | None]]:
    """Of every saved shard of a fitted stage: the stage and the state its rows were made with."""
    catalogue = made.session().catalogue
    fitted = {node.digest for node, _ in catalogue.wanted if node.stage.fitted}
    records = [record for _, record in catalogue.store.records() if record.stage in fitted]
    tables = [(record.stage, shards.open_table(catalogue.store.open(record))) for record in records]
    return {(stage, shards.about(table)["recipe"]["state"]) for stage, table in tables}


def assert_as_one(made: Small, alone: Small) -> None:
    """The cache has what one driver leaves: the same shards, one state a fit, every object sound, nothing more."""
    assert shapes(made.rows()) == shapes(alone.rows())
    assert same(frozen(made.rows()), frozen(alone.rows()))
    assert len(actions(made)) == len(actions(alone))
    assert states(made) == states(alone) and all(len(found) == 1 for found in states(made).values())
    catalogue = made.session().catalogue
    learned = {(n.digest, catalogue.of(n, s).state.object) for n, s in catalogue.wanted if n.stage.fitted}
    assert stood_on(made) == learned
    assert named_wrongly(made) == [] and saved_rows(made) == len(alone.rows())
    assert not list((made.home / "cache").glob("corrupt/*"))
    assert made.extract() == {} and made.last.jobs == 0


def twice(found: list[dict], rows: int) -> float:
    """The share of rows that both drivers computed."""
    computed = sum((Counter(each["computed"]) for each in found), Counter())
    return sum(computed.values()) / rows - 1


@pytest.mark.slow
def test_two_drivers_on_one_empty_cache_leave_what_one_leaves(tmp_path, record_property):
    for name in ("together", "alone"):
        (tmp_path / name).mkdir()
    made, alone = (talk(tmp_path / name, dialogues=25, sets=SETS) for name in ("together", "alone"))
    made.session(), alone.extract()
    share = twice(answers([made, made]), len(alone.rows()))
    record_property("computed_twice", share)
    print(f"computed twice: {share:.0%}")  # noqa: T201 - what the test measures
    assert 0 <= share <= 1
    assert_as_one(made, alone)


@pytest.mark.slow
@pytest.mark.parametrize("again", range(3))
def test_two_drivers_on_the_small_corpus_leave_what_one_leaves(small, extracted_home, record_property, again):
    alone = replace(small, home=extracted_home)
    small.session()
    record_property("computed_twice", twice(answers([small, small]), len(alone.rows())))
    assert_as_one(small, alone)


# --- two machines, one remote ----------------------------------------------------------------------------------


def machine(folder: Path) -> Small:
    """A machine with an empty home, which makes its own copy of the corpus when it first looks."""
    folder.mkdir()
    return talk(folder, dialogues=25, sets=SETS)


def extract_and_push(made: Small, url: str) -> dict:
    """`affectory extract`, then `affectory push`, in processes of their own; the answer of the push."""
    made.session()
    environment = {**os.environ, "AFFECTORY_HOME": str(made.home), "AFFECTORY_REMOTE": url}
    given = ["--dataset", str(made.path), "--root", str(made.root), "--json"]
    for verb in (["extract", "--workers", "0"], ["push"]):
        line = [sys.executable, "-m", "pipeline.cli.main", *verb, *given]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_sound(url: str, scratch: Path) -> None:
    """Every index of a remote is one of ours, and every object it names stands there with the bytes of its name."""
    remote = Remote(url, scratch)
    stages = remote.stages()
    assert len(stages) == 6, "two stages with a reference each, one of them with states, and the manifest"
    for stage in stages:
        for segment in remote.segments(stage):
            for record in remote.records(stage, segment.digest):
                target = scratch / "fetched" / record.object
                target.parent.mkdir(exist_ok=True)
                remote.fetch(record, target)
                assert keys.file_digest(target) == record.object


def pulled(made: Small, url: str) -> dict[tuple[str, str], str]:
    """The row keys of a machine without the corpus that pulls everything, checked to need nothing else."""
    made.path.write_text(made.recipe)
    options = Options(dataset=str(made.path), root=str(made.root), workers=0, remote=url)
    assert push_pull.pull(Home(made.home), options)["missing"] == {}
    here = Session.open(Home(made.home), replace(options, remote=""))
    assert extraction.extract(here).jobs == 0 and named(here.plan().cached) == {"text_word2vec": 400}
    assert named_wrongly(made) == []
    return rows_of(here)


def row_keys(made: Small) -> dict[tuple[str, str], str]:
    """The row keys of a machine that extracted."""
    return {place: key for place, (key, _) in made.rows().items()}


@pytest.mark.slow
def test_two_machines_that_extract_and_push_at_once_leave_one_right_remote(bucket, tmp_path):
    first, second, third = (machine(tmp_path / name) for name in ("first", "second", "third"))
    with ThreadPoolExecutor(2) as pool:
        answered = list(pool.map(extract_and_push, [first, second], [bucket] * 2))
    assert {each["remote"] for each in answered} == {bucket}
    (tmp_path / "scratch").mkdir()
    assert_sound(bucket, tmp_path / "scratch")
    assert pulled(third, bucket) in (row_keys(first), row_keys(second))


def test_of_two_machines_whose_fits_came_out_differently_a_third_gets_one_fit_with_its_own_rows(
    bucket, tmp_path, monkeypatch
):
    first, second, third = (machine(tmp_path / name) for name in ("first", "second", "third"))
    first.extract()
    fit = TextWord2vec.fit
    with monkeypatch.context() as patched:
        patched.setattr(TextWord2vec, "fit", lambda *given: nudged(fit(*given)))
        second.extract()
    assert states(first) == states(second) and frozen(row_keys(first)) == frozen(row_keys(second))
    assert row_keys(first) != row_keys(second)
    options = [Options(dataset=str(m.path), root=str(m.root), workers=0, remote=bucket) for m in (first, second)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(push_pull.push, [Home(first.home), Home(second.home)], options))
    (tmp_path / "scratch").mkdir()
    assert_sound(bucket, tmp_path / "scratch")
    assert pulled(third, bucket) in (row_keys(first), row_keys(second))


def nudged(state: State) -> State:
    """A state as another machine's arithmetic may give it."""
    return replace(state, tensors={name: values * np.float32(1 + 1e-6) for name, values in state.tensors.items()})


def rows_of(session: Session) -> dict[tuple[str, str], str]:
    """Row keys by stage and utterance."""
    catalogue, found = session.catalogue, {}
    for node, scope in catalogue.wanted:
        name = f"{node.name}@{scope.name}" if scope else node.name
        for shard in catalogue.of(node, scope).shards:
            found |= {(name, row.id): key for row, key in zip(shard.rows, shard.keys, strict=True)}
    return found


@pytest.mark.slow
def test_two_machines_that_push_at_once_send_indexes_that_are_both_read(bucket, tmp_path):
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    second.lines[0]["text"] = "so"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(extract_and_push, [first, second], [bucket] * 2))
    for made in (first, second):
        remote = Remote(bucket, tmp_path / "fresh")
        catalogue = made.session().catalogue
        frozen_shards = [(n, s) for n, scope in catalogue.wanted if not n.scoped for s in catalogue.of(n, scope).shards]
        assert frozen_shards and all(shard.key in remote.index(node.digest) for node, shard in frozen_shards)
