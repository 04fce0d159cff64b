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

from tests.pipeline.test_cache_rules import same


def command(small, *options):
    """`affectory extract` on the small corpus, in a process of its own."""
    small.path.write_text(small.recipe)
    line = [sys.executable, "-m", "pipeline.cli", "extract", "--dataset", str(small.path), "--root", str(small.root)]
    environment = {**os.environ, "AFFECTORY_HOME": str(small.home)}
    return subprocess.Popen([*line, "--workers", "2", "--json", *options], env=environment, stdout=subprocess.PIPE)


def wait_for_actions(small, count, process):
    """Until so many shards or states are saved."""
    while len(list((small.home / "cache" / "actions").glob("*/*.json"))) < count:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.02)


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


def test_a_driver_killed_in_the_middle_goes_on_where_it_was(small, extracted_home):
    process = command(small)
    wait_for_actions(small, 2, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    saved = len(list((small.home / "cache" / "actions").glob("*/*.json")))
    computed = small.extract()
    assert sum(computed.values()) < 240 and saved >= 2
    expected = uninterrupted(small, extracted_home)
    assert shapes(small.rows()) == shapes(expected)
    assert same(frozen(small.rows()), frozen(expected))
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == [], "workers outlived their driver"


def test_nothing_partial_is_left_by_a_kill(small):
    process = command(small)
    wait_for_actions(small, 1, process)
    process.kill()
    process.communicate()
    small.extract()
    store = small.session().planner.store
    for action in (small.home / "cache" / "actions").glob("*/*.json"):
        record = json.loads(action.read_text())
        assert store.open(store.find(action.parent.name, record["key"])).exists()


def test_a_worker_killed_in_the_middle_is_replaced(small, extracted_home):
    process = command(small)
    wait_for_actions(small, 1, process)
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
    workers[0].send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert json.loads(out)["failed"] == {}
    assert shapes(small.rows()) == shapes(uninterrupted(small, extracted_home))


def test_an_interrupted_run_says_so_and_ends_with_130(small):
    process = command(small)
    wait_for_actions(small, 1, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130


@pytest.mark.slow
@pytest.mark.parametrize("storm", range(20))
def test_a_kill_at_any_moment_of_driver_worker_or_both_leaves_a_cache_that_is_gone_on_from(
    small, extracted_home, storm
):
    chance = random.Random(storm)
    process = command(small)
    time.sleep(chance.uniform(0.3, 7.0))
    driver = psutil.Process(process.pid)
    family = driver.children(recursive=True)
    workers = [p for p in family if p.is_running() and "spawn_main" in " ".join(p.cmdline())]
    victims = chance.choice([[driver], workers[:1], [*workers[:1], driver]])
    for victim in victims:
        victim.kill()
    process.communicate()
    psutil.wait_procs(family, timeout=20)
    small.extract()
    expected = uninterrupted(small, extracted_home)
    assert shapes(small.rows()) == shapes(expected)
    assert same(frozen(small.rows()), frozen(expected))
    assert not list((small.home / "cache").glob("corrupt/*"))
