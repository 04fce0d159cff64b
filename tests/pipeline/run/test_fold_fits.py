"""The fits of five folds: each moves by its own parameters alone, and a kill costs the fold in flight alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

CNN = "text_cnn"
WORDS = "text_word2vec"
ENCODER = """
[features.encoder.text]
stage = "text_roberta"
init = "random"
fine_tune = true
hidden = 8
layers = 1
heads = 2
vocab_size = 300
max_tokens = 16
epochs = 1
align = { mode = "pad", length = 8 }
"""


def states(small) -> dict[tuple[str, str], str]:
    """The object of each fold's states, by stage and fold."""
    catalogue = small.session(protocol="cv").catalogue
    found = {place: catalogue.of(*place).state for place in catalogue.wanted if place[0].stage.fitted}
    return {(node.name, scope.name): record.object for (node, scope), record in found.items()}


# --- parameters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [
        pytest.param("channels = 4", "channels = 3", {CNN}, marks=pytest.mark.slow),
        ("epochs = 1, min_count", "epochs = 2, min_count", {WORDS, CNN}),
        pytest.param(
            "max_tokens = 16\nepochs = 1", "max_tokens = 16\nepochs = 2", {"text_roberta"}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_parameter_of_one_fit_moves_its_state_and_what_stands_on_it_in_every_fold_and_nothing_else(
    small, old, new, moved
):
    small.recipe += ENCODER
    small.extract(protocol="cv")
    before = states(small)
    assert Counter(name for name, _ in before) == dict.fromkeys((WORDS, CNN, "text_roberta"), 5)
    assert old in small.recipe
    small.recipe = small.recipe.replace(old, new)
    assert small.extract(protocol="cv") == dict.fromkeys(moved, 5 * 60)
    assert {name: n for name, n in small.count("calls").items() if "fit" in name} == {f"{m} (fit)": 5 for m in moved}
    after = states(small)
    assert {place for place in before if after[place] != before[place]} == {p for p in before if p[0] in moved}


# --- kill -9 ---------------------------------------------------------------------------------------------------


HJCAG = """
[dataset]
reader   = "iemocap"
labels   = "six"
protocol = "cv"

[features.hjcag.text]
stage = "text_roberta"
init = "random"
fine_tune = true
hidden = 64
layers = 2
heads = 2
vocab_size = 300
max_tokens = 16
epochs = 12
patience = 12
align = { mode = "pad", length = 8 }
[features.hjcag]
audio = { stage = "audio_mfcc", n_mfcc = 3, deltas = 0, rate_hz = 5.0, align = { mode = "pad", length = 8 } }

[train.hjcag]
epochs = 80
patience = 0
d_model = 8
"""


def command(small, *line: str) -> subprocess.Popen[bytes]:
    """`affectory` on the small corpus with one worker, so that folds follow each other, in a process of its own."""
    small.path.write_text(small.recipe)
    named = ["--dataset", str(small.path), "--root", str(small.root), "--workers", "1", "--json"]
    environment = {**os.environ, "AFFECTORY_HOME": str(small.home)}
    arguments = [sys.executable, "-m", "pipeline.cli.main", *line, *named]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE)


def answer(small, *line: str) -> dict:
    """What a command that runs to its end answers."""
    process = command(small, *line)
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], object]) -> None:
    """kill -9 of driver and workers at once, as soon as `reached()`."""
    while not reached():
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    for one in (psutil.Process(process.pid), *family):
        one.kill()
    process.communicate()
    psutil.wait_procs(family, timeout=20)


def stamps(paths: Iterable[Path]) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in paths}


def saved(small) -> list[Path]:
    """The actions of states."""
    return list((small.home / "cache" / "actions").glob("*.fit/*.json"))


def results(small) -> list[Path]:
    """Those of the folds that are finished."""
    return list((small.home / "runs").glob("small/*/*/result.json"))


def under_way(small) -> list[Path]:
    """The epochs of folds that have more than three and are not finished."""
    found = (small.home / "runs").glob("small/*/*/.work-*/fusion/epochs.csv")
    return [path for path in found if len(path.read_text().splitlines()) > 4]


@pytest.mark.slow
def test_five_folds_of_hjcag_killed_in_the_third_go_on_there_and_repeat_neither_fits_nor_trainings(small):
    small.recipe = HJCAG
    kill_when(command(small, "extract"), lambda: len(saved(small)) == 2)
    fitted = stamps(saved(small))
    assert len(fitted) == 2, "the third fit was to be under way"
    extracted = answer(small, "extract")
    assert extracted["calls"]["text_roberta (fit)"] == 3
    assert len(saved(small)) == 5 and fitted.items() <= stamps(saved(small)).items()

    train = ("train", "--model", "hjcag")
    kill_when(command(small, *train), lambda: len(results(small)) == 2 and under_way(small))
    done = [path for result in results(small) for path in result.parent.rglob("*") if path.is_file()]
    finished, [third] = stamps(done), under_way(small)
    began = third.read_text().splitlines()
    trained = answer(small, *train)
    assert len(trained["folds"]) == len(results(small)) == 5
    assert stamps(done) == finished
    whole = (third.parents[2] / "epochs.csv").read_text().splitlines()
    assert len(whole) == 81 and whole[: len(began)] == began, "the third fold began again"
    assert fitted.items() <= stamps(saved(small)).items()
