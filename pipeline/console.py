"""What people see while a command runs: lines, tables and progress bars, on standard error.

Standard output is for results only.
"""

from __future__ import annotations

import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

_PLAIN = "\n\t"
_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""The characters by which a text changes the order of what follows it."""


def visible(text: str) -> str:
    """The text with an escape such as `\\x1b` for each character that would steer the terminal or that UTF-8 lacks."""
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    steers = unicodedata.category(character) in ("Cc", "Cs") or character in _OVERRIDES
    return ascii(character)[1:-1] if steers and character not in _PLAIN else character


class _Console(Console):
    """A console on which a text that came from elsewhere, such as an id, cannot steer the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        """The text of a line or of a cell of a table, made visible."""
        return super().render_str(visible(text), **options)


console = _Console(stderr=True)


def live() -> bool:
    """True if bars can be drawn anew in place: on a terminal that does not say that it is dumb."""
    return console.is_terminal and not console.is_dumb_terminal


LINE_S = 30.0
"""Seconds between lines of progress where there are no live bars."""
BYTES = "bytes"
"""The unit of bars that are shown in MB."""


def print_line(text: str, style: str = "") -> None:
    """Prints text as it is: markup in it is not read, and its lines are not broken, so that paths can be copied."""
    console.print(text, style=style or None, markup=False, emoji=False, highlight=False, soft_wrap=True)


def table(title: str, name: str, *numbers: str, caption: str = "") -> Table:
    """An empty table that fits 80 columns: a first column of names, which may fold, then numbers on the right."""
    made = Table(
        Column(name, overflow="fold"), box=SIMPLE, padding=(0, 0, 0, 1), title=escape(title), caption=caption or None
    )
    for number in numbers:
        made.add_column(number, justify="right", no_wrap=True)
    return made


class Bars:
    """Live bars by name, with rate and time left; where they cannot be drawn, a plain line every `LINE_S` seconds.

    A context manager. Any thread may advance a bar.
    """

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:>7}", markup=False), BarColumn(), _Amount(), _Rate())
        self._progress = Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=console)
        self._bars: dict[str, TaskID] = {}
        self._lines = _Lines()

    def __enter__(self) -> Bars:
        if live():
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if live():
            self._progress.stop()
        for stop in error:
            if isinstance(stop, KeyboardInterrupt):
                for left in self.left():
                    stop.add_note(left)

    def left(self) -> list[str]:
        """What is not done of each bar, such as `40 of 60 rows of audio`."""
        return [_left(task) for task in self._progress.tasks if not task.finished]

    def grow(self, name: str, unit: str, size: int) -> None:
        """Adds to the total of a bar. The first call makes the bar appear."""
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=0, unit=unit, name=name)
        task = self._progress.tasks[self._bars[name]]
        self._progress.update(task.id, total=(task.total or 0) + size)

    def advance(self, name: str, size: int = 1) -> None:
        """Adds to what is done."""
        self._progress.advance(self._bars[name], size)
        self._show_line(name)

    def reach(self, name: str, done: int, said: str = "") -> None:
        """Sets what is done in all. said: more about it, shown behind the name."""
        self._progress.update(self._bars[name], completed=done, description=f"{name} {said}".rstrip())
        self._show_line(name)

    def _show_line(self, name: str) -> None:
        if not live():
            self._lines.show(self._progress.tasks[self._bars[name]])


@contextmanager
def bar(name: str, unit: str, total: int) -> Iterator[Callable[[int], None]]:
    """A single bar, as a context that gives the function to advance it. Shows nothing if the total is 0."""
    if not total:
        yield lambda size: None
        return
    with Bars() as bars:
        bars.grow(name, unit, total)
        yield partial(bars.advance, name)


@dataclass
class _Lines:
    """Plain lines instead of live bars: at most one every `LINE_S` seconds, and one when a bar is full."""

    last_s: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self, task: Task) -> None:
        with self.lock:
            now_s = time.monotonic()
            if now_s - self.last_s < LINE_S and not task.finished:
                return
            self.last_s = now_s
        left = f", about {task.time_remaining:.0f} s left" if task.time_remaining else ""
        print_line(f"{task.description}: {_amount(task)}, {_rate(task)}{left}")


class _Amount(ProgressColumn):
    """The amount done and the total, such as `20/60 rows`."""

    def render(self, task: Task) -> Text:
        return Text(_amount(task))


class _Rate(ProgressColumn):
    """The amount per second."""

    def render(self, task: Task) -> Text:
        return Text(_rate(task))


def _amount(task: Task) -> str:
    total = task.total or 0
    if task.fields["unit"] == BYTES:
        return f"{task.completed / 1e6:,.1f}/{total / 1e6:,.1f} MB"
    return f"{task.completed:,.0f}/{total:,.0f} {task.fields['unit']}"


def _left(task: Task) -> str:
    name, unit, total = task.fields["name"], task.fields["unit"], task.total or 0
    of, unit = (1e6, "MB") if unit == BYTES else (1, unit)
    share = f"{(total - task.completed) / of:,.0f} of {total / of:,.0f} {unit}"
    return share if name == unit else f"{share} of {name}"


def _rate(task: Task) -> str:
    speed = task.speed or (task.completed / task.elapsed if task.elapsed else 0.0)
    return f"{speed / 1e6:,.1f} MB/s" if task.fields["unit"] == BYTES else f"{speed:,.1f}/s"
