"""A Dask cluster on this machine, whose workers are forked from the process of `pipeline.run.preload`."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import dask
from distributed import LocalCluster

from pipeline.errors import InputError
from pipeline.interruption import beyond_interruption
from pipeline.run import preload

CPU = "CPU"
"""The resource of which every worker on a core offers one."""
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
