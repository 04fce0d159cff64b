"""Both models on the demo against the best that one modality can do: `python -m tests.bench.demo_scores`.

Every row of the synthetic corpus notes which emotion each modality shows, so whoever knows one modality alone and
reads it without error is right exactly where that is the true one: the bound of the very rows that are tested.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.plan.session import Session
from pipeline.score.metrics import decide
from pipeline.score.predictions import read
from pipeline.stage import Target

MODELS = ("hjcag", "mulg")
DRAWS = 10_000


@dataclass(frozen=True)
class Score:
    """A model under a protocol: accuracy by seed, the bound, and the mean difference with its 95 % interval."""

    model: str
    protocol: str
    rows: int
    seeds: tuple[float, ...]
    bound: float
    difference: float
    interval: tuple[float, float]

    def line(self) -> str:
        """A row of the table."""
        each = ", ".join(f"{value:.3f}" for value in self.seeds)
        low, high = self.interval
        mean = float(np.mean(self.seeds))
        return (
            f"| {self.model} | {self.protocol} | {self.rows} | {mean:.3f} ({each}) | {self.bound:.3f} "
            f"| {self.difference:+.3f} [{low:+.3f}, {high:+.3f}] |\n"
        )


def affectory(home: Path, *arguments: str) -> dict[str, Any]:
    """The JSON answer of a command on the demo."""
    line = [sys.executable, "-m", "pipeline.cli.start", *arguments, "--dataset", "demo", "--json"]
    done = subprocess.run(line, env={**os.environ, "AFFECTORY_HOME": str(home)}, stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def cues(home: Path) -> dict[str, dict[str, bool]]:
    """Of each utterance whether each modality shows the true emotion."""
    rows = Session.open(Home(home), Options(dataset="demo", modality="audio")).corpus.manifest.rows
    names = ("text", "audio", "visual")
    return {row.id: {name: row.labels[f"cue_{name}"] == row.labels["emotion"] for name in names} for row in rows}


def right(answer: Mapping[str, Any]) -> dict[str, bool]:
    """Of each test utterance of all folds whether a run got it right."""
    found: dict[str, bool] = {}
    for fold in answer["folds"]:
        part = read(Path(fold["predictions"]), "test")
        guesses = decide(part.logits, Target("multiclass", tuple(fold["target"]["classes"])))
        found |= dict(zip(part.ids, (guesses == np.array(part.labels)).tolist(), strict=True))
    return found


def compare(
    model: str, protocol: str, runs: Sequence[Mapping[str, bool]], known: Mapping[str, dict[str, bool]]
) -> Score:
    """Accuracies of several seeds against the best modality's bound; the interval is a bootstrap over rows."""
    ids = sorted(runs[0])
    ours = np.array([[run[i] for i in ids] for run in runs], float)  # [seeds, N]
    single = {name: np.array([known[i][name] for i in ids], float) for name in ("text", "audio", "visual")}
    best: NDArray[np.float64] = max(single.values(), key=lambda column: float(column.mean()))
    paired = ours.mean(axis=0) - best  # [N]
    drawn = np.random.default_rng(0).choice(paired, (DRAWS, len(paired))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    seeds = tuple(float(row.mean()) for row in ours)
    return Score(model, protocol, len(ids), seeds, float(best.mean()), float(paired.mean()), (float(low), float(high)))


def scores(home: Path, protocol: str, seeds: int) -> list[Score]:
    """Extracts, trains both models with each seed, and compares."""
    models = [part for name in MODELS for part in ("--model", name)]
    runs: dict[str, list[dict[str, bool]]] = {name: [] for name in MODELS}
    for seed in range(seeds):
        answer = affectory(home, "train", *models, "--protocol", protocol, "--seed", str(seed))
        for each in answer["models"]:
            runs[each["model"]].append(right(each))
    known = cues(home)
    return [compare(name, protocol, found, known) for name, found in runs.items()]


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--protocol", nargs="+", default=["official", "cv"])
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n\n")
        sys.stdout.write("| model | protocol | test rows | accuracy, mean (seeds) | bound | model less bound, 95 % |\n")
        sys.stdout.write("|---|---|---|---|---|---|\n")
        for protocol in given.protocol:
            for score in scores(given.home or Path(place), protocol, given.seeds):
                sys.stdout.write(score.line())
                sys.stdout.flush()


if __name__ == "__main__":
    main()
