"""A child process for code that may crash or hang: either costs one call, and the next call gets a new child.

Decoders are C libraries, and the files they read are unchecked. They run in a child, so that a segmentation fault, an
endless loop or a demand for all memory fails one row and leaves the worker and its other rows alone.

Arrays travel over the pipe as they lie in memory (pickle protocol 5, out of band), which is as fast as shared memory
and can't leak. They arrive read-only.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, Self

from pipeline.errors import AffectoryError, MachineError, of_machine
from pipeline.interruption import beyond_interruption
from pipeline.reason import Reason, Unreadable

DEADLINE_S = 60.0
"""How long a decoder may take for one clip."""
WATCH_S = 0.5
"""How often a child checks that its parent is alive."""
CLOSE_S = 0.05
"""How often `close` checks that a call in another thread has ended."""
GRACE_S = 5.0
"""How long after a call's deadline a child that nobody killed is ended by its own alarm."""
LOOK_S = 0.05
"""How often a parent that waits looks how much memory its child holds."""


@dataclass(frozen=True)
class Bound:
    """How much memory a child may hold while it is at work on a call.

    A child that holds more is ended; the call then has this reason, and a detail that ends with `advice`.
    """

    most_bytes: int
    reason: Reason
    advice: str


class Child:
    """Runs functions in one child process, one at a time. Threads that share it take turns.

    start_deadline_s: how long a new child may take to get ready, and how long a child may take to unpickle a call.
    prepare: a function that each new child calls first, so that its imports are not charged to a clip. A daemonic
    process can't have a child.
    """

    def __init__(
        self,
        start_deadline_s: float = 60.0,
        prepare: Callable[[], object] | None = None,
        bound: Bound | None = None,
    ) -> None:
        self._start_deadline_s = start_deadline_s
        self._prepare = prepare
        self._bound = bound
        self._turn = threading.Lock()
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._was_looked_at = False

    def call(self, function: Callable[..., Any], *args: Any, deadline_s: float) -> Any:
        """Returns `function(*args)`, which must finish within `deadline_s` of its start.

        Function, arguments and result are pickled. Raises Unreadable: the one that the function raised; OUT_OF_MEMORY,
        IO_ERROR or STAGE_ERROR for its MemoryError, OSError or any other exception; the reason of the bound if the
        child outgrew it; DECODER_CRASHED if the child died (OUT_OF_MEMORY if by SIGKILL); DECODER_HUNG after the
        deadline; WORKER_DIED if the child died before it began. Raises an AffectoryError if no clip is at fault: the
        function's own, one for a missing library or a full disk, and MachineError if no child gets ready.
        """
        with self._turn:
            try:
                pipe = self._ready()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    _send(pipe, (function, args, deadline_s))
                self._wait(self._start_deadline_s, Reason.WORKER_DIED, Reason.WORKER_DIED)
                reply = self._wait(deadline_s, Reason.DECODER_HUNG, Reason.DECODER_CRASHED, self._bound)
            except BaseException:
                self._end()
                raise
        return _result(*reply)

    def close(self) -> None:
        """Ends the child and waits for it, so that it does not stay as a zombie; the next call starts a new one.

        A call that another thread has begun raises Unreadable there.
        """
        while not self._turn.acquire(timeout=CLOSE_S):
            self._kill()
        try:
            self._end()
        finally:
            self._turn.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self) -> Connection:
        """The pipe to a child that is alive and waits for a call. Raises MachineError if there is none."""
        if self._process is None or self._pipe is None or not self._process.is_alive() or self._keeps_memory():
            self._end()
            try:
                self._start()
                # Only now: arguments that don't fit into the pipe would wait for ever for a child that never reads.
                self._wait(self._start_deadline_s, Reason.WORKER_DIED, Reason.WORKER_DIED)
            except (OSError, Unreadable) as error:
                raise MachineError(f"no decoding process gets ready, and no clip is at fault: {error}") from error
        assert self._pipe is not None
        return self._pipe

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, childs_end = context.Pipe()
        process = context.Process(target=_serve, args=(childs_end, self._prepare), name="decoder", daemon=True)
        try:
            with beyond_interruption():
                process.start()
                self._process, self._was_looked_at = process, False
        finally:
            childs_end.close()

    def _keeps_memory(self) -> bool:
        """Whether what a long call left behind takes much of the bound, so that it would be charged to the next."""
        return self._was_looked_at and self._bound is not None and self._held_bytes() > self._bound.most_bytes / 4

    def _held_bytes(self) -> int:
        """How much memory the child holds; 0 once it has died."""
        import psutil  # only a parent that waits needs it

        assert self._process is not None
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _end(self) -> None:
        pipe, process, self._pipe, self._process = self._pipe, self._process, None, None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.kill()
            process.join()
            process.close()

    def _kill(self) -> None:
        """Kills the child of a call in another thread, which may end it at the same time."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ValueError):  # it is closed already
                process.kill()

    def _wait(self, deadline_s: float, late: Reason, dead: Reason, bound: Bound | None = None) -> tuple[str, Any]:
        """The child's next message.

        Raises Unreadable: `late` if none comes in time, `dead` if the child has died, the reason of the bound if it
        outgrows that.
        """
        assert self._pipe is not None and self._process is not None
        try:
            if not (self._pipe.poll(deadline_s) if bound is None else self._polled(deadline_s, bound)):
                raise Unreadable(late, f"no answer within {deadline_s:g} s")
            kind, value = _receive(self._pipe)
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            reason = Reason.OUT_OF_MEMORY if code == -signal.SIGKILL else dead  # nobody but the kernel kills it so
            raise Unreadable(reason, f"the process ended with code {code}") from None
        if kind == "broken":
            raise MachineError(f"a decoding process cannot be prepared, and no clip is at fault: {value}")
        return kind, value

    def _polled(self, deadline_s: float, bound: Bound) -> bool:
        """Whether a message comes in time, of a child that is looked at now and then. Raises Unreadable."""
        assert self._pipe is not None
        end_s = time.monotonic() + deadline_s
        while not self._pipe.poll(min(LOOK_S, max(0.0, end_s - time.monotonic()))):
            self._was_looked_at = True
            if self._held_bytes() > bound.most_bytes:
                raise Unreadable(
                    bound.reason, f"needs more than {bound.most_bytes / 2**30:.2g} GiB of memory: {bound.advice}"
                )
            if time.monotonic() >= end_s:
                return False
        return True


def _result(kind: str, value: Any) -> Any:
    if kind == "unreadable":
        raise Unreadable(*value)
    if kind == "error":
        raise value
    return value


def _serve(pipe: Connection, prepare: Callable[[], object] | None) -> None:
    """The child's main function: answers calls until its parent closes the pipe or dies."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        if prepare is not None and not _prepared(pipe, prepare):
            return
        _send(pipe, ("ready", None))
        while True:
            _answer(pipe)


