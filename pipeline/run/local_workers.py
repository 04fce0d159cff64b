"""Runs jobs on worker processes of this machine, forked from one process that has imported what they need once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from queue import Queue
from typing import Any, TypeVar

from pipeline.errors import MachineError
from pipeline.interruption import beyond_interruption
from pipeline.run.local_worker import LocalWorker, LostError
from pipeline.run.outcome import Died

J = TypeVar("J")

TRIES = 2
"""How many workers a job may kill before it is given up."""
COMMON = ("pipeline.run.worker", "pandas")
"""What every worker imports. Arrow looks for pandas when it makes an array."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
"""Has freed memory kept; giving back the large arrays of convolutions at once costs eight times the system time."""

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
    with _starting, _environment(_variables(count or cores())), beyond_interruption():
        forkserver.set_forkserver_preload([*COMMON, *modules])
        forkserver.ensure_running()


def _variables(count: int) -> dict[str, str]:
    """What a worker finds in its environment beside what this process does: its threads, and no GPU."""
    return {**dict.fromkeys(THREADS, str(threads_of(count))), **MALLOC, "CUDA_VISIBLE_DEVICES": ""}


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


class Local:
    """Worker processes of this machine, one for each CPU core, or `count` of them that share the cores.

    It has the methods of `pipeline.run.dask_workers.Workers` without a scheduler, and no library is imported twice.
    modules: what workers import beside `COMMON`. A context manager.
    """

    def __init__(self, count: int | None = None, modules: Sequence[str] = ()) -> None:
        self.count, self.modules = count or cores(), modules

    def __enter__(self) -> Local:
        prepare(self.count, self.modules)
        self._calls: Queue[_Call | None] = Queue()
        self._closed = threading.Event()
        self._places = [_Place(self._calls, self._closed, self.count) for _ in range(self.count)]
        try:
            for place in self._places:
                place.thread.start()
            if error := self._places[0].started.get():
                raise error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        for _ in self._places:
            self._calls.put(None)
        for place in self._places:
            place.close()

    @property
    def width(self) -> int:
        """How many jobs run at once."""
        return self.count

    def preflight(self) -> None:
        """Does nothing: workers are processes of this machine, with this code."""

    def agree(self, question: Callable[[], bool]) -> bool:
        """True: workers see what this process sees."""
        return True

    def everywhere(self, function: Callable[[], Any]) -> None:
        """Runs `function` here, which is where the workers are."""
        function()

    def run(
        self, function: Callable[..., Any], more: Callable[[], Sequence[J]], *arguments: Any
    ) -> Iterator[tuple[J, Any]]:
        """Runs jobs as `pipeline.run.dask_workers.Workers.run` does. Raises MachineError if a worker can't start."""
        results: Queue[tuple[Any, Any, BaseException | None]] = Queue()
        new = more()
        under_way = len(new)
        while under_way:
            for job in new:
                self._calls.put(_Call(function, job, arguments, results))
            job, result, error = results.get()
            if error is not None:
                raise error
            yield job, result
            new = more()
            under_way += len(new) - 1


@dataclass(frozen=True)
class _Call:
    """A job that waits for a worker, and where its result goes, or the error that it raised."""

    function: Callable[..., Any]
    job: Any
    arguments: Sequence[Any]
    results: Queue[tuple[Any, Any, BaseException | None]]


class _Place:
    """A place for one worker at a time, and the thread that hands it calls. A worker that dies is replaced.

    started: gets None once the first worker is ready, or what kept it from that.
    """

    def __init__(self, calls: Queue[_Call | None], closed: threading.Event, count: int) -> None:
        self.started: Queue[BaseException | None] = Queue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self._calls, self._closed, self._count = calls, closed, count
        self._worker: LocalWorker | None = None
        self._at_work = False

    def close(self) -> None:
        """Ends the worker, at once if it is at work, and the thread."""
        while self.thread.is_alive():
            worker = self._worker
            if self._at_work and worker is not None:
                worker.kill()
            self.thread.join(0.05)
        if self._worker is not None:
            self._worker.close()

    def _work(self) -> None:
        try:
            self._worker = self._new()
            self.started.put(None)
        except BaseException as error:
            self.started.put(error)
        while (call := self._calls.get()) is not None and not self._closed.is_set():
            try:
                call.results.put((call.job, self._done(call), None))
            except BaseException as error:
                call.results.put((call.job, None, error))

    def _done(self, call: _Call) -> Any:
        """What the call returns; Died if it killed several workers. Raises what it raises."""
        died = Died("its worker was ended")
        for _ in range(TRIES):
            if self._closed.is_set():
                break
            self._worker = self._worker or self._new()
            self._at_work = True
            try:
                return self._worker.call(call.function, call.job, *call.arguments)
            except LostError as lost:
                self._worker = None
                died = Died(f"{TRIES} workers ended, the last with code {lost.code}", lost.peak_bytes)
            finally:
                self._at_work = False
        return died

    def _new(self) -> LocalWorker:
        try:
            return LocalWorker({**os.environ, **_variables(self._count)})
        except (OSError, LostError) as error:
            raise MachineError(f"this machine cannot start workers: {error}") from error
