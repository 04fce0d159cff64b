"""The text of a recipe: where a key stands in it, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import InputError

T = TypeVar("T")


class Source:
    """The text of a recipe: finds the line of a table's key for error messages, and collects the errors.

    Raises InputError for a file that is no UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: no UTF-8 text: {error}") from error
        self.lines = self.text.splitlines()
        self.errors: list[str] = []

    def error(self, table: Sequence[str], message: str) -> None:
        """Notes an error at the deepest part of `table` that has a line."""
        self.errors.append(f"{self.path}:{self.line(table)}: {'.'.join(table)}: {message}")

    def table(self, table: Sequence[str], found: Any) -> dict[str, Any] | None:
        """`found`; None where it is no table, which is noted."""
        if not isinstance(found, dict):
            self.error(table, f"expected a table, got {found!r}")
            return None
        return found

    def checked(self, table: Sequence[str], read: Callable[[], T]) -> T | None:
        """What `read` returns; None where it raised an InputError, which is noted at `table`."""
        try:
            return read()
        except InputError as error:
            self.error(table, str(error))
            return None

    def line(self, table: Sequence[str]) -> int:
        """The line, from 1, of the longest prefix of `table` that stands in the file."""
        found, head = (0, 1), ""
        for i, text in enumerate(self.lines, 1):
            stripped = text.strip()
            if stripped.startswith("["):
                head = name = stripped[1:].partition("]")[0].strip()
            else:
                name = f"{head}.{stripped.partition('=')[0].strip()}"
            if f"{'.'.join(table)}.".startswith(f"{name}."):
                found = max(found, (len(name), i))
        return found[1]

    def finish(self) -> None:
        """Raises InputError with all errors noted."""
        if self.errors:
            raise InputError("\n".join(self.errors))
