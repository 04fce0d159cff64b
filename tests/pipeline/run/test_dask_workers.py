"""Jobs on Dask: a cluster that is already running, what is checked before it is used, and which worker gets what."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from pipeline import plugins
from pipeline.errors import InputError, MachineError, RemoteError
from pipeline.run import dask_workers, extraction, local_cluster
from pipeline.run.dask_workers import Workers, environment
from pipeline.run.exchange import inodes, shares
from pipeline.run.preload import threads_of
from tests.pipeline.run.test_cache_rules import same
from tests.small import driven

ROOT = Path(plugins.__file__).parents[1]
SOUND = """
[dataset]
reader = "iemocap"
labels = "six"

[features.sound]
audio = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 12.5, align = { mode = "pad", length = 32 } }
"""


@dataclass(frozen=True)
class Sum:
    """A job that adds two numbers."""

    id: str
    a: int = 1
    b: int = 1
    gpu: bool = False


def add(job: Sum, more: int) -> tuple[int, int]:
    return os.getpid(), job.a + job.b + more


def once(jobs):
    given = iter([jobs])
    return lambda: next(given, [])


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A scheduler without workers."""
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster.scheduler_address


@contextmanager
def workers(scheduler: str, *options: str, code: Path = ROOT, **environment: str) -> Iterator[None]:
    """A worker of its own on a running scheduler, as `dask worker` starts one."""
    with ExitStack() as stack:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "1", "--no-dashboard"]
        env = {**os.environ, **environment, "PYTHONPATH": str(code)}
        process = subprocess.Popen(
            [*command, *options], env=env, cwd=code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        stack.callback(_end, process)
        client = stack.enter_context(Client(scheduler, set_as_default=False))
        client.wait_for_workers(1, timeout=60)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.communicate(timeout=30)


OFFERS = ("--resources", "CPU=1")
FORKS = {"DASK_DISTRIBUTED__WORKER__DAEMON": "False"}


def refused(scheduler: str) -> str:
    """The message of a preflight that fails."""
    with Workers(scheduler) as cluster, pytest.raises(InputError) as caught:
        cluster.preflight()
    return str(caught.value)


# --- a running cluster -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_running_cluster_gives_the_same_rows_and_is_left_running(small, extracted_home, scheduler):
    with workers(scheduler, *OFFERS, **FORKS):
        for _ in range(2):
            session = small.session(modality="audio", workers=None, scheduler=scheduler)
            driven(session.catalogue, extraction.workers(session))
        with Client(scheduler, set_as_default=False) as client:
            assert len(client.scheduler_info()["workers"]) == 1
    expected = type(small)(small.root, extracted_home, small.path).rows()
    found = {place: row for place, row in small.rows().items() if place[0].startswith("audio")}
    assert len(found) == 120
    assert same(found, {place: row for place, row in expected.items() if place in found})


def test_workers_that_offer_no_resource_are_refused_and_not_waited_for():
    with LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        assert "--resources CPU=1" in refused(cluster.scheduler_address)


def test_workers_with_other_code_are_refused(scheduler, tmp_path):
    for package in ("pipeline", "stages", "models", "manifests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "stages" / "audio_mfcc.py").open("a") as file:
        file.write("# edited\n")
    with workers(scheduler, *OFFERS, code=tmp_path, **FORKS):
        said = refused(scheduler)
    assert "stages is" in said and "pipeline is" not in said


def test_workers_whose_decoders_cannot_have_a_process_of_their_own_are_refused(scheduler):
    with workers(scheduler, *OFFERS):
        assert "DASK_DISTRIBUTED__WORKER__DAEMON" in refused(scheduler)


def test_a_scheduler_that_is_not_there_is_bad_input(monkeypatch):
    monkeypatch.setattr(dask_workers, "START_S", 0.5)
    with (
        pytest.raises(RemoteError, match="no scheduler with workers at tcp://127.0.0.1:9"),
        Workers("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_scheduler_without_workers_is_bad_input(scheduler, monkeypatch):
    monkeypatch.setattr(dask_workers, "START_S", 0.5)
    with pytest.raises(RemoteError, match="no scheduler with workers"), Workers(scheduler):
        pass


# --- the preflight's comparison --------------------------------------------------------------------------------


class Elsewhere:
    """A client whose workers have another environment than this process."""

    def __init__(self, found):
        self.found = found

    def run(self, function, *arguments, on_error="raise"):
        return {"tcp://far:1": self.found(function(*arguments))}


def preflight(found, offered=("CPU",), at="tcp://far:0"):
    cluster = Workers(at)
    cluster.client, cluster.offered = Elsewhere(found), Counter(offered)
    cluster.preflight()
    return cluster


def test_a_cluster_like_this_machine_is_accepted(tmp_path):
    assert preflight(lambda here: here)
    assert preflight(lambda here: here, offered=["GPU"])


@pytest.mark.parametrize("name", ["pipeline", "stages", "models", "python", "opensmile", "torch"])
def test_other_code_or_another_version_of_what_decides_values_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=f"tcp://far:1: {name} is 'other', here"):
        preflight(lambda here: {**here, name: "other"})


def test_a_worker_shares_the_cache_if_it_sees_it_and_has_no_home_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("AFFECTORY_HOME", raising=False)
    cluster, cache = preflight(lambda here: here), tmp_path / "home" / "cache"
    assert cluster.agree(partial(shares, cache, inodes(tmp_path)))
    assert not cluster.agree(partial(shares, cache, {**inodes(tmp_path), tmp_path / "elsewhere": 1}))
    assert not cluster.agree(partial(shares, cache, {tmp_path: inodes(tmp_path)[tmp_path] + 1})), "another folder there"
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))
    assert cluster.agree(partial(shares, cache, inodes(tmp_path)))
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "own"))
    assert not cluster.agree(partial(shares, cache, inodes(tmp_path)))


