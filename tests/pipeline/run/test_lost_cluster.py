"""A running cluster that goes away ends the run with a message; what was saved is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from pipeline.errors import RemoteError
from pipeline.run import dask_workers
from pipeline.run.dask_workers import Workers


def dask(*arguments):
    """A part of a cluster, as its own process."""
    command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env={**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}, **quiet)


@contextmanager
def cluster(tmp_path):
    """The processes of a scheduler and of its only worker, and the scheduler's address."""
    with ExitStack() as stack:
        file = tmp_path / "scheduler.json"
        scheduler = dask("dask_scheduler", "--port=0", "--host=127.0.0.1", "--no-dashboard", f"--scheduler-file={file}")
        worker = dask("dask_worker", "--no-nanny", "--resources=CPU=1", f"--scheduler-file={file}")
        for process in (worker, scheduler):
            stack.callback(process.wait)
            stack.callback(process.kill)
        while not file.exists():
            time.sleep(0.1)
        yield scheduler, worker, json.loads(file.read_text())["address"]


@pytest.mark.parametrize(("victim", "message"), [("worker", "no worker came back"), ("scheduler", "scheduler is lost")])
def test_a_cluster_that_loses_its_worker_or_its_scheduler_ends_the_run_with_a_message(
    victim, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(dask_workers, "LOOK_S", 0.5)
    monkeypatch.setattr(dask_workers, "LOST_S", 2.0)
    jobs = iter([[SimpleNamespace(id="nap", gpu=False)]])
    with cluster(tmp_path) as (scheduler, worker, address), Workers(address) as workers:
        threading.Timer(2, {"worker": worker, "scheduler": scheduler}[victim].kill).start()
        with pytest.raises(RemoteError, match=message):
            list(workers.run(lambda job: time.sleep(600), lambda: next(jobs, [])))
