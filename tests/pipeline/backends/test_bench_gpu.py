"""The measure for a GPU says that there is none, and runs on a CPU."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from tests.bench import gpu


def test_without_a_gpu_the_measure_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    assert end.value.code == 2 and "torch finds no GPU here" in capsys.readouterr().err


def test_on_a_cpu_the_measure_prints_a_rate_and_the_share_of_the_peak(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AFFECTORY_BACKEND", "")
    monkeypatch.setenv("AFFECTORY_HOME", "")
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--only", "resnet50", "--turns", "1"])
    gpu.main()
    printed = capsys.readouterr().out
    assert re.search(r"^\| resnet50 \| [\d.]+ \| 0\.\d+ \| \d\.\d\d \|$", printed, re.MULTILINE)
    assert "copies, halving: need a GPU" in printed
