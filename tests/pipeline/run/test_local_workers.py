"""Workers of this machine: each does a job once, one that dies is replaced, and none outlives its driver."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from pipeline import plugins
from pipeline.run import local_workers
from pipeline.run.local_workers import Local
from pipeline.run.outcome import Died
from pipeline.stage import Stage


@dataclass(frozen=True)
class Task:
    """What a worker is to do, with a number."""

    number: int = 0
    folder: Path = Path()


class StubbornError(Exception):
    """Can be packed and not unpacked."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def doubled(task: Task, more: int) -> tuple[int, int]:
    return os.getpid(), 2 * task.number + more


def fails(task: Task) -> None:
    logging.getLogger("stages.of_a_test").info("clip %d is odd", task.number)
    if task.number:
        raise StubbornError("one", "two")
    raise ValueError("no such clip")


def dies(task: Task) -> int:
    """Kills its worker as often as its number says."""
    tries = len(list(task.folder.iterdir()))
    (task.folder / str(tries)).touch()
    if tries < task.number:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries


def sees(task: Task) -> tuple[str, str, str]:
    return os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"], os.environ["AFFECTORY_HOME"]


def sleeps(task: Task) -> None:
    time.sleep(600)


def once(*jobs: Task):
    given = iter([jobs])
    return lambda: next(given, ())


@pytest.fixture(scope="module")
def two() -> Iterator[Local]:
    with Local(count=2) as workers:
        yield workers


def test_every_job_is_run_once_in_another_process_and_the_same_job_may_be_given_again(two):
    jobs = [Task(number) for number in range(12)]
    for _ in range(2):
        found = list(two.run(doubled, once(*jobs), 10))
        assert sorted((job.number, result) for job, (_, result) in found) == [(n, 2 * n + 10) for n in range(12)]
        assert os.getpid() not in {process for _, (process, _) in found}


def test_jobs_that_become_possible_later_are_asked_for_after_each_result(two):
    asked = []

    def more():
        asked.append(len(asked))
        return [Task(len(asked))] if len(asked) <= 4 else []

    assert len(list(two.run(doubled, more, 0))) == 4 and len(asked) == 5


def test_an_error_of_a_job_is_raised_here_with_its_place_in_the_worker_and_so_is_what_was_logged(two, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(ValueError, match="no such clip") as caught:
        list(two.run(fails, once(Task(0))))
    assert "in fails" in caught.value.__notes__[0] and "clip 0 is odd" in caplog.text
    with pytest.raises(RuntimeError, match="StubbornError"):
        list(two.run(fails, once(Task(1))))


def test_a_job_that_kills_a_worker_is_run_again_and_one_that_kills_two_has_died(two, tmp_path):
    places = [tmp_path / name for name in "ab"]
    for place in places:
        place.mkdir()
    jobs = [Task(1, places[0]), Task(2, places[1])]
    found = dict(two.run(dies, once(*jobs)))
    assert found[jobs[0]] == 1
    assert isinstance(found[jobs[1]], Died) and "code -9" in found[jobs[1]].message
    assert len(list(two.run(doubled, once(*map(Task, range(4))), 0))) == 4, "dead workers were replaced"


def test_workers_share_the_cores_see_no_gpu_and_have_the_environment_of_now(monkeypatch, tmp_path):
    monkeypatch.setattr(local_workers, "cores", lambda: 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    for home in ("one", "two"):
        monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / home))
        with Local(count=2) as workers:
            [(_, seen)] = workers.run(sees, once(Task()))
        assert seen == ("", "3", str(tmp_path / home))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_workers_at_work_are_ended_with_the_run():
    def children() -> set[int]:
        return {process.pid for process in psutil.Process().children(recursive=True)}

    with Local(count=1):
        pass  # from here on the fork server runs
    before = children()
    with pytest.raises(KeyboardInterrupt), Local(count=2) as workers:
        running = iter(workers.run(sleeps, lambda: [Task()] if len(children()) < 9 else []))
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            next(running)
        finally:
            signal.signal(signal.SIGALRM, previous)
    assert children() == before


PROGRAM = """
import sys
from tests.pipeline.run.test_local_workers import Local, Task, once, sleeps
if __name__ == "__main__":
    with Local(count=2) as workers:
        print("up", flush=True)
        list(workers.run(sleeps, once(Task(1), Task(2))))
"""


def test_no_worker_outlives_a_driver_that_is_killed(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen([sys.executable, str(tmp_path / "program.py")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert len(family) >= 2 and alive == []


def test_the_modules_that_stages_want_imported_in_workers_exist():
    named = {module for name in plugins.names("stages") for module in plugins.find("stages", name, Stage).imports}
    assert {"librosa.core.spectrum", "opensmile", "stages._roberta"} <= named
    assert [module for module in named if find_spec(module) is None] == []
