"""The text of a recipe, which finds the line of a key and collects the errors of the recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline import plugins
from pipeline.errors import InputError
from pipeline.text_file import regular

T = TypeVar("T")

RECIPES = Path(plugins.__file__).parents[1] / "manifests"
"""The folder of the recipes that are known by their names."""


def read_text(path: Path) -> str:
    """The text of a recipe's file. Raises InputError for a file that is not UTF-8."""
    try:
        return regular(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error


class RecipeText:
    """The text of a recipe and the errors noted so far, each with the line that it is about.

    `where`, in every method, is a key and the tables that it is in: ("features", "mulg", "audio").
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        self.lines = self.text.splitlines()
        self.errors: list[str] = []

    def error(self, where: Sequence[str], message: str) -> None:
        """Notes an error at the line of `where`."""
        self.errors.append(f"{self.path}:{self.line(where)}: {'.'.join(where)}: {message}")

    def table(self, where: Sequence[str], value: Any) -> dict[str, Any] | None:
        """`value` if it is a table; otherwise None, and an error is noted."""
        if not isinstance(value, dict):
            self.error(where, f"expected a table, got {value!r}")
            return None
        return value

    def checked(self, where: Sequence[str], read: Callable[[], T]) -> T | None:
        """The result of `read`; None if it raises InputError, which is noted."""
        try:
            return read()
        except InputError as error:
            self.error(where, str(error))
            return None

    def line(self, where: Sequence[str]) -> int:
        """The line, counted from 1, of the longest prefix of `where` that the file has."""
        closest, head = (0, 1), ""
        for number, line in enumerate(self.lines, 1):
            stripped = line.strip()
            if stripped.startswith("["):
                head = name = stripped.lstrip("[").partition("]")[0].strip()
            else:
                name = f"{head}.{stripped.partition('=')[0].strip()}"
            if f"{'.'.join(where)}.".startswith(f"{name}."):
                closest = max(closest, (len(name), number))
        return closest[1]

    def finish(self) -> None:
        """Raises one InputError with all errors noted, if there are any."""
        if self.errors:
            raise InputError("\n".join(self.errors))
