"""The tables of pages: cells with their text and style, from which the template makes HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """The text of a cell and its style. share: from 0 to 1, shades it. loud: highlights it. number: aligns it right."""

    text: str
    share: float | None = None
    loud: bool = False
    number: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table. The first cell of a row is its heading. heat: shows the cells as shaded fields of a map."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    heat: bool = False

    @classmethod
    def of(
        cls, caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "", *, heat: bool = False
    ) -> Sheet:
        """Makes a table of plain values and cells."""
        return cls(caption, list(header), [[cell(value) for value in row] for row in rows], note, heat)


def render(package: str, template: str, **values: Any) -> str:
    """A page from a template of a room, which may extend those of this one; all text in it is escaped."""
    loaders = [PackageLoader(name, ".") for name in dict.fromkeys((package, __package__))]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(**values)


def cell(value: Any) -> Cell:
    """A value as a cell: scores with four decimals, counts with separators, None as a dash."""
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell(NONE, number=True)
    if isinstance(value, float):
        return Cell(f"{value:.4f}".replace("-", "−"), number=True)
    if isinstance(value, int):
        return Cell(f"{value:,}".replace("-", "−"), number=True)
    return Cell(str(value))


def amount(value: float | None, unit: str = "", decimals: int = 1) -> Cell:
    """A measured number with its unit; None as a dash."""
    return cell(None) if value is None else Cell(f"{value:,.{decimals}f} {unit}".strip(), number=True)


def size(count: float) -> Cell:
    """A number of bytes, in the largest unit of which there is at least one."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return amount(count, unit, 0 if unit == "B" else 1)
        count /= 1000
    return amount(count, "TB")


def parameters(values: Mapping[str, Any]) -> str:
    """Parameters as `name = value`, digests cut to twelve digits."""
    return ", ".join(f"{name} = {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, str):
        return f"{value[:12]}…" if len(value) == 64 and " " not in value else value
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_value, value))})"
    return str(value)
