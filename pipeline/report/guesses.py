"""What models predicted of the test rows, and which of it was most surely wrong."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.reader import Label
from pipeline.report.models_section import FOLDS, Trained, mean
from pipeline.report.probes_section import headline
from pipeline.score import predictions
from pipeline.score.metrics import decide
from pipeline.score.predictions import probabilities
from pipeline.stage import Target

log = logging.getLogger(__name__)

MOST_MODELS = 3
"""The most models whose predictions are shown of single utterances."""


@dataclass(frozen=True)
class Guesses:
    """The predictions of a run on its test rows, all folds together.

    utterances: [N]. values: [N, names], the probability of each class, or the numbers of a regression. decided: [N]
    classes, [N, names] zeros and ones of several, or numbers.
    """

    name: str
    features: str
    target: Target
    utterances: Sequence[str]
    values: NDArray[np.float64]
    decided: NDArray[np.float64]
    labels: Sequence[Label]

    @property
    def error(self) -> NDArray[np.float64]:
        """[N], how wrong each is: 0 if it is right, else the probability of what is wrong, or the mean error."""
        truth = np.asarray(self.labels, float)
        if self.target.task == "multiclass":
            sure = self.values[np.arange(len(truth)), self.decided.astype(int)]
            return np.where(self.decided == truth, 0.0, sure)
        off = np.abs(self.values - truth.reshape(self.values.shape))
        if self.target.task == "multilabel":
            return np.asarray(np.where(self.decided == truth, 0.0, off).max(axis=1))
        return np.asarray(off.mean(axis=1))

    def most_wrong(self) -> list[str]:
        """The utterances that are wrong, first those whose prediction was most sure of it."""
        error = self.error
        return [self.utterances[i] for i in np.argsort(-error, kind="stable").tolist() if error[i] > 0]


def best_models(runs: Sequence[Trained], protocol: str) -> list[Guesses]:
    """The predictions of the best run of each model, the best model first, at most `MOST_MODELS`.

    Validation alone decides which is best. Left out are runs of another protocol, of other folds than the recipe now
    gives, and those whose predictions are gone.
    """
    known = [run for run in runs if run.answer["protocol"] == protocol and FOLDS not in run.stale]
    best: dict[str, Guesses] = {}
    for run in sorted(known, key=_on_validation, reverse=True):
        if run.answer["model"] not in best and len(best) < MOST_MODELS and (found := _read(run)) is not None:
            best[run.answer["model"]] = found
    return list(best.values())


def _on_validation(run: Trained) -> float:
    score, _ = headline(run.target, [run.line])
    return mean([fold["valid"] for fold in run.folds]).get(score, float("-inf"))


def _read(run: Trained) -> Guesses | None:
    try:
        folds = [predictions.read(path, "test") for path in run.predictions]
        logits = np.concatenate([fold.logits for fold in folds])
        utterances = [name for fold in folds for name in fold.ids]
        labels = [label for fold in folds for label in fold.labels]
        name = str(run.answer.get("name", run.answer["model"]))
        values, decided = probabilities(logits, run.target), np.asarray(decide(logits, run.target), float)
        return Guesses(name, run.features, run.target, utterances, values, decided, labels)
    except (OSError, ValueError, KeyError) as error:
        log.warning("the predictions of %s cannot be shown: %r", run.folder, error)
        return None
