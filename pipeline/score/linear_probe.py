"""A linear probe of one modality: how well its features predict the target, and how much better on train rows (X9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.linear import Array, fit_linear, log_probabilities
from pipeline.reader import Fold, Label
from pipeline.score import metrics
from pipeline.stage import Target
from pipeline.views.view import Column, Rows, View

PARTS = ("train", "valid", "test")

SCORE = {"multiclass": "accuracy", "multilabel": "accuracy", "regression": "corr"}
"""The score that is compared between train and test, by task."""


class Probed(NamedTuple):
    """A probe of one fold: for each part with rows that have the modality, their ids, their labels, and their logits.

    logits: part -> [rows, outputs], log probabilities of classes. c: the inverse of the penalty that validation chose.
    """

    ids: Mapping[str, Sequence[str]]
    labels: Mapping[str, Sequence[Label]]
    logits: Mapping[str, Array]
    c: float


def probe(view: View, modality: str, labels: Mapping[str, Label], target: Target, fold: Fold) -> dict[str, Any]:
    """Fits on the fold's train rows that have the modality, chooses C on validation, scores every part.

    Returns {"train", "valid", "test": metrics, or None for a part without such rows, "rows": part -> number of rows,
    "c": the chosen C, "gap": train minus test score, None if either is undefined}. A large gap means that the features
    were made by an encoder that knows its train rows (X9). Raises InputError as `fit_probe` does.
    """
    probed = fit_probe(view, modality, labels, target, fold)
    scored = {part: metrics.evaluate(logits, probed.labels[part], target) for part, logits in probed.logits.items()}
    scores = {part: scored.get(part) for part in PARTS}
    counts = {part: len(probed.ids.get(part, ())) for part in PARTS}
    return {**scores, "rows": counts, "c": probed.c, "gap": _gap(scores, target)}


def fit_probe(view: View, modality: str, labels: Mapping[str, Label], target: Target, fold: Fold) -> Probed:
    """Fits on the fold's train rows that have the modality, and predicts the rows of every part.

    The probe reads the mean of the valid steps, and if a column has several steps their deviation, standardised by
    train. Raises InputError if train or validation has no row with this modality.
    """
    column = view.columns[modality]
    rows = {part: _present(column, view.rows(getattr(fold, part))) for part in PARTS}
    for part in ("train", "valid"):
        if not len(rows[part]):
            raise InputError(f"fold {fold.name}: no {part} utterance has {modality}")
    ids = {part: [view.ids[row] for row in numbers] for part, numbers in rows.items() if len(numbers)}
    y = {part: [labels[name] for name in names] for part, names in ids.items()}
    x = {part: pooled(column, rows[part]) for part in ids}
    train, valid = ((x[part], np.asarray(y[part])) for part in ("train", "valid"))
    linear = fit_linear(train, valid, target)
    logits = {part: log_probabilities(linear.logits(vectors), target) for part, vectors in x.items()}
    return Probed(ids, y, logits, linear.c)


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


def _gap(scores: Mapping[str, Any], target: Target) -> float | None:
    name = SCORE[target.task]
    train, test = (scores[part][name] if scores[part] else None for part in ("train", "test"))
    return None if train is None or test is None else train - test
