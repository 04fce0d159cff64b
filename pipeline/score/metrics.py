"""Scores of predictions, and of the best constant answers, which every score is compared with.

Shapes: N rows, C classes, H heads of a multilabel target or numbers of a regression of several. An undefined score is
None, never 0. Scores are in [0, 1], except `mae`, in units of the label, and `corr` and `ccc`, in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from pipeline.objective import prior
from pipeline.reader import Label
from pipeline.stage import Target

LOWER_IS_BETTER = ("mae",)
"""Of all other scores higher is better."""

Array = NDArray[Any]
Metrics = dict[str, Any]
Answers = Mapping[str, Sequence[float]]


def evaluate(logits: Array, labels: Sequence[Label], target: Target) -> Metrics:
    """Scores logits [N, outputs] against N labels; the metrics can be written as JSON. Raises ValueError if N is 0.

    multiclass: accuracy, f1_weighted, f1_macro, uar, precision_weighted, recall_weighted, classes, confusion.
    multilabel (logits [N, H, 2] or flattened): accuracy and f1 over the heads, heads.
    regression: mae, corr, ccc, acc7, acc5, and accuracy, F1, precision, recall of the sign by both conventions.
    regression of several numbers: mae, corr, ccc of each in heads, and their means, None if one of them is undefined.
    Bins and signs are conventions for sentiment from -3 to 3, so several numbers do not have them.
    """
    if not len(labels):
        raise ValueError("no rows to evaluate")
    return _EVALUATE[target.task](np.asarray(logits), np.asarray(labels), target)


def decide(logits: Array, target: Target) -> Array:
    """Predictions: class index [N], 0 or 1 of each head [N, H], or the number itself [N], of several [N, H]."""
    if target.task == "regression":
        return np.asarray(logits).reshape((-1, target.outputs) if target.several else -1)
    shape = (len(logits), len(target.classes), 2) if target.task == "multilabel" else (len(logits), -1)
    return np.asarray(np.asarray(logits).reshape(shape).argmax(axis=-1))


def answers(train: Sequence[Label], target: Target) -> Answers:
    """The best constant logits, by the end of the name of the metrics they are for; "" is for all others.

    For a regression of one number acc7 and acc5 have the commonest bin, and the metrics of the sign have the commoner
    sign.
    """
    best = {"": prior(train, target).tolist()}
    if target.task != "regression" or target.several:
        return best
    truth = np.asarray(train, float)
    non0, has0 = np.sign(truth).sum(), np.where(truth >= 0, 1, -1).sum()
    signs = {"_non0": [1.0 if non0 > 0 else -1.0], "_has0": [1.0 if has0 > 0 else -1.0]}
    return {**best, "acc7": [_commonest(_bins(truth, 3))], "acc5": [_commonest(_bins(truth, 2))], **signs}


def majority(train: Sequence[Label], test: Sequence[Label], target: Target) -> Metrics:
    """Scores on test of the best constant answers, learned from the train labels: `majority_<metric>`.

    A regression of several numbers has `majority_heads` too.
    """
    return constant([answers(train, target)] * len(test), test, target)


def constant(given: Sequence[Answers], test: Sequence[Label], target: Target) -> Metrics:
    """`majority`, with the constant answers of each test row, which differ between folds."""
    scores: Metrics = {}
    for suffix in given[0]:
        evaluated = evaluate(np.array([row[suffix] for row in given]), test, target)
        kept = evaluated if target.several else scalars(evaluated)
        scores.update({f"majority_{name}": score for name, score in kept.items() if name.endswith(suffix)})
    return scores


def scored(logits: Array, labels: Sequence[Label], given: Answers, target: Target) -> Metrics:
    """`evaluate`, with `majority_<metric>` beside it. given: the best constant answers of the train rows."""
    return {**evaluate(logits, labels, target), **constant([given] * len(labels), labels, target)}


def mean(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each score over the rows, such as folds, in which it is defined; None if it is in none."""
    known = {name: [value for row in rows if (value := row.get(name)) is not None] for row in rows for name in row}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def scalars(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics that are a single number, or None."""
    return {name: value for name, value in metrics.items() if value is None or isinstance(value, (int, float))}


# --- classes ---------------------------------------------------------------------------------------------------


def _multiclass(logits: Array, truth: Array, target: Target) -> Metrics:
    guess, classes = decide(logits, target), np.arange(len(target.classes))
    seen = np.unique(truth)
    matrix = confusion_matrix(truth, guess, labels=classes)
    macro = precision_recall_fscore_support(truth, guess, labels=seen, average="macro", zero_division=0)
    return {
        "accuracy": float(accuracy_score(truth, guess)),
        **_weighted(truth, guess, "{}_weighted"),
        "f1_macro": float(f1_score(truth, guess, average="macro", zero_division=0)),
        "uar": float(macro[1]),  # the mean recall of the classes that occur
        "classes": _classes(truth, guess, target.classes),
        "confusion": matrix.tolist(),  # rows are the truth, columns the prediction
    }


def _classes(truth: Array, guess: Array, names: Sequence[str]) -> dict[str, Metrics]:
    by_class = precision_recall_fscore_support(truth, guess, labels=np.arange(len(names)), zero_division=np.nan)
    return {
        name: {"precision": _float(p), "recall": _float(r), "f1": _float(f), "support": int(n)}
        for name, p, r, f, n in zip(names, *by_class, strict=True)
    }


def _multilabel(logits: Array, truth: Array, target: Target) -> Metrics:
    guess = decide(logits, target)  # [N, H]
    heads = {name: _head(truth[:, i], guess[:, i]) for i, name in enumerate(target.classes)}
    means = {name: float(np.mean([head[name] for head in heads.values()])) for name in ("accuracy", "f1", "uar")}
    return {**means, "heads": heads}


def _head(truth: Array, guess: Array) -> Metrics:
    recalls = precision_recall_fscore_support(truth, guess, labels=np.unique(truth), zero_division=0)[1]
    scores = {"accuracy": float(accuracy_score(truth, guess)), **_weighted(truth, guess, "{}")}
    return {**scores, "uar": float(np.mean(recalls)), "support": int(truth.sum())}


def _weighted(truth: Array, guess: Array, name: str) -> Metrics:
    scores = precision_recall_fscore_support(truth, guess, average="weighted", zero_division=0)
    return {name.format(part): float(score) for part, score in zip(("precision", "recall", "f1"), scores, strict=False)}


# --- numbers ---------------------------------------------------------------------------------------------------


def _regression(logits: Array, truth: Array, target: Target) -> Metrics:
    guess, truth = decide(logits, target).astype(float), truth.astype(float)
    if target.several:
        return _several(guess, truth, target.classes)
    some = truth != 0
    return {
        **_errors(guess, truth),
        "acc7": float((_bins(guess, 3) == _bins(truth, 3)).mean()),
        "acc5": float((_bins(guess, 2) == _bins(truth, 2)).mean()),
        **_signs(truth[some] > 0, guess[some] > 0, "non0"),  # negative or positive, without neutral rows
        **_signs(truth >= 0, guess >= 0, "has0"),  # negative or not
    }


def _several(guess: Array, truth: Array, names: Sequence[str]) -> Metrics:
    """Maps guess and truth [N, H]. A mean over only the defined scores would flatter constant answers."""
    heads = {name: _errors(guess[:, i], truth[:, i]) for i, name in enumerate(names)}
    scores = {name: [head[name] for head in heads.values()] for name in ("mae", "corr", "ccc")}
    means = {name: None if None in values else float(np.mean(values)) for name, values in scores.items()}
    return {**means, "heads": heads}


def _errors(guess: Array, truth: Array) -> Metrics:
    return {
        "mae": float(np.abs(guess - truth).mean()),  # unclipped
        "corr": _corr(guess, truth),
        "ccc": _ccc(guess, truth),  # X18
    }


def _bins(x: Array, limit: int) -> Array:
    return np.asarray(np.round(np.clip(x, -limit, limit)))  # halves to even


def _signs(truth: Array, guess: Array, name: str) -> Metrics:
    if not len(truth):
        return dict.fromkeys([f"{part}_{name}" for part in ("acc2", "precision", "recall", "f1")])
    return {f"acc2_{name}": float(accuracy_score(truth, guess)), **_weighted(truth, guess, f"{{}}_{name}")}


def _corr(a: Array, b: Array) -> float | None:
    return None if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])


def _ccc(a: Array, b: Array) -> float | None:
    spread = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    return float(2 * ((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else None


def _commonest(values: Array) -> float:
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[counts.argmax()])


def _float(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


_EVALUATE: Mapping[str, Callable[[Array, Array, Target], Metrics]] = {
    "multiclass": _multiclass,
    "multilabel": _multilabel,
    "regression": _regression,
}
