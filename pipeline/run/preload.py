"""The process from which Dask forks the workers of this machine: it has imported once what all of them need."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver

from pipeline.interruption import beyond_interruption

COMMON = ("distributed.nanny", "pipeline.run.worker", "pandas")
"""What every worker imports. Arrow looks for pandas when it makes an array."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
"""Has freed memory kept; Dask gives it back at once, which for the large arrays of convolutions costs eight times the
system time."""
WAIT = "OMP_WAIT_POLICY"
"""How the threads of a network wait for each other. They would watch a core all the time, and where another process
wants that core, a training takes four times as long; asleep (`PASSIVE`) they cost the smallest networks a fifth."""

KEPT = (*THREADS, WAIT, *MALLOC)
"""The variables that Dask leaves in the environment of the driver."""

_starting = threading.Lock()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(count: int) -> int:
    """How many threads each of so many workers has, which share the cores."""
    return max(1, cores() // count)


def prepare(count: int | None = None, modules: Sequence[str] = ()) -> None:
    """Starts the process from which workers are forked, unless it runs, and returns while it imports `modules`.

    count: of the workers that are to come, one a core if it is None. The process ends with this one. A module that is
    not installed is passed over.
    """
    with _starting, _environment(variables(count or cores())), beyond_interruption():
        forkserver.set_forkserver_preload([*COMMON, *modules])
        forkserver.ensure_running()


def variables(count: int) -> dict[str, str]:
    """What a worker finds in its environment beside what this process does: its threads, and no GPU."""
    waiting = {WAIT: os.environ.get(WAIT, "PASSIVE")}
    return {**dict.fromkeys(THREADS, str(threads_of(count))), **waiting, **MALLOC, "CUDA_VISIBLE_DEVICES": ""}


@contextlib.contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """Variables for processes that are started in this context."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            os.environ.pop(name)
            os.environ.update({name: before[name]} if name in before else {})