def test_every_difference_is_named_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        preflight(lambda here: dict.fromkeys(here, "other"))
    assert len(str(caught.value).splitlines()) == 1 + len(environment())


def test_workers_that_cannot_run_the_code_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot run this code: ModuleNotFoundError"):
        preflight(lambda here: ModuleNotFoundError("No module named 'pipeline'"))


# --- which worker gets what ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "offered", "wanted"),
    [
        (True, {"CPU", "GPU"}, "GPU"),
        (False, {"CPU", "GPU"}, "CPU"),
        (True, {"CPU"}, "CPU"),
        (False, {"CPU"}, "CPU"),
        (True, {"GPU"}, "GPU"),
        (False, {"GPU"}, "GPU"),
    ],
)
def test_a_job_asks_for_a_resource_that_somebody_offers(gpu, offered, wanted):
    asked = []

    class Client:
        def submit(self, function, *arguments, resources, **more):
            asked.append(resources)

    cluster = Workers("tcp://far:0")
    cluster.client, cluster.offered = Client(), Counter(offered)
    cluster._submit(add, Sum("s", gpu=gpu), [1])
    assert asked == [{wanted: 1}]


def test_jobs_for_a_busy_gpu_leave_no_core_idle():
    cluster = Workers("tcp://far:0")
    cluster.offered = Counter(CPU=2, GPU=1)
    pictures, sounds = ([Sum(f"{kind}{i}", gpu=kind == "g") for i in range(4)] for kind in "gc")
    waiting = {"GPU": deque(pictures), "CPU": deque(sounds)}
    assert list(cluster._startable(waiting, [sounds[3]], cluster.offered)) == [pictures[0], sounds[0]]
    assert list(cluster._startable(waiting, [pictures[0], sounds[0]], cluster.offered)) == [sounds[1]]


def test_gpu_workers_without_their_library_are_bad_input(monkeypatch):
    monkeypatch.setattr(local_cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"affectory\[gpu\]"), Workers(count=1, gpus=1):
        pass


