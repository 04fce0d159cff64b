"""Remarks: doubts about a row that has its values all the same, such as a text that was cut or a gap that was filled.

A decoder puts remarks on what it decodes, and a stage on the tracks it returns. They are kept in the record of a shard,
never in the shard, and enter no key. Records travel without transcripts, so no remark quotes one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from pipeline.reason import LONGEST, one_line


class Kind(StrEnum):
    """What a remark is about. `unknown` is any kind that this version does not know: another version wrote it."""

    GAP_FILLED = "gap_filled"
    DAMAGED = "damaged"
    CHANNELS_CANCEL = "channels_cancel"
    TEXT_CUT = "text_cut"
    TURNS_LEFT_OUT = "turns_left_out"
    UNKNOWN_WORDS = "unknown_words"
    UNKNOWN = "unknown"

    @property
    def unit(self) -> str:
        """In what the amounts of a remark are counted."""
        return _UNITS.get(self, "")

    @property
    def said(self) -> str:
        """What is true of the `part` of a row, in words."""
        return _SAID.get(self, "in doubt")

    @classmethod
    def _missing_(cls, value: object) -> Kind | None:
        return cls.UNKNOWN if isinstance(value, str) else None


_UNITS = {
    Kind.GAP_FILLED: "s",
    Kind.DAMAGED: "packets",
    Kind.CHANNELS_CANCEL: "s",
    Kind.TEXT_CUT: "tokens",
    Kind.TURNS_LEFT_OUT: "turns",
    Kind.UNKNOWN_WORDS: "words",
}
_SAID = {
    Kind.GAP_FILLED: "filled with silence",
    Kind.DAMAGED: "damaged",
    Kind.CHANNELS_CANCEL: "cancelled by mixing",
    Kind.TEXT_CUT: "cut off",
    Kind.TURNS_LEFT_OUT: "left out",
    Kind.UNKNOWN_WORDS: "without a vector",
}
_AMOUNT = r"([0-9]{1,12}(?:\.[0-9]{1,3})?)"
WRITTEN = rf"^{_AMOUNT}/{_AMOUNT}(?: (.{{1,{LONGEST}}}))?$"
"""The form of a written remark, which bounds its length too."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A doubt about a row. part, whole: how much of the row it concerns and how much there is, in the unit of its kind,
    such as the tokens cut off and the tokens in all. message: more about it, in one line; may be empty."""

    kind: Kind
    part: float
    whole: float
    message: str = ""

    @property
    def written(self) -> str:
        """The remark without its kind, as records keep it."""
        return f"{_number(self.part)}/{_number(self.whole)} {one_line(self.message)}".rstrip()

    @classmethod
    def parse(cls, kind: str, written: str) -> Remark:
        """The inverse of `written`. Raises ValueError for anything else."""
        found = re.fullmatch(WRITTEN, written)
        if found is None:
            raise ValueError(f"not a written remark: {written[:LONGEST]!r}")
        return cls(Kind(kind), float(found[1]), float(found[2]), found[3] or "")

    def __str__(self) -> str:
        whole = f"{amount(self.whole)} {self.kind.unit}".rstrip()
        text = f"{amount(self.part)} of {whole} {self.kind.said}"
        return f"{text}: {self.message}" if self.message else text


def joined(remarks: Iterable[Remark]) -> tuple[Remark, ...]:
    """The remarks on the parts of a row as remarks on the row: one of each kind, with the amounts added and the first
    message."""
    by_kind: dict[Kind, Remark] = {}
    for remark in remarks:
        so_far = by_kind.get(remark.kind)
        by_kind[remark.kind] = remark if so_far is None else _added(so_far, remark)
    return tuple(by_kind.values())


def _added(one: Remark, other: Remark) -> Remark:
    message = one.message or other.message
    return replace(one, part=one.part + other.part, whole=one.whole + other.whole, message=message)


def amount(value: float) -> str:
    """An amount for a person: whole if it is a count, else with one decimal."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
