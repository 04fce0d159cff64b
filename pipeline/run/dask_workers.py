"""Runs jobs on Dask workers. Beside `pipeline.run.local_cluster`, no other module imports Dask."""

from __future__ import annotations

import logging
import os
import platform
import resource
import sys
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from multiprocessing import current_process
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast

from distributed import Client, Future, KilledWorker, WorkerPlugin

from pipeline import plugins
from pipeline.cache import keys
from pipeline.cache.home import Home
from pipeline.console import print_line
from pipeline.errors import AffectoryError, InputError, MachineError, RemoteError
from pipeline.run import local_cluster, preload
from pipeline.run.library_folders import provide
from pipeline.run.local_cluster import CPU, GPU, START_S
from pipeline.run.outcome import Died
from pipeline.run.worker import Divided, Divisible, Piece
from pipeline.stage import Stage

log = logging.getLogger(__name__)

LOOK_S, LOST_S = 5.0, 120.0
"""How often a driver that waits looks whether there are workers, and how long it waits for them to come back."""
PACKAGES = ("pipeline", "stages", "models")


class Task(Protocol):
    """A job, as far as scheduling is concerned."""

    @property
    def id(self) -> str:
        """The same for the same work."""

    @property
    def gpu(self) -> bool:
        """True if it wants a GPU."""


J = TypeVar("J", bound=Task)
Work = Task | Piece
_SAVED = "What was computed is saved; call again to go on"


class _Prepares(WorkerPlugin):  # type: ignore[misc] # Dask has no types
    """Gives a worker's libraries the folders that they need, and has the worker log the run's details, such as the name
    of a clip that failed; without it only warnings are logged and forwarded."""

    name = "affectory-prepares"

    def setup(self, worker: object) -> None:
        """Runs on every worker, also on those that join later."""
        provide(Home().root)
        for package in PACKAGES:
            logging.getLogger(package).setLevel(logging.INFO)
        logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)  # the driver tells of a job that failed
        if torch := sys.modules.get("torch"):  # it may have been imported with the threads of another run
            torch.set_num_threads(int(os.environ.get(preload.THREADS[0], torch.get_num_threads())))


