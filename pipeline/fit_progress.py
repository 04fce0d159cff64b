"""What a fit says while it goes on: lines with its epochs, losses and the time left, on whatever worker it runs.

The lines are log records of this module, which workers forward to the driver.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger(__name__)

EVERY_S = 5.0
"""Seconds between two lines of a fit; its last epoch has a line in any case."""
_name: ContextVar[str] = ContextVar("name", default="a fit")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """A context in which lines begin with the name of a fit."""
    before = _name.set(name)
    try:
        yield
    finally:
        _name.reset(before)


class FitLines:
    """The lines of one piece of work: `epochs` passes over `rows` rows. what: said before the epoch."""

    def __init__(self, epochs: int, rows: int, what: str = "") -> None:
        self.epochs, self.rows, self.what = epochs, rows, what
        self.done = 0
        self._began_s = self._last_s = time.monotonic()

    def reached(self, row: int) -> None:
        """Says how many rows of the present epoch are done, if it is time for a line."""
        if self._due():
            share = (self.done + row / self.rows) / self.epochs
            self._say(f"epoch {self.done + 1} of {self.epochs}, {row:,} of {self.rows:,} rows", share)

    def ended(self, train_loss: float, valid_loss: float | None, *, last: bool) -> None:
        """Says the losses of an epoch that has ended, if it is time for a line or the `last` one. valid_loss: None
        without validation rows."""
        self.done += 1
        if last or self._due():
            losses = f"loss {train_loss:.3f}" + ("" if valid_loss is None else f", of validation {valid_loss:.3f}")
            self._say(f"epoch {self.done} of {self.epochs}, {losses}", 1 if last else self.done / self.epochs)

    def _due(self) -> bool:
        return time.monotonic() - self._last_s >= EVERY_S

    def _say(self, text: str, share: float) -> None:
        """share: of all epochs that is done; patience may end them sooner."""
        self._last_s = time.monotonic()
        left_s = (self._last_s - self._began_s) * (1 / share - 1) if share else 0.0
        log.info("%s: %s%s%s", _name.get(), self.what, text, f", at most {left_s:,.0f} s left" if left_s else "")


class ReadLines:
    """Lines of the clips that a fit decodes before its first epoch. rows: how many there are."""

    def __init__(self, rows: int) -> None:
        self.rows, self._last_s = rows, time.monotonic()

    def reached(self, row: int) -> None:
        """Says how many clips are decoded, if it is time for a line."""
        if time.monotonic() - self._last_s >= EVERY_S:
            self._last_s = time.monotonic()
            log.info("%s: %s of %s clips are decoded", _name.get(), f"{row:,}", f"{self.rows:,}")
