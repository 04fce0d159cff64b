"""The result of a fold, on disk and in memory, and the summary of several folds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import keys
from pipeline.score import metrics, predictions
from pipeline.stage import Target
from pipeline.train.model_file import CARD, WEIGHTS

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """The result of one model on one fold, as JSON.

    metrics are of all test rows, and rows with no valid modality are scored as the train majority. complete is of the
    test rows that have every modality, None if there are none. valid is of the validation rows. Each has `majority_*`
    beside it. best_test is the best of each score over the epochs, chosen on test (H3), {} if test was not watched.
    best_epoch counts from 0. seconds are of training. cropped is modality -> part -> share (X2). gates is
    class -> modality -> mean share, over the test rows. transductive: statistics of test rows were used. predictions
    is the path of a Parquet file with a row for each validation and test utterance. digests: `Fold.digests`. files is
    name -> digest of the model and the predictions beside the result.
    """

    model: str
    fold: str
    digest: str
    seed: int
    target: dict[str, Any]
    metrics: dict[str, Any]
    complete: dict[str, Any] | None
    valid: dict[str, Any]
    best_epoch: int
    epochs: int
    pretrain: dict[str, Any]
    seconds: float
    parameters: int
    device: str
    normalize: str
    transductive: bool
    counts: dict[str, int]
    cropped: dict[str, Any]
    gates: dict[str, dict[str, float]]
    answers: dict[str, list[float]]
    predictions: str
    digests: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    best_test: dict[str, float] = field(default_factory=dict)


def read_result(run: Path) -> FoldResult | None:
    """A finished fold; None if there is none, or if its result, model or predictions are damaged or gone."""
    try:
        result = FoldResult(**json.loads((run / RESULT).read_bytes()))
        sound = result.files == file_digests(run)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return replace(result, predictions=str(run / predictions.FILE)) if sound else None


def file_digests(run: Path) -> dict[str, str]:
    """The digests of the files that a finished fold leaves beside its result. Raises FileNotFoundError."""
    return {name: keys.file_digest(run / name) for name in (WEIGHTS, CARD, predictions.FILE)}


def summarise(folds: Sequence[FoldResult]) -> dict[str, Any]:
    """Metrics of all folds: {"pooled", "mean", "std", "folds"}.

    `pooled` scores the test predictions of all folds as one set, with its `majority_*`. `mean` and `std` (n - 1) are
    over the folds in which a metric is defined: `mean` is None if there is no such fold, `std` if there are fewer
    than two.
    """
    target = Target(folds[0].target["task"], tuple(folds[0].target["classes"]))
    tables = [predictions.read(Path(fold.predictions), "test") for fold in folds]
    return summary(target, [fold.metrics for fold in folds], tables, [fold.answers for fold in folds])


def summary(
    target: Target,
    by_fold: Sequence[Mapping[str, Any]],
    tables: Sequence[predictions.Predictions],
    answers: Sequence[metrics.Answers],
) -> dict[str, Any]:
    """`summarise`, of the metrics, the predictions and the best constant answers of each fold."""
    logits = np.concatenate([table.logits for table in tables])
    labels = [label for table in tables for label in table.labels]
    given = [answer for answer, table in zip(answers, tables, strict=True) for _ in table.labels]
    pooled = {**metrics.evaluate(logits, labels, target), **metrics.constant(given, labels, target)}
    scores = {name: [fold[name] for fold in by_fold] for name in metrics.scalars(by_fold[0])}
    defined = {name: [value for value in values if value is not None] for name, values in scores.items()}
    return {
        "pooled": pooled,
        "mean": {name: float(np.mean(values)) if values else None for name, values in defined.items()},
        "std": {name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in defined.items()},
        "folds": len(by_fold),
    }
