"""The demo as its users run it: what can be learned from the synthetic corpus is learned, and nothing runs twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def affectory(home: Path, *arguments: str) -> dict[str, Any]:
    line = [sys.executable, "-m", "pipeline.cli", *arguments, "--dataset", "demo", "--json"]
    environment = {**os.environ, "AFFECTORY_HOME": str(home)}
    done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_each_model_beats_every_linear_probe_and_a_second_extraction_does_nothing(tmp_path: Path) -> None:
    first = affectory(tmp_path, "extract")
    assert set(first["computed"].values()) >= {600} and not first["failed"]
    trained = affectory(tmp_path, "train", "--model", "hjcag", "--model", "mulg")["models"]
    probes = affectory(tmp_path, "report")["probes"]
    reached = {name: found["test"]["accuracy"] for name, found in probes.items()}
    assert len(reached) == 6 and min(reached.values()) >= 0.5, reached
    for answer in trained:
        [fold] = answer["folds"]
        assert fold["metrics"]["accuracy"] > max(reached.values()), f"{answer['model']}: {reached}"
        assert fold["metrics"]["accuracy"] <= 0.78 + 0.1
    again = affectory(tmp_path, "extract")
    assert (again["jobs"], again["calls"], again["computed"]) == (0, {}, {})
