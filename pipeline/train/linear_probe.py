"""A linear probe of one modality: how well its features predict the target, and how much better on train rows (X9)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.errors import InputError
from pipeline.reader import Fold, Label
from pipeline.stage import Target
from pipeline.train import metrics
from pipeline.views.view import Column, Rows, View

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Values of C, the inverse of the penalty; validation chooses one."""

SCORE = {"multiclass": "accuracy", "multilabel": "accuracy", "regression": "corr"}
"""The score that is compared between train and test, by task."""

LOWEST = -30.0
"""The log probability of a class that is impossible."""

Array = NDArray[Any]
Decide = Callable[[Array], Array]


def probe(view: View, modality: str, labels: Mapping[str, Label], target: Target, fold: Fold) -> dict[str, Any]:
    """Fits on the fold's train rows that have the modality, chooses C on validation, scores every part.

    The probe reads the mean of the valid steps, and if a column has several steps their deviation, standardised by
    train. Returns {"train", "valid", "test": metrics, or None for a part without such rows, "rows": part -> number of
    rows, "c": the chosen C, "gap": train minus test score, None if either is undefined}. A large gap means that the
    features were made by an encoder that knows its train rows (X9). Raises InputError if train or validation has no
    row with this modality.
    """
    column = view.columns[modality]
    rows = {part: _present(column, view.rows(getattr(fold, part))) for part in ("train", "valid", "test")}
    for part in ("train", "valid"):
        if not len(rows[part]):
            raise InputError(f"fold {fold.name}: no {part} utterance has {modality}")
    x = {part: pooled(column, numbers) for part, numbers in rows.items()}
    y = {part: [labels[view.ids[row]] for row in numbers] for part, numbers in rows.items()}
    fits = [(c, _fit(x["train"], np.asarray(y["train"]), target, c)) for c in STRENGTHS]
    c, decide = min(fits, key=lambda fit: _loss(fit[1](x["valid"]), np.asarray(y["valid"]), target))
    scores = {p: metrics.evaluate(decide(x[p]), y[p], target) if len(y[p]) else None for p in rows}
    counts = {part: len(numbers) for part, numbers in rows.items()}
    return {**scores, "rows": counts, "c": c, "gap": _gap(scores, target)}


def pooled(column: Column, rows: Rows) -> Array:
    """[rows, D], the mean of the valid steps; [rows, 2 D] with their deviation if a column has several steps."""
    chunks = [_pooled(column, chunk) for chunk in column.chunks(rows)]
    return np.concatenate(chunks) if chunks else np.empty((0, column.dim))


def _pooled(column: Column, rows: Rows) -> Array:
    x, mask = column.values[rows].astype(np.float64), column.mask[rows][:, :, None]  # [n, T, D], [n, T, 1]
    count = np.maximum(mask.sum(axis=1), 1)
    mean = x.sum(axis=1, where=mask) / count
    if x.shape[1] == 1:
        return np.asarray(mean)
    deviation = np.sqrt(np.square(x - mean[:, None]).sum(axis=1, where=mask) / count)
    return np.concatenate([mean, deviation], axis=1)


def _present(column: Column, rows: Rows) -> Rows:
    return rows[column.present[rows]]


def _fit(x: Array, y: Array, target: Target, c: float) -> Decide:
    if target.task == "regression":
        ridge = make_pipeline(StandardScaler(), Ridge(alpha=1 / c)).fit(x, y)
        return lambda new: np.asarray(ridge.predict(new)).reshape(len(new), -1)
    if target.task == "multiclass":
        return _classifier(x, y, len(target.classes), c)
    heads = [_classifier(x, y[:, i], 2, c) for i in range(len(target.classes))]
    return lambda new: np.concatenate([head(new) for head in heads], axis=1)


def _classifier(x: Array, y: Array, classes: int, c: float) -> Decide:
    """A function to the log probabilities of all classes; a class without a train row has the lowest."""
    seen = np.unique(y)
    if len(seen) == 1:
        return lambda new: np.tile(np.where(np.arange(classes) == seen[0], 0.0, LOWEST), (len(new), 1))
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        logistic.fit(x, y)

    def decide(new: Array) -> Array:
        logits = np.full((len(new), classes), LOWEST)
        logits[:, seen] = np.log(np.maximum(logistic.predict_proba(new), np.exp(LOWEST)))
        return logits

    return decide


def _loss(logits: Array, truth: Array, target: Target) -> float:
    if target.task == "regression":
        return float(np.abs(logits.reshape(truth.shape) - truth).mean())
    heads = truth.reshape(len(truth), -1)
    shares = logits.reshape(len(truth), heads.shape[1], -1)
    return float(-np.take_along_axis(shares, heads[:, :, None], axis=2).mean())


def _gap(scores: Mapping[str, Any], target: Target) -> float | None:
    name = SCORE[target.task]
    train, test = (scores[part][name] if scores[part] else None for part in ("train", "test"))
    return None if train is None or test is None else train - test
