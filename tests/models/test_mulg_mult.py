"""What `tests.bench.mulg_mult` compares is alike where it says so, and its table has a row for each."""

from __future__ import annotations

import pytest

from tests.bench.mulg_mult import build, contenders, cost_table, count, mflops

LINES = contenders()


def test_mult_has_mulgs_width_and_then_its_parameters() -> None:
    mulg, default, wide, narrow = (count(build(line.model, line.config, 50)) for line in LINES)
    assert LINES[2].config == {"layers": 2, "memory_layers": 2, "heads": 4, "width": 40}
    assert narrow == pytest.approx(mulg, rel=0.1)
    assert narrow < wide < default


@pytest.mark.slow  # torch takes seconds to begin counting
def test_operations_grow_faster_than_the_length() -> None:
    mulg = build("mulg", {}, 16)
    short, long = mflops(mulg, 4), mflops(mulg, 16)
    assert 4 * short < long < 16 * short


@pytest.mark.slow
def test_the_table_has_a_row_for_each_length_and_model(capsys: pytest.CaptureFixture[str]) -> None:
    cost_table([2], LINES[:1])
    head, _, line = capsys.readouterr().out.splitlines()
    assert line.count("|") == head.count("|") and line.startswith("| 2 | MulG | ")
    assert float(line.split("|")[-2].replace(",", "")) >= 0
