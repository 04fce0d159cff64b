"""Ctrl-C: the first ends a command in order and says what is left, the second ends it at once.

This is imported before anything else, so it imports next to nothing: until it is there, Ctrl-C is Python's own.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130
"""The exit code after Ctrl-C or SIGTERM: 128 and the number of SIGINT, as shells have it."""
STDERR = 2
SHOW_CURSOR = b"\x1b[?25h"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM. What was under way notes on it what is left (`add_note`).

    It is a class of its own because Python ends by a signal, without an exit code, after a plain KeyboardInterrupt has
    left code that was compiled while it ran, such as a dataclass.
    """


def listen() -> None:
    """From now on SIGTERM and the first Ctrl-C raise Interrupted, and a second Ctrl-C ends this process at once.

    A process that was started to ignore Ctrl-C, as a shell's background jobs are, goes on ignoring it.
    """
    signal.signal(signal.SIGTERM, _raise)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _first)


def _raise(number: int, frame: object) -> None:
    raise Interrupted


def _first(number: int, frame: object) -> None:
    signal.signal(signal.SIGINT, _second)
    raise Interrupted


def _second(number: int, frame: object) -> None:
    """Ends the process without any clean-up. Its workers and decoders end as soon as it is gone."""
    if os.isatty(STDERR):
        os.write(STDERR, SHOW_CURSOR)
    os._exit(INTERRUPTED)


@contextmanager
def beyond_interruption() -> Iterator[None]:
    """A context in which processes and threads are begun that Ctrl-C does not reach, nor what they begin themselves.

    A terminal sends Ctrl-C to a whole group of processes; only the first of them decides when the others end.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # as it starts, it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def line(ended: BaseException) -> str:
    """What to tell of a command that an interruption has ended: what is kept, what is left, and how to go on.

    ended: the exception that the interruption became on its way.
    """
    left = ", ".join(_left(ended))
    return f"Interrupted. What is finished is kept{f'; left: {left}' if left else ''}. {_command()} goes on from there."


def _left(ended: BaseException | None) -> Iterator[str]:
    """What was noted on the interruption, the innermost first."""
    while ended is not None:
        yield from getattr(ended, "__notes__", ())
        ended = ended.__cause__ or ended.__context__


def _command() -> str:
    """The command as it can be typed again."""
    import shlex
    import shutil
    from pathlib import Path

    found = shutil.which("affectory")
    called = Path(sys.argv[0])
    elsewhere = called.name == "affectory" and called.exists() and not (found and called.samefile(found))
    return shlex.join([sys.argv[0] if elsewhere else "affectory", *sys.argv[1:]])
