"""The Makefile: whatever variables a team exports, each target gives a command that the command line understands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from pipeline.cli import main

ROOT = Path(__file__).parents[3]
COMMANDS = typer.main.get_command(main.app).commands  # type: ignore[attr-defined]
TARGETS = ("extract", "plan", "doctor", "fetch", "weights", "push", "pull", "status", "verify", "train", "report")
VARIABLES = {
    "DATASET": "demo",
    "ROOT": "/a place",
    "PROTOCOL": "cv",
    "MODALITY": "audio",
    "SET": "a.b=1",
    "REMOTE": "file:///x",
    "MODEL": "hjcag",
    "SEED": "1",
    "SPLIT": "train",
    **dict.fromkeys(("WORKERS", "GPUS", "LOCKED", "RETRY", "NO_TEXT", "RELOCK"), "1"),
    "SCHEDULER": "tcp://host:1",
}


def made(target: str, **variables: str) -> list[str]:
    """The command of a target, with its arguments."""
    given = [f"{name}={value}" for name, value in variables.items()]
    line = ["make", "--dry-run", "--assume-old", ".venv/.ready", target, *given]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    [found] = re.findall(r"bin/affectory (.*)", done.stdout.replace("\\\n", ""))
    return shlex.split(found)


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_understood_with_every_variable_set(target):
    name, *arguments = made(target, **VARIABLES)
    assert name == target
    COMMANDS[name].make_context(name, arguments)


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize("target", ["extract", "plan", "push", "pull", "status", "train", "report"])
def test_a_variable_that_names_folds_or_parameters_is_never_left_out(target):
    given = COMMANDS[target].make_context(target, made(target, **VARIABLES)[1:]).params
    found = {name: given[name] for name in ("dataset", "root", "protocol", "change")}
    assert found == {"dataset": "demo", "root": "/a place", "protocol": "cv", "change": ["a.b=1"]}
