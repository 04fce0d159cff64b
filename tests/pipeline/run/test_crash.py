"""kill -9 of the driver or of a worker, in the middle: the same command completes, with the same cache."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline.cache import keys
from pipeline.cache.record import FITS, REFERENCES
from tests.clips import LEARNED_SET, WORDS_SET, talk
from tests.pipeline.run.test_cache_rules import same


def command(small, *options):
    """`affectory extract` on the small corpus, in a process of its own."""
    small.path.write_text(small.recipe)
    line = [
        sys.executable,
        "-m",
        "pipeline.cli.main",
        "extract",
        "--dataset",
        str(small.path),
        "--root",
        str(small.root),
    ]
    environment = {**os.environ, "AFFECTORY_HOME": str(small.home)}
    return subprocess.Popen([*line, "--workers", "2", "--json", *options], env=environment, stdout=subprocess.PIPE)


def workers_of(process):
    """The workers of a command: the children of its fork server."""
    family = psutil.Process(process.pid).children()
    servers = [child for child in family if "forkserver" in " ".join(child.cmdline())]
    return [worker for server in servers for worker in server.children()]


def wait_for_actions(small, count, process):
    """Until so many shards or states are saved."""
    while len(shards_and_states(small)) < count:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.02)


def shards_and_states(small):
    """Their actions, without those of references."""
    return [path for path in actions(small) if not path.parent.name.endswith(REFERENCES)]


def frozen(rows):
    """Rows of stages without a fit: a fit is not reproducible to the bit, so its rows have keys of their own."""
    return {place: row for place, row in rows.items() if "@" not in place[0]}


def shapes(rows):
    """Ids, lengths, masks and reasons."""
    return {place: (t.reason, None if t.valid is None else t.valid.tolist()) for place, (_, t) in sorted(rows.items())}


def uninterrupted(small, extracted_home):
    rows = type(small)(small.root, extracted_home, small.path).rows()
    assert rows
    return rows


@pytest.mark.slow
def test_a_driver_killed_in_the_middle_goes_on_where_it_was(small, extracted_home):
    process = command(small)
    wait_for_actions(small, 2, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    saved = len(shards_and_states(small))
    computed = small.extract()
    assert sum(computed.values()) < 240 and saved >= 2
    expected = uninterrupted(small, extracted_home)
    assert shapes(small.rows()) == shapes(expected)
    assert same(frozen(small.rows()), frozen(expected))
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == [], "workers outlived their driver"


@pytest.mark.slow
def test_nothing_partial_is_left_by_a_kill(small):
    process = command(small)
    wait_for_actions(small, 1, process)
    process.kill()
    process.communicate()
    small.extract()
    store = small.session().catalogue.store
    for action in (small.home / "cache" / "actions").glob("*/*.json"):
        record = json.loads(action.read_text())
        assert store.open(store.find(action.parent.name, record["key"])).exists()


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_is_replaced(small, extracted_home):
    process = command(small)
    wait_for_actions(small, 1, process)
    workers_of(process)[0].send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert json.loads(out)["failed"] == {}
    assert shapes(small.rows()) == shapes(uninterrupted(small, extracted_home))


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_ends_with_130(small):
    process = command(small)
    wait_for_actions(small, 1, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130


# --- storms ----------------------------------------------------------------------------------------------------

VICTIMS = ("driver", "worker", "both")
WORKERS = 2


def actions(made):
    """The actions of what is saved."""
    return list((made.home / "cache" / "actions").glob("*/*.json"))


def struck(made, chance, most):
    """Runs the command and kills, once a number of shards is saved and a moment has passed; what remains alive."""
    process = command(made)
    wanted, victim = chance.randrange(most), chance.choice(VICTIMS)
    while len(actions(made)) < wanted and process.poll() is None:
        time.sleep(0.002)
    time.sleep(chance.uniform(0.0, 0.05 if wanted else 3.0))
    try:
        family = psutil.Process(process.pid).children(recursive=True)
        workers = workers_of(process)
    except psutil.Error:  # it is done, or just going
        family, workers = [], []
    for each in workers[:1] if victim != "driver" else []:
        each.kill()
    if victim != "worker":
        process.kill()
    process.communicate()
    assert process.returncode in ((0,) if victim == "worker" else (0, -signal.SIGKILL))
    _, alive = psutil.wait_procs(family, timeout=30)
    return alive


def saved_rows(made):
    """Rows that the actions of a cache stand for, none of them copied; each action and its object as they should be."""
    store = made.session().catalogue.store
    records = [record for _, record in store.records()]
    assert len(records) == len(actions(made)), "an action is damaged"
    for record in records:
        assert keys.file_digest(store.path(record)) == record.object
    return sum(record.about["computed"] for record in records if not record.stage.endswith((FITS, REFERENCES)))


def named_wrongly(made):
    """Objects whose bytes are not what their names say."""
    paths = (made.home / "cache" / "objects").glob("*/*")
    return [path for path in paths if keys.file_digest(path) != f"{path.parent.name}{path.stem}"]


def unnamed(made):
    """Objects that no action names: saved in the moment of the kill."""
    named = {record.object for _, record in made.session().catalogue.store.records()}
    return [p for p in (made.home / "cache" / "objects").glob("*/*") if f"{p.parent.name}{p.stem}" not in named]


def weather(made, expected, seed, most):
    """One storm: what was saved is sound and is not computed again, what was in flight is; the end is the same."""
    alive = struck(made, random.Random(seed), most)
    assert alive == [], "workers outlived their driver"
    assert named_wrongly(made) == [] and len(unnamed(made)) <= WORKERS
    before = saved_rows(made)
    repeated = before + sum(made.extract().values()) - len(expected)
    assert repeated == 0, "rows that were saved were computed again"
    assert shapes(made.rows()) == shapes(expected)
    assert same(frozen(made.rows()), frozen(expected))
    assert named_wrongly(made) == [] and not list((made.home / "cache").glob("corrupt/*"))
    assert made.extract() == {}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Every row of a talk of two hundred utterances, on given vectors and on fitted ones, extracted undisturbed."""
    made = talk(tmp_path_factory.mktemp("quiet"), dialogues=25, sets=WORDS_SET + LEARNED_SET)
    assert sum(made.extract().values()) == 400
    return made


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_kill_at_any_moment_costs_what_was_in_flight_and_nothing_that_was_saved(tmp_path, quiet, seed):
    made = talk(tmp_path, dialogues=25, sets=WORDS_SET + LEARNED_SET)
    made.session()
    weather(made, quiet.rows(), seed, most=len(actions(quiet)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_fifty_kills_of_driver_worker_or_both_cost_what_was_in_flight_and_nothing_that_was_saved(
    small, extracted_home, seed
):
    weather(small, uninterrupted(small, extracted_home), seed, most=12)
