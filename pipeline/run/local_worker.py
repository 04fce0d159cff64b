"""One worker process of this machine: what it does, and how its driver starts, asks and ends it."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from logging.handlers import QueueHandler
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import psutil

from pipeline.cache.home import Home
from pipeline.run.library_folders import provide

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

PACKAGES = ("pipeline", "stages", "models")
"""The packages of whose log the driver gets the details, such as the name of a clip that failed."""
LOOK_S = 0.5
"""How often the memory of a worker at work is looked at."""
LEAVE_S = 3.0
"""How long an idle worker may take to end."""


class LostError(Exception):
    """A worker died. code: its exit code. peak_bytes: the most memory that it was seen to hold."""

    def __init__(self, code: int | None, peak_bytes: int) -> None:
        super().__init__(f"a worker ended with code {code}")
        self.code, self.peak_bytes = code, peak_bytes


class LocalWorker:
    """A process that is forked from the fork server, as its driver sees it. Threads may not share it.

    environment: all its variables. Raises OSError or LostError if it does not start.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        context = get_context("forkserver")
        self._pipe, theirs = context.Pipe()
        self._peak_bytes = 0
        self._process: ForkServerProcess = context.Process(target=_serve, args=(theirs, environment), name="worker")
        try:
            self._process.start()
        except EOFError as error:  # the fork server ended
            raise LostError(None, 0) from error
        finally:
            theirs.close()
        self._answer()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns there; raises what it raises, and LostError if the worker dies."""
        try:
            self._pipe.send((function, arguments))
        except (BrokenPipeError, ConnectionResetError):
            raise self._lost() from None
        return self._answer()

    def kill(self) -> None:
        """Ends the worker at once; a call in another thread raises LostError."""
        self._process.kill()

    def close(self) -> None:
        """Ends an idle worker: by itself, so that its decoder ends with it, or else at once."""
        self._pipe.close()
        self._process.join(LEAVE_S)
        self._process.kill()
        self._process.join()

    def _answer(self) -> Any:
        """The result of a call; what the worker logs meanwhile is logged here."""
        while True:
            try:
                while not self._pipe.poll(LOOK_S):
                    self._look()
                kind, value = self._pipe.recv()
            except (EOFError, ConnectionResetError):
                raise self._lost() from None
            if kind == "log":
                logging.getLogger(value.name).handle(value)
            elif kind == "error":
                raise value
            else:
                return value

    def _look(self) -> None:
        try:
            held = psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:
            return
        self._peak_bytes = max(self._peak_bytes, held)

    def _lost(self) -> LostError:
        self.close()
        return LostError(self._process.exitcode, self._peak_bytes)


Send = Callable[[tuple[str, Any]], None]


class _ToDriver(QueueHandler):
    """Sends what is logged here to the driver."""

    def __init__(self, send: Send) -> None:
        super().__init__(queue=None)  # type: ignore[arg-type] # there is a pipe in its place
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        """See `QueueHandler.enqueue`."""
        self._send(("log", record))


def _serve(pipe: Connection, environment: Mapping[str, str]) -> None:
    """The main function of a worker: answers calls until the driver closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the driver decides when to end
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    send = _sender(pipe)
    _set_up(send)
    send(("done", None))
    while True:
        try:
            function, arguments = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        send(_done(function, arguments))


def _sender(pipe: Connection) -> Send:
    """A function that sends the whole messages of several threads."""
    turn = threading.Lock()

    def send(message: tuple[str, Any]) -> None:
        with turn:
            pipe.send(message)

    return send


def _set_up(send: Send) -> None:
    """Gives libraries the folders and threads that they may use, and the driver the log."""
    provide(Home().root)
    if torch := sys.modules.get("torch"):  # it was imported with the threads of another run
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(_ToDriver(send))
        logger.propagate = False


def _done(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[str, Any]:
    """The answer to a call."""
    try:
        return "done", function(*arguments)
    except Exception as error:
        error.add_note(f"In a worker:\n{traceback.format_exc()}")
        return "error", error if _arrives(error) else RuntimeError("".join(traceback.format_exception(error)))


def _arrives(error: Exception) -> bool:
    """True if the error can be sent; some can be packed and not unpacked."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)  # noqa: S301 - our own bytes
    except Exception:
        return False


def _end_with_driver() -> None:
    """Ends this process once its driver has died, whatever the main thread does."""
    driver = parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)
