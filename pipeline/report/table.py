"""Tables of the report before they are HTML: rows of cells that know how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """The text of a cell. `share`, from 0 to 1, shades it; a loud one stands out; numbers stand on the right."""

    text: str
    share: float | None = None
    loud: bool = False
    number: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table; the first cell of a row is its heading. `heat` shows it as a map of shaded cells."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    heat: bool = False

    @classmethod
    def of(
        cls, caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "", *, heat: bool = False
    ) -> Sheet:
        """A table of plain values and cells."""
        return cls(caption, list(header), [[cell(value) for value in row] for row in rows], note, heat)


def cell(value: Any) -> Cell:
    """A value as it is shown: scores with four decimals, counts with separators, a dash for what is not known."""
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
    """A measured number with its unit; loud never, a dash where there is none."""
    return cell(None) if value is None else Cell(f"{value:,.{decimals}f} {unit}".strip(), number=True)


def size(count: float) -> Cell:
    """Bytes, in the largest unit that leaves a whole number before the point."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return amount(count, unit, 0 if unit == "B" else 1)
        count /= 1000
    return amount(count, "TB")


def parameters(values: Mapping[str, Any]) -> str:
    """`name = value` of each, long digests cut short."""
    return ", ".join(f"{name} = {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, str):
        return f"{value[:12]}…" if len(value) == 64 and " " not in value else value
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_value, value))})"
    return str(value)
