"""A trained run in Python: its settings, its scores, its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.bundle.results import columns_of
from pipeline.cache.home import Home
from pipeline.python.tables import as_html, as_text
from pipeline.score import predictions
from pipeline.score.metrics import decide, scalars
from pipeline.train.fold_result import FoldResult
from pipeline.train.trained_run import TrainedRun, find


def run(name: str, *, home: str = "") -> Run:
    """The newest run of a name such as `hjcag`, or the run of a folder.

    home: the folder of the runs; default AFFECTORY_HOME, else data/. Raises InputError if there is none.
    """
    return Run(find(Home(Path(home) if home else None).runs, name))


class Run:
    """A finished run, one model for each fold. In a terminal or a notebook it shows its scores."""

    def __init__(self, found: TrainedRun) -> None:
        self._found = found

    @property
    def name(self) -> str:
        """What the run is called, with its dataset."""
        return self._found.name

    @property
    def folder(self) -> Path:
        """Where the run is; each fold's folder has the weights, `model.safetensors`, and the card of its model."""
        return self._found.folder

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that the models were trained with."""
        settings: Mapping[str, Any] = self._found.answer["settings"]
        return settings

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, by their index; none for a regression."""
        return self._found.target.classes

    @property
    def scores(self) -> pd.DataFrame:
        """The test scores of each fold, and of all folds' predictions as one set, `pooled`. A row for each metric.

        `majority_*` are those of the best constant answer.
        """
        folds = {fold.fold: scalars(fold.metrics) for fold in self._found.folds}
        pooled = {"pooled": scalars(self._found.answer["metrics"]["pooled"])} if len(folds) > 1 else {}
        return pd.DataFrame({**folds, **pooled}).astype(float)

    def predictions(self, split: Literal["valid", "test"] = "test") -> pd.DataFrame:
        """The predictions of every fold: the index `utterance`; fold, label, prediction; the probability of each class.

        label, prediction: a class by its name, or a number; of several heads or numbers, one column for each, as
        `label_<name>` and `prediction_<name>`. `p_<class>` is a probability, `gate_<modality>` the mean share that a
        model with gates gives to a modality.
        """
        return pd.concat([self._of(fold, split) for fold in self._found.folds])

    def __repr__(self) -> str:
        return as_text(self.name, {"Test scores": self.scores}, {})

    def _repr_html_(self) -> str:
        return as_html(self.name, {"Test scores": self.scores}, {})

    def _of(self, fold: FoldResult, split: str) -> pd.DataFrame:
        target = self._found.target
        held = predictions.read(Path(fold.predictions), split)
        given = {"label": np.asarray(held.labels), "prediction": decide(held.logits, target)}
        columns: dict[str, Any] = {"fold": fold.fold}
        for name, answers in given.items():
            columns |= self._answers(name, answers)
        if target.task != "regression":
            shares = predictions.probabilities(held.logits, target).T
            columns |= dict(zip(columns_of(target).values(), shares, strict=True))
        columns |= {f"{predictions.GATE}{modality}": share for modality, share in held.gates.items()}
        return pd.DataFrame(columns, index=pd.Index(held.ids, name="utterance"))

    def _answers(self, name: str, answers: Any) -> dict[str, Any]:
        """The columns of labels or predictions, [N] or [N, heads]."""
        target = self._found.target
        if target.task == "multiclass":
            return {name: np.asarray(target.classes)[answers]}
        if np.ndim(answers) == 1:
            return {name: answers}
        return {f"{name}_{head}": part for head, part in zip(target.classes, np.asarray(answers).T, strict=True)}
