"""Files that were changed by chance are refused with a message, or right; they cost little time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("cases", [350, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_changed_file_is_refused_with_a_message_or_right_in_2_s_and_500_mb(cases):
    program = [sys.executable, "-m", "tests.fuzz", str(cases), "13"]
    answer = json.loads(subprocess.run(program, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert {outcome for outcome in answer["outcomes"] if not outcome.endswith((": refused", ": right"))} == set()
    assert sum(answer["outcomes"].values()) == cases
    assert answer["slowest_s"] < 2
    assert answer["peak_mb"] < 500