def _prepared(pipe: Connection, prepare: Callable[[], object]) -> bool:
    try:
        prepare()
    except Exception as error:
        _send(pipe, ("broken", _described(error)))
        return False
    return True


def _answer(pipe: Connection) -> None:
    function, args, deadline_s = _receive(pipe)
    _send(pipe, ("started", None))
    # If the parent has died, the kernel's alarm ends a call that hangs and holds the interpreter's lock.
    signal.setitimer(signal.ITIMER_REAL, deadline_s + GRACE_S)
    try:
        message = _packed(("done", function(*args)))
    except AffectoryError as error:
        message = _packed(("error", error))
    except Exception as error:
        fault = of_machine(error, reads_files=True)
        message = _packed(("error", fault) if fault else ("unreadable", _reason(error)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    _write(pipe, message)


def _reason(error: Exception) -> tuple[Reason, str]:
    if isinstance(error, Unreadable):
        return error.reason, error.detail
    if isinstance(error, MemoryError):
        return Reason.OUT_OF_MEMORY, _described(error)
    return Reason.IO_ERROR if isinstance(error, OSError) else Reason.STAGE_ERROR, _described(error)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    """Ends this process once its parent has died, whatever the main thread does."""
    parent = parent_process()
    while parent is not None and os.getppid() == parent.pid:
        time.sleep(WATCH_S)
    os._exit(1)


Packed = tuple[bytes, list[memoryview]]


def _packed(message: Any) -> Packed:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    return head, [buffer.raw() for buffer in buffers]


def _write(pipe: Connection, message: Packed) -> None:
    head, buffers = message
    pipe.send((head, len(buffers)))
    for buffer in buffers:
        pipe.send_bytes(buffer)


def _send(pipe: Connection, message: Any) -> None:
    _write(pipe, _packed(message))


def _receive(pipe: Connection) -> Any:
    head, count = pipe.recv()
    return ForkingPickler.loads(head, buffers=[pipe.recv_bytes() for _ in range(count)])
