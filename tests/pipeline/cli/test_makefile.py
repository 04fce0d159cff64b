"""The Makefile: each target prints and runs a clean command that the command line understands, or refuses to run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from pipeline.cli import main

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make")

ROOT = Path(__file__).parents[3]
COMMANDS = typer.main.get_command(main.app).commands  # type: ignore[attr-defined]
VARIABLES = {
    "DATASET": "demo",
    "ROOT": "/a place",
    "PROTOCOL": "cv",
    "LABELS": "six_7433",
    "LIMIT": "20",
    "MODALITY": "audio",
    "SET": "a.b=1",
    "REMOTE": "file:///x",
    "MODEL": "hjcag",
    "LOG": "tensorboard",
    "OVER": "train.hjcag.dropout=0.2,0.4 train.hjcag.d_model=32",
    "TRIALS": "3",
    "RUN": "hjcag",
    "WITHOUT": "each audio=0.3",
    "MODALITIES": "text audio",
    "NOISE_DB": "20 -5",
    "NOISE": "/my sounds",
    "WRONG": "8",
    "BUNDLE": "hjcag.zip",
    "VIDEO": "a.mp4",
    "AUDIO": "a.wav",
    "TEXT": "text audio",
    "SUBTITLES": "a.srt",
    "ASR": "org/model",
    "WINDOW_S": "4",
    "HOP_S": "2",
    "SEED": "1",
    "SPLIT": "train",
    "PART": "3/40",
    "RELEASE": "demo-1.0",
    "NAME": "demo",
    "VERSION": "1.0",
    "UTTERANCE": "Ses01F_impro01_F000",
    "STAGE": "audio_mfcc",
    "FOLD": "official",
    "SHARD": "abcdef",
    "DIR": "/my clips",
    "ENCODING": "cp1252",
    "FORMAT": "mmsa",
    "FEATURES": "hjcag",
    "TO": "/my files/demo.pkl",
    "DAYS": "3",
    **dict.fromkeys(("WORKERS", "GPUS", "LOCKED", "RETRY", "NO_TEXT", "RELOCK", "DELETE", "REMARKS", "SYSTEM"), "1"),
    **dict.fromkeys(("ABLATIONS", "BEST_TEST_EPOCH", "NO_MEDIA", "MEDIA_MB"), "1"),
    "SCHEDULER": "tcp://host:1",
}
NEEDED = {
    "release": ("NAME", "VERSION"),
    "init-table": ("DIR",),
    "explain": ("SHARD",),
    "why": ("UTTERANCE", "STAGE"),
    "evaluate": ("RUN",),
    "maps": ("RUN",),
    "bundle": ("RUN",),
    "predict": ("BUNDLE",),
    "rank": ("MODALITY",),
    "export": ("FORMAT", "FEATURES", "TO"),
    "sweep": ("MODEL", "OVER"),
}
"""The variables without which a target refuses to run."""
OUTSIDE = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
"""The environment without what `make test` leaves in it, so that a `make` in here says what a user's says."""


def make(target: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `make` would print and run."""
    given = [f"{name}={value}" for name, value in variables.items()]
    line = ["make", "--dry-run", "--assume-old", ".venv/.ready", target, *given]
    return subprocess.run(line, cwd=ROOT, env=OUTSIDE, capture_output=True, text=True, check=False)


def command(target: str, **variables: str) -> list[str]:
    """The command of a target, with its arguments."""
    done = make(target, **variables)
    assert done.returncode == 0, done.stderr
    [line] = re.findall(r"bin/affectory (.*)", done.stdout)
    return shlex.split(line)


@pytest.mark.parametrize("target", sorted(COMMANDS))
def test_every_command_has_a_target_which_is_understood_with_every_variable_set(target):
    name, *arguments = command(target, **VARIABLES)
    assert name == target
    COMMANDS[name].make_context(name, arguments)


@pytest.mark.parametrize("target", ["extract", "plan", "push", "pull", "status", "train", "report", "why"])
def test_a_variable_that_names_folds_or_parameters_is_never_left_out(target):
    given = COMMANDS[target].make_context(target, command(target, **VARIABLES)[1:]).params
    options = {name: given[name] for name in ("dataset", "root", "protocol", "change")}
    assert options == {"dataset": "demo", "root": "/a place", "protocol": "cv", "change": ["a.b=1"]}


@pytest.mark.parametrize("target", sorted(COMMANDS))
def test_the_command_that_is_printed_is_one_line_with_single_blanks_and_quotes_only_where_they_are_needed(target):
    for variables in (VARIABLES, {name: VARIABLES[name] for name in NEEDED.get(target, ())}):
        printed = make(target, **variables).stdout
        assert printed.count("\n") == 1 and "  " not in printed and "\\" not in printed and " \n" not in printed
        assert set(re.findall(r"'.*?'", printed)) <= {
            "'/a place'",
            "'/my clips'",
            "'/my files/demo.pkl'",
            "'/my sounds'",
            "'text audio'",
        }


@pytest.mark.parametrize("value", ["my data.toml", "it's.toml", 'a"b.toml', "a;b", "a&b", "#a", "*", "a (copy)"])
def test_a_value_reaches_the_command_as_it_is_whatever_the_shell_would_make_of_it(value):
    assert command("fetch", DATASET=value, ROOT=value) == ["fetch", "--dataset", value, "--root", value]


def test_a_release_is_a_dataset_to_every_command_but_push_and_pull_which_look_for_it_on_a_remote():
    assert command("train", RELEASE="demo-1.0", MODEL="hjcag")[:3] == ["train", "--dataset", "demo-1.0"]
    for target in ("push", "pull"):
        assert command(target, RELEASE="demo-1.0") == [target, "--release", "demo-1.0"]


def test_two_blanks_in_a_path_stay_two():
    assert command("fetch", DATASET="demo", ROOT="/a  b")[-1] == "/a  b"


@pytest.mark.parametrize("text", ["a.b=1;c.d=x y", "a.b=1; c.d=x y"])
def test_several_settings_are_separated_by_semicolons(text):
    given = COMMANDS["plan"].make_context("plan", command("plan", DATASET="demo", SET=text)[1:]).params
    assert given["change"] == ["a.b=1", "c.d=x y"]


@pytest.mark.parametrize(
    ("name", "closest"), [("MODALTY", "MODALITY"), ("DATASETS", "DATASET"), ("modality", "one of")]
)
def test_an_unknown_variable_is_refused_with_the_closest_and_nothing_runs(name, closest):
    done = make("extract", DATASET="demo", PYTHON="python3", **{name: "audio"})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no variable {name}: did you mean {closest}" in done.stderr


@pytest.mark.parametrize(("target", "name"), [(target, name) for target, names in NEEDED.items() for name in names])
def test_a_target_without_a_variable_that_it_needs_is_refused_with_an_example(target, name):
    done = make(target, **{needed: "x" for needed in NEEDED[target] if needed != name})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name} is missing: make {target} " in done.stderr


def test_every_target_is_listed_by_help():
    asked = subprocess.run(["make", "help"], cwd=ROOT, env=OUTSIDE, capture_output=True, text=True, check=True)
    targets = re.findall(r"^\.PHONY: (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [line.split()[1] for line in asked.stdout.splitlines()] == targets
