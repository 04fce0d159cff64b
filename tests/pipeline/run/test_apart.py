"""A scheduler, two workers and a driver as processes with homes of their own: the remote is all they share."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.cache.home import Home
from pipeline.cache.record import decode
from pipeline.cache.store import Store
from pipeline.corpus.open_corpus import Options
from pipeline.plan.session import Session
from pipeline.run import extraction

RECIPE = """
[dataset]
reader   = "demo"
labels   = "six"
per_cell = 2

[features.words.text]
stage = "text_cnn"
epochs = 2
channels = 4
input.text_word2vec = { size = 8, epochs = 1, min_count = 1 }
align = { mode = "pad", length = 12 }
[features.sound]
audio = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 12.5, align = { mode = "pad", length = 32 } }
[features.seen]
visual = { stage = "visual_resnet50", frames = 2, size = 32, weights = "random", align = { mode = "sample" } }
"""
ROWS = 60


@contextmanager
def process(home: Path, *line: str) -> Iterator[subprocess.Popen[str]]:
    """A process with a home of its own, gone at the end with all its children."""
    environment = {**os.environ, "AFFECTORY_HOME": str(home), "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    started = subprocess.Popen(
        [sys.executable, "-m", *line],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


@pytest.fixture
def cluster(tmp_path: Path, bucket: str) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """The scheduler's address and two workers, each with a folder of its own."""
    with ExitStack() as stack:
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        scheduler = stack.enter_context(process(tmp_path / "scheduler", "distributed.cli.dask_scheduler", *options))
        assert scheduler.stdout is not None
        said = next(line for line in scheduler.stdout if "Scheduler at:" in line)
        address = re.findall(r"tcp://\S+", said)[0]
        line = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", "--resources", "CPU=1")
        workers = [stack.enter_context(process(tmp_path / f"worker{n}", *line)) for n in range(2)]
        yield address, workers


def extract(home: Path, recipe: Path, address: str, bucket: str, *more: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "pipeline.cli.main", "extract", "--dataset", str(recipe), "--scheduler", address]
    environment = {**os.environ, "AFFECTORY_HOME": str(home)}
    return subprocess.Popen(
        [*line, "--remote", bucket, "--json", *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def recipe_in(tmp_path: Path) -> Path:
    path = tmp_path / "apart.toml"
    path.write_text(RECIPE)
    return path


def saved(home: Path) -> int:
    return len(list((home / "cache" / "actions").glob("*/*.json")))


def computed(answer: dict[str, dict[str, int]]) -> dict[str, int]:
    return {name: count for name, count in answer["computed"].items() if count}


@pytest.mark.slow
def test_workers_with_homes_of_their_own_exchange_shards_through_the_remote(tmp_path, bucket, cluster):
    address, _ = cluster
    driver = extract(tmp_path / "driver", recipe_in(tmp_path), address, bucket)
    out, err = driver.communicate(timeout=240)
    assert driver.returncode == 0, err
    answer = json.loads(out)
    stages = ("audio_mfcc", "text_cnn", "text_word2vec", "visual_resnet50")
    assert computed(answer) == dict.fromkeys(stages, ROWS) and answer["failed"] == {}
    assert set(answer["view"]) == {"words", "sound", "seen"}
    made = {
        record.about["process"]
        for path in (tmp_path / "driver" / "cache" / "actions").rglob("*.json")
        if "process" in (record := decode(path.read_bytes())).about
    }
    assert len(made) == 2 and driver.pid not in made, "both workers, and they alone, computed"
    shutil.rmtree(tmp_path / "driver" / "cache" / "objects")
    again = extract(tmp_path / "driver", recipe_in(tmp_path), address, bucket)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert json.loads(out)["jobs"] == 0, err


@pytest.mark.slow
def test_killing_one_worker_half_way_costs_what_it_had_in_flight_and_nothing_else(tmp_path, bucket, cluster):
    address, workers = cluster
    driver = extract(tmp_path / "driver", recipe_in(tmp_path), address, bucket)
    while saved(tmp_path / "driver") < 3:
        assert driver.poll() is None, driver.stderr and driver.stderr.read()
        time.sleep(0.02)
    os.killpg(workers[0].pid, signal.SIGKILL)
    out, err = driver.communicate(timeout=240)
    assert driver.returncode == 0, err
    answer = json.loads(out)
    assert answer["failed"] == {} and computed(answer)["audio_mfcc"] == ROWS
    records = [record for home in ("worker0", "worker1") for _, record in Store(tmp_path / home / "cache").records()]
    keys = [(record.stage, record.key) for record in records]
    repeated = len(keys) - len(set(keys))
    assert repeated <= 2, "no more than the killed worker's own jobs ran twice"


@pytest.mark.slow
def test_what_the_driver_alone_has_is_offered_to_workers_that_need_it(tmp_path, bucket, cluster):
    address, _ = cluster
    recipe = recipe_in(tmp_path)
    here = Options(dataset=str(recipe), modality="text", workers=0)
    extraction.extract(Session.open(Home(tmp_path / "driver"), here))
    recipe.write_text(RECIPE.replace("channels = 4", "channels = 5"))
    driver = extract(tmp_path / "driver", recipe, address, bucket, "--modality", "text")
    out, err = driver.communicate(timeout=240)
    assert driver.returncode == 0, err
    assert computed(json.loads(out)) == {"text_cnn": ROWS}


@pytest.mark.slow
def test_without_a_remote_such_workers_are_refused(tmp_path, bucket, cluster):
    address, _ = cluster
    driver = extract(tmp_path / "driver", recipe_in(tmp_path), address, "")
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 2 and "set AFFECTORY_REMOTE" in re.sub(r"\s+", " ", err)


@pytest.mark.slow
def test_a_worker_whose_copy_of_the_corpus_differs_puts_nothing_wrong_under_a_key(tmp_path, bucket, cluster):
    address, workers = cluster
    recipe = recipe_in(tmp_path)
    os.killpg(workers[1].pid, signal.SIGKILL)
    home = Home(tmp_path / "worker0")
    session = Session.open(home, Options(dataset=str(recipe), modality="audio"))
    victim = next(row for row in session.corpus.manifest.rows if row.audio)
    path = session.corpus.manifest.root / victim.audio[0].path
    path.write_bytes(path.read_bytes()[:-2] + b"\1\1")
    driver = extract(tmp_path / "driver", recipe, address, bucket)
    out, err = driver.communicate(timeout=240)
    assert driver.returncode in (0, 3), err
    assert json.loads(out)["failed"]["audio"] == {"io_error": 1}
