"""Runs jobs one after another in this process: `--workers 0`, for a debugger and for small runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

J = TypeVar("J")


class Inline:
    """The same methods as `pipeline.run.dask_workers.Workers`, without processes and without Dask."""

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    @property
    def width(self) -> int:
        """One job at a time."""
        return 1

    def preflight(self) -> None:
        """Does nothing: driver and worker are the same process."""

    def agree(self, question: Callable[[], bool]) -> bool:
        """True: driver and worker are the same process."""
        return True

    def everywhere(self, function: Callable[[], Any]) -> None:
        """Runs `function` here."""
        function()

    def run(
        self, function: Callable[..., Any], more: Callable[[], Sequence[J]], *arguments: Any
    ) -> Iterator[tuple[J, Any]]:
        """Runs jobs as `Workers.run` does; a job that kills its process kills this one."""
        waiting = deque(more())
        while waiting:
            job = waiting.popleft()
            yield job, function(job, *arguments)
            waiting.extend(more())
