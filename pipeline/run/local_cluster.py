"""A Dask cluster on this machine, whose workers are forked from the process of `pipeline.run.preload`."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial

import dask
from distributed import Client, LocalCluster

from pipeline.errors import InputError, MachineError
from pipeline.interruption import beyond_interruption
from pipeline.run import preload

CPU, GPU = "CPU", "GPU"
"""The resources of which every worker on a core, or on a GPU, offers one."""
START_S = 120
"""How long workers may take to start."""
VISIBLE = "CUDA_VISIBLE_DEVICES"

_CONFIG = {
    "distributed.worker.daemon": False,  # decoders run in child processes of the worker
    "distributed.scheduler.allowed-failures": 1,  # a job that killed two workers is run again row by row
    "distributed.comm.timeouts.connect": "30s",
    "distributed.worker.multiprocessing-method": "forkserver",  # see `pipeline.run.preload`
    "distributed.admin.log-length": 100,
    "distributed.admin.tick.interval": "1s",  # every 20 ms, the ticks of all servers take a twelfth of a core
    "distributed.worker.profile.enabled": False,  # it samples the stack every 10 ms, for a dashboard that is not there
}


def start(stack: ExitStack, count: int, modules: Sequence[str]) -> str:
    """Starts a cluster of `count` workers that `stack` ends; returns the address of its scheduler.

    modules: what the workers import once for all.
    """
    variables = preload.variables(count)
    environment = {f"distributed.nanny.pre-spawn-environ.{name}": variables[name] for name in preload.KEPT}
    stack.enter_context(dask.config.set({**_CONFIG, **environment}))
    preload.prepare(count, modules)
    make = partial(
        LocalCluster,
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        resources={CPU: 1},
        dashboard_address="127.0.0.1:0",  # any free port: two runs on one machine must not meet
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,
        env={**os.environ, **variables},  # a forked worker has the environment of the process that it is forked from
        silence_logs=logging.ERROR,
    )
    with beyond_interruption():  # what this thread starts inherits that
        starting = ThreadPoolExecutor(1).submit(make)
    stack.push(partial(_end, starting))
    return str(starting.result().scheduler_address)


def start_gpus(stack: ExitStack, client: Client, cores: int, gpus: int) -> None:
    """Starts a worker for each of the first GPUs, through dask-cuda's own command, beside `cores` others, and returns
    when all are there; `stack` ends them.

    Untested on a GPU. Raises InputError without dask-cuda or with fewer GPUs, MachineError if its process ends.
    """
    if importlib.util.find_spec("dask_cuda") is None:
        raise InputError("GPU workers need dask-cuda: pip install 'affectory[gpu]'")
    command = [sys.executable, "-m", "dask_cuda.cli", client.scheduler.address, "--resources", f"{GPU}=1"]
    command += ["--memory-limit", "0", "--device-memory-limit", "0", "--no-dashboard"]  # Dask has nothing to spill
    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "False", VISIBLE: first_gpus(gpus)}
    process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own interpreter
    stack.callback(process.terminate)
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        with suppress(TimeoutError):
            client.wait_for_workers(cores + gpus, timeout=1)
            return
        if process.poll() is not None:
            raise MachineError(f"GPU workers do not start: dask-cuda ended with exit code {process.returncode}")
    raise TimeoutError(f"GPU workers did not start within {START_S} s")


def first_gpus(count: int) -> str:
    """CUDA_VISIBLE_DEVICES for the first `count` GPUs that this process may use. Raises InputError if it has fewer."""
    import torch

    here = torch.cuda.device_count()
    if count > here:
        raise InputError(f"{count} GPU workers are asked for, but torch finds {here} GPUs here: --gpus {here}")
    named = os.environ.get(VISIBLE) or ",".join(map(str, range(here)))
    return ",".join(named.split(",")[:count])


def _end(starting: Future[LocalCluster], kind: object, error: BaseException | None, trace: object) -> None:
    """Ends a local cluster, also one that has not started yet. An interruption does not wait for what workers do."""
    if starting.exception() is not None:
        return
    cluster = starting.result()
    for nanny in cluster.workers.values() if isinstance(error, KeyboardInterrupt) else ():
        nanny.auto_restart = False
        if nanny.pid:
            os.kill(nanny.pid, signal.SIGKILL)
    cluster.close()
