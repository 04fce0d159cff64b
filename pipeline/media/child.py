"""A persistent child process for code that may crash or hang: either costs one call, and the next gets a new child.

Decoders are C libraries fed with files nobody checked. They run here, so that a segmentation fault or an endless loop
becomes the reason of one row and neither the worker nor its other rows notice.

Arrays travel over the pipe as they lie in memory (pickle protocol 5, out of band): no slower than shared memory, and
there is nothing to leak. They arrive read-only.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, Self

from pipeline.reason import Reason, Unreadable

WATCH_S = 0.5
"""How often a child looks whether its parent still lives."""
GRACE_S = 5.0
"""How long after a call's deadline a child that nobody killed is ended by its own alarm."""


class Child:
    """Runs functions in one child process, one at a time; safe to use from several threads, which then take turns.

    start_deadline_s: how long a new child may take until it starts work. prepare: what each new child calls first,
    for imports that are not to be charged to a clip. The process that holds it must not be daemonic.
    """

    def __init__(self, start_deadline_s: float = 60.0, prepare: Callable[[], object] | None = None) -> None:
        self._start_deadline_s = start_deadline_s
        self._prepare = prepare
        self._turn = threading.Lock()
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def call(self, function: Callable[..., Any], *args: Any, deadline_s: float) -> Any:
        """`function(*args)`, which must finish within `deadline_s` of having started.

        Function, arguments and result must pickle. Raises Unreadable: the one the function raised; OUT_OF_MEMORY,
        IO_ERROR or STAGE_ERROR for its MemoryError, OSError or any other exception; DECODER_CRASHED where the child
        died (OUT_OF_MEMORY by SIGKILL), DECODER_HUNG past the deadline, WORKER_DIED where a child did not start.
        RuntimeError where `prepare` failed.
        """
        with self._turn:
            pipe = self._ready()
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    _send(pipe, (function, args, deadline_s))
                self._wait(self._start_deadline_s, Reason.WORKER_DIED, Reason.WORKER_DIED)
                reply = self._wait(deadline_s, Reason.DECODER_HUNG, Reason.DECODER_CRASHED)
            except BaseException:
                self._end()
                raise
        return _result(*reply)

    def close(self) -> None:
        """Ends the child and waits for it, so that no zombie stays; a later call starts a new one."""
        with self._turn:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self) -> Connection:
        """The pipe to a living child."""
        if self._process is None or self._pipe is None or not self._process.is_alive():
            self._end()
            self._start()
        assert self._pipe is not None
        return self._pipe

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._prepare), name="decoder", daemon=True)
        try:
            self._process.start()
        except BaseException:
            self._process = None
            raise
        finally:
            theirs.close()

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        self._process = self._pipe = None

    def _wait(self, deadline_s: float, late: Reason, dead: Reason) -> tuple[str, Any]:
        """The child's next message; Unreadable with `late` or `dead` where none comes."""
        assert self._pipe is not None and self._process is not None
        try:
            if not self._pipe.poll(deadline_s):
                raise Unreadable(late, f"no answer within {deadline_s:g} s")
            kind, value = _receive(self._pipe)
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            reason = Reason.OUT_OF_MEMORY if code == -signal.SIGKILL else dead  # the kernel's way, and nobody else's
            raise Unreadable(reason, f"the process ended with code {code}") from None
        if kind == "broken":
            raise RuntimeError(f"the decoder process cannot be prepared: {value}")
        return kind, value


def _result(kind: str, value: Any) -> Any:
    if kind == "unreadable":
        raise Unreadable(*value)
    return value


def _serve(pipe: Connection, prepare: Callable[[], object] | None) -> None:
    """The child's life: answers call after call until its parent closes the pipe or dies."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent says when to end
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        if prepare is not None and not _prepared(pipe, prepare):
            return
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
    # The kernel's own alarm ends a call that hangs with the interpreter's lock held after the parent has died.
    signal.setitimer(signal.ITIMER_REAL, deadline_s + GRACE_S)
    try:
        message: tuple[str, Any] = ("done", function(*args))
        packed = _packed(message)
    except Exception as error:
        packed = _packed(("unreadable", _reason(error)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    _write(pipe, packed)


def _reason(error: Exception) -> tuple[Reason, str]:
    if isinstance(error, Unreadable):
        return error.reason, error.detail
    if isinstance(error, MemoryError):
        return Reason.OUT_OF_MEMORY, _described(error)
    return Reason.IO_ERROR if isinstance(error, OSError) else Reason.STAGE_ERROR, _described(error)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    """Ends this process once another than its parent has adopted it, whatever its main thread does."""
    parent = parent_process()
    while parent is not None and os.getppid() == parent.pid:
        time.sleep(WATCH_S)
    os._exit(1)


Packed = tuple[bytes, list[memoryview]]


def _packed(message: Any) -> Packed:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    return head, [buffer.raw() for buffer in buffers]


def _write(pipe: Connection, packed: Packed) -> None:
    head, buffers = packed
    pipe.send((head, len(buffers)))
    for buffer in buffers:
        pipe.send_bytes(buffer)


def _send(pipe: Connection, message: Any) -> None:
    _write(pipe, _packed(message))


def _receive(pipe: Connection) -> Any:
    head, count = pipe.recv()
    return ForkingPickler.loads(head, buffers=[pipe.recv_bytes() for _ in range(count)])
