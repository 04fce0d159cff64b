"""Remarks are written in one line of bounded length, read back, and joined by kind."""

from __future__ import annotations

import pytest

from pipeline.reason import LONGEST
from pipeline.remark import Kind, Remark, joined


@pytest.mark.parametrize(
    ("remark", "written"),
    [
        (Remark(Kind.TEXT_CUT, 12, 140), "12/140"),
        (Remark(Kind.GAP_FILLED, 1.5, 6.0), "1.5/6"),
        (Remark(Kind.GAP_FILLED, 1 / 3, 100.0, "after 2 s"), "0.333/100 after 2 s"),
        (Remark(Kind.DAMAGED, 0, 0, "of the third file"), "0/0 of the third file"),
    ],
)
def test_a_remark_is_written_in_one_line_and_read_back(remark: Remark, written: str) -> None:
    assert remark.written == written
    read = Remark.parse(remark.kind.value, written)
    assert (read.kind, read.written) == (remark.kind, written)


def test_a_message_is_one_line_without_folders_of_the_machine_and_of_bounded_length() -> None:
    assert Remark(Kind.DAMAGED, 1, 9, "in /home/ann/a.wav\nand more").written == "1/9 in a.wav"
    assert len(Remark(Kind.DAMAGED, 1, 9, "x" * 1000).written) == len("1/9 ") + LONGEST


@pytest.mark.parametrize(
    "text", ["", "12", "12/", "-1/3", "nan/3", "1e9/3", "1/2 ", "1/2\n", "1/2 " + "x" * 301, "٣/٣"]
)
def test_what_is_no_written_remark_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a written remark"):
        Remark.parse("damaged", text)


def test_a_kind_that_only_another_version_knows_is_unknown() -> None:
    assert Remark.parse("eaten_by_the_dog", "1/2").kind is Kind.UNKNOWN


def test_remarks_on_the_parts_of_a_row_become_one_of_each_kind() -> None:
    gaps = [Remark(Kind.GAP_FILLED, 1, 5), Remark(Kind.GAP_FILLED, 0.5, 2, "in the second")]
    cut = Remark(Kind.TEXT_CUT, 1, 9)
    assert joined([gaps[0], cut, gaps[1]]) == (Remark(Kind.GAP_FILLED, 1.5, 7, "in the second"), cut)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_said_in_words(kind: Kind) -> None:
    unit = f" {kind.unit}" if kind.unit else ""
    assert str(Remark(kind, 1, 2, "here")) == f"1 of 2{unit} {kind.said}: here"
    assert bool(kind.unit) == (kind is not Kind.UNKNOWN)
