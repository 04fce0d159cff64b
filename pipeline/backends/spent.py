"""What networks spend on each backend while a stage is called. It goes into the record of a shard and into no key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Spent:
    """By backend: how many inputs (images, clips, texts, waves) a network was given, and the seconds it took."""

    inputs: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, backend: str, inputs: int, seconds: float) -> None:
        """Adds one forward pass."""
        self.inputs[backend] += inputs
        self.seconds[backend] = self.seconds.get(backend, 0.0) + seconds

    def answer(self) -> dict[str, dict[str, float]]:
        """The same as JSON-able data, with the rate in inputs per second."""
        return {
            name: {"inputs": count, "seconds": round(self.seconds[name], 3), "rate_hz": self._rate_hz(name)}
            for name, count in sorted(self.inputs.items())
        }

    def _rate_hz(self, backend: str) -> float:
        return round(self.inputs[backend] / max(self.seconds[backend], 1e-9), 3)


_counted: ContextVar[Spent | None] = ContextVar("counted", default=None)


@contextmanager
def counted_in(spent: Spent) -> Iterator[None]:
    """Adds what networks spend in this context to `spent`."""
    token = _counted.set(spent)
    try:
        yield
    finally:
        _counted.reset(token)


def count(backend: str, inputs: int, seconds: float) -> None:
    """Counts one forward pass, if anybody wants to know."""
    if (spent := _counted.get()) is not None:
        spent.add(backend, inputs, seconds)
