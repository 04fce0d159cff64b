"""What a person sees while work is under way. It goes to standard error; results alone go to standard output."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

console = Console(stderr=True)

LINE_S = 30.0
"""How often a line tells of progress if there is no terminal for live bars."""
BYTES = "bytes"
"""The unit of bars that are shown in MB."""


class Bars:
    """Live bars by name, with rate and time left; without a terminal, a plain line every `LINE_S` seconds.

    A context manager. Any thread may advance a bar.
    """

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:>7}"), BarColumn(), _Amount(), _Rate())
        self._progress = Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=console)
        self._bars: dict[str, TaskID] = {}
        self._lines = _Lines()

    def __enter__(self) -> Bars:
        if console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def grow(self, name: str, unit: str, size: int) -> None:
        """Adds to the total of a bar, which appears with the first."""
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(escape(name), total=0, unit=unit)
        task = self._progress.tasks[self._bars[name]]
        self._progress.update(task.id, total=(task.total or 0) + size)

    def advance(self, name: str, size: int = 1) -> None:
        """So much more is done."""
        self._progress.advance(self._bars[name], size)
        self._tell(name)

    def reach(self, name: str, done: int) -> None:
        """So much is done in all."""
        self._progress.update(self._bars[name], completed=done)
        self._tell(name)

    def _tell(self, name: str) -> None:
        if not console.is_terminal:
            self._lines.tell(self._progress.tasks[self._bars[name]])


@contextmanager
def bar(name: str, unit: str, total: int) -> Iterator[Callable[[int], None]]:
    """One bar; gives the function that advances it. Nothing is shown if there is nothing to do."""
    if not total:
        yield lambda size: None
        return
    with Bars() as bars:
        bars.grow(name, unit, total)
        yield partial(bars.advance, name)


@dataclass
class _Lines:
    """Plain lines in place of live bars: one at most every `LINE_S` seconds, and one at the end of each bar."""

    last_s: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, task: Task) -> None:
        with self.lock:
            now_s = time.monotonic()
            if now_s - self.last_s < LINE_S and not task.finished:
                return
            self.last_s = now_s
        left = f", about {task.time_remaining:.0f} s left" if task.time_remaining else ""
        console.print(f"{task.description}: {_amount(task)}, {_rate(task)}{left}", highlight=False, soft_wrap=True)


class _Amount(ProgressColumn):
    """How much is done of how much."""

    def render(self, task: Task) -> Text:
        return Text(_amount(task))


class _Rate(ProgressColumn):
    """How fast it goes."""

    def render(self, task: Task) -> Text:
        return Text(_rate(task))


def _amount(task: Task) -> str:
    total = task.total or 0
    if task.fields["unit"] == BYTES:
        return f"{task.completed / 1e6:,.1f}/{total / 1e6:,.1f} MB"
    return f"{task.completed:,.0f}/{total:,.0f} {task.fields['unit']}"


def _rate(task: Task) -> str:
    speed = task.speed or (task.completed / task.elapsed if task.elapsed else 0.0)
    return f"{speed / 1e6:,.1f} MB/s" if task.fields["unit"] == BYTES else f"{speed:,.1f}/s"