@pytest.mark.slow
def test_gpu_workers_that_end_at_once_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(local_cluster.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(local_cluster, "first_gpus", str)
    with pytest.raises(MachineError, match="GPU workers do not start: dask-cuda ended with exit code 1"):
        Workers(count=1, gpus=1).__enter__()


# --- a local cluster -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    """Two CPU workers of a user who chose GPUs."""
    with pytest.MonkeyPatch.context() as chosen:
        chosen.setenv("CUDA_VISIBLE_DEVICES", "2,3")
        with Workers(count=2) as cluster:
            yield cluster


def test_every_job_is_run_once_in_a_worker_and_the_same_job_may_be_given_again(two):
    jobs = [Sum(f"s{i}", a=i) for i in range(12)]
    two.preflight()
    for _ in range(2):
        found = list(two.run(add, once(jobs), 10))
        assert {job.id: result for job, (_, result) in found} == {job.id: job.a + 11 for job in jobs}
        assert os.getpid() not in {process for _, (process, _) in found}


def test_jobs_that_become_possible_later_are_asked_for_after_each_result(two):
    asked = []

    def more():
        asked.append(len(asked))
        return [Sum(f"s{len(asked)}")] if len(asked) <= 4 else []

    assert len(list(two.run(add, more, 0))) == 4 and len(asked) == 5


@dataclass(frozen=True)
class Waiting:
    """A job that ends when the last one of its run has been started, if that is within ten seconds."""

    id: str
    last: Path
    gpu: bool = False


def wait(job: Waiting) -> bool:
    if job.id == "last":
        job.last.touch()
    until = time.monotonic() + (10 if job.id == "first" else 0)
    while not job.last.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return job.last.exists()


def test_no_job_waits_for_a_busy_worker_while_another_is_idle(two, tmp_path):
    jobs = [Waiting(name, tmp_path / "last") for name in ("first", *"abcdef", "last")]
    ended = {job.id: seen for job, seen in two.run(wait, once(jobs))}
    assert ended["first"], "while one worker does the first job, the other does all the others"


def test_jobs_start_in_the_order_in_which_they_are_given(two, tmp_path, monkeypatch):
    monkeypatch.setattr(two, "_resources", lambda: Counter(CPU=1))
    assert [job.id for job, _ in two.run(add, once([Sum(f"s{i}") for i in (3, 1, 2, 0)]), 0)] == [
        "s3",
        "s1",
        "s2",
        "s0",
    ]


def test_an_error_of_a_job_is_raised_here(two):
    with pytest.raises(TypeError):
        list(two.run(add, once([Sum("s", a="text")]), 0))  # type: ignore[arg-type]


def test_cores_are_shared_among_workers():
    cores = Workers().count
    assert [threads_of(count) for count in (cores, 1, 10 * cores)] == [1, cores, 1]


@pytest.mark.slow
def test_one_worker_and_two_give_the_same_rows(small, tmp_path):
    found = []
    small.recipe = SOUND
    for count in (1, 2):
        small.home = tmp_path / f"home-{count}"
        session = small.session(workers=count)
        driven(session.catalogue, extraction.workers(session))
        found.append({place: row for place, row in small.rows().items() if place[0] == "audio_mfcc"})
    assert len(found[0]) == 60 and same(*found)


def test_a_local_cpu_worker_sees_no_gpu_even_if_the_user_chose_some(two):
    assert set(two.client.run(os.getenv, "CUDA_VISIBLE_DEVICES").values()) == {""}


def test_gpu_workers_get_the_first_of_the_gpus_that_the_user_chose(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5e,6")
    assert local_cluster.first_gpus(2) == "4,GPU-5e"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert local_cluster.first_gpus(2) == "0,1"
    with pytest.raises(InputError, match="finds 3 GPUs here: --gpus 3"):
        local_cluster.first_gpus(4)