class Workers:
    """A group of Dask workers: a local cluster, or a running one at `scheduler`. A context manager.

    Locally there is one process for each CPU core, or `count` of them, that share the cores; and with dask-cuda
    installed one for each GPU beside them, so that CPU work never occupies a GPU worker. modules: what local workers
    import once for all, see `pipeline.run.preload`.
    """

    def __init__(
        self, scheduler: str = "", count: int | None = None, gpus: int = 0, modules: Sequence[str] = ()
    ) -> None:
        self.scheduler, self.gpus, self.modules = scheduler, gpus, modules
        self.count = count or preload.cores()

    def __enter__(self) -> Workers:
        with ExitStack() as stack:  # whatever stops the start, an interruption too, ends what was started
            try:
                address = self.scheduler or local_cluster.start(stack, self.count, self.modules)
                self.client = stack.enter_context(Client(address, timeout=START_S, set_as_default=False))
                if self.gpus and not self.scheduler:
                    local_cluster.start_gpus(stack, self.client, self.count, self.gpus)
                self.client.wait_for_workers(1, timeout=START_S)
            except (
                OSError,
                TimeoutError,
                RuntimeError,
            ) as error:  # the last is Dask's, of processes that did not start
                raise self._unreached(error) from error
            self.client.register_plugin(_Prepares())
            for name in PACKAGES:
                self.client.forward_logging(name, level=logging.INFO)
            self.offered = self._resources()
            self._stack = stack.pop_all()
        return self

    def _unreached(self, error: Exception) -> AffectoryError:
        if self.scheduler:
            return RemoteError(f"no scheduler with workers at {self.scheduler}: {error}")
        return MachineError(f"this machine cannot start workers: {error}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def width(self) -> int:
        """How many jobs run at once."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])

    def preflight(self) -> None:
        """Compares the code of every worker with this driver's; raises InputError naming each difference, since a
        wrong worker would fail late or cache wrong values."""
        here, there = environment(), self.client.run(environment, on_error="return")
        wrong = [f"{worker}: {line}" for worker, found in there.items() for line in _differences(found, here)]
        if wrong:
            raise InputError("the cluster does not match this driver:\n" + "\n".join(wrong))
        if self.scheduler and not (self.offered[CPU] or self.offered[GPU]):
            raise InputError(f"no worker of {self.scheduler} offers {CPU} or {GPU}: start them with --resources CPU=1")

    def agree(self, question: Callable[[], bool]) -> bool:
        """True if every worker of a running cluster answers yes. Local workers are like this one and are not asked."""
        return not self.scheduler or all(self.client.run(question).values())

    def everywhere(self, function: Callable[[], Any]) -> None:
        """Runs `function` on every worker; raises InputError with what any of them raised."""
        found = self.client.run(function, on_error="return")
        wrong = [f"{worker}: {result}" for worker, result in found.items() if isinstance(result, Exception)]
        if wrong:
            raise InputError("\n".join(wrong))

    def run(
        self, function: Callable[..., Any], more: Callable[[], Sequence[J]], *arguments: Any
    ) -> Iterator[tuple[J, Any]]:
        """Runs `function(job, *arguments)` for every job and yields (job, result) as they end.

        `more` gives the jobs known so far that were not given before, the most urgent first; it is asked again after
        each result, so that what a fit makes possible starts at once. A job is sent when a worker is free for it: Dask
        gives a worker whatever is sent at once, and a job that waits for a busy one would leave another idle. If the
        function is `Divisible`, jobs are done in parts once no more of them wait than there are workers. A job that
        killed its workers yields Died; other errors are raised. Raises RemoteError if the scheduler is lost, or if all
        workers are and none comes back within two minutes.
        """
        waiting: dict[str, deque[Work]] = {CPU: deque(), GPU: deque()}
        running: dict[Future, Work] = {}
        ended: Queue[Future] = Queue()
        while True:
            for new in more():
                waiting[self._wanted(new)].append(new)
            offered = self._resources()
            if isinstance(function, Divisible) and len(waiting[CPU]) <= offered[CPU]:
                waiting[CPU] = deque(_divided(function, waiting[CPU], offered[CPU]))
            for job in self._startable(waiting, running.values(), offered):
                self._send(function, job, arguments, running, ended)
            if not running:
                return
            future = self._next(ended)
            job = running.pop(future)
            if not isinstance(job, Piece):
                yield cast(J, job), self._result(future)
            elif future.status == "finished":
                if job.of.whole(future):
                    self._send(function, job.of, arguments, running, ended)
            elif job.of.give_up():
                waiting[CPU] = deque(other for other in waiting[CPU] if getattr(other, "of", None) is not job.of)
                yield job.of.job, self._result(future)

    def _startable(
        self, waiting: Mapping[str, deque[Work]], running: Iterable[Work], offered: Counter[str]
    ) -> Iterator[Work]:
        """Takes from `waiting`, by resource, as many jobs as workers are free for; one if no worker is there."""
        under_way = Counter(map(self._wanted, running))
        for wanted, jobs in waiting.items():
            while jobs and under_way[wanted] < max(1, offered[wanted]):
                under_way[wanted] += 1
                yield jobs.popleft()

    def _next(self, ended: Queue[Future]) -> Future:
        """The next job that ended; raises RemoteError if for `LOST_S` there has been no worker."""
        without_s = 0.0
        while without_s < LOST_S:
            try:
                return ended.get(timeout=LOOK_S)
            except Empty:
                if self._some_worker():
                    without_s = 0.0
                    continue
            if not without_s:
                print_line(f"all workers are lost: waiting {LOST_S:.0f} s for one to come back", "yellow")
            without_s += LOOK_S
        raise RemoteError(f"no worker came back within {LOST_S:.0f} s: {_SAVED}")

    def _some_worker(self) -> bool:
        try:
            return self.width > 0
        except OSError as error:
            raise RemoteError(f"the scheduler is lost: {error}. {_SAVED}") from error

    def _send(
        self,
        function: Callable[..., Any],
        job: Work | Divided,
        arguments: Sequence[Any],
        running: dict[Future, Work],
        ended: Queue[Future],
    ) -> None:
        """Submits a job, a piece of one, or the end of one that was done in pieces."""
        if isinstance(job, Piece):
            future = self._submit(job.of.by.part, job.part, arguments)
        elif isinstance(job, Divided):
            future = self._submit(job.by.join, job.job, [job.found, *arguments])
        else:
            future = self._submit(function, job, arguments)
        running[future] = job.job if isinstance(job, Divided) else job
        future.add_done_callback(ended.put)

    def _submit(self, function: Callable[..., Any], job: Task, arguments: Sequence[Any]) -> Future:
        key = f"{job.id}-{uuid.uuid4().hex}"
        return self.client.submit(function, job, *arguments, key=key, resources={self._wanted(job): 1}, pure=False)

    def _wanted(self, job: Work) -> str:
        """The resource of which a job takes one."""
        return GPU if job.gpu and self.offered[GPU] or not self.offered[CPU] else CPU

    @staticmethod
    def _result(future: Future) -> Any:
        try:
            return future.result()
        except CancelledError as error:  # nothing here cancels a job: the client does when its scheduler goes
            raise RemoteError(f"the scheduler is lost. {_SAVED}") from error
        except KilledWorker as error:
            peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            return Died(str(error), peak_kb * 1024)

    def _resources(self) -> Counter[str]:
        """How many of each resource the workers offer, which is how many jobs run at once."""
        offered: Counter[str] = Counter()
        for worker in self.client.scheduler_info(n_workers=-1)["workers"].values():
            offered.update(worker.get("resources", {}))
        return offered


def _divided(function: Divisible, jobs: Iterable[Work], count: int) -> Iterator[Work]:
    """The jobs in parts, `count` of each at most."""
    for job in jobs:
        yield from [job] if isinstance(job, Piece) else function.pieces(job, count)


def environment() -> dict[str, str]:
    """What has to agree between driver and workers: the code, the libraries that decide values, and that decoders may
    run in child processes."""
    code = {package: keys.file_digest(plugins.folder(package)) for package in PACKAGES}
    kinds: list[type[Stage]] = [plugins.find("stages", name, Stage) for name in plugins.names("stages")]  # type: ignore[type-abstract]
    libraries = sorted({library for kind in kinds for library in kind.libraries})
    return {
        "python": platform.python_version(),
        **{package: digest[:12] for package, digest in code.items()},
        **{library: keys.library_version(library) for library in libraries},
        "DASK_DISTRIBUTED__WORKER__DAEMON": str(current_process().daemon),
    }


def _differences(found: dict[str, str] | Exception, here: dict[str, str]) -> list[str]:
    if isinstance(found, Exception):
        return [f"it cannot run this code: {found!r}"]
    return [
        f"{name} is {found.get(name)!r}, here {value!r}" for name, value in here.items() if found.get(name) != value
    ]
