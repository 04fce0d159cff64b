"""A linear model of vectors by scikit-learn: logistic regression, or ridge regression for numbers.

It is what probes measure features with, and what the models `linear` and `late_fusion` are made of. Shapes: N rows, D
features of a vector, C classes of a head.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from pipeline.stage import Target

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Values of C, the inverse of the penalty; validation chooses one."""

LOWEST = -30.0
"""The log probability of a class that is impossible."""

_UNSEEN = -1000.0
"""The logit of a class without a train row."""

Array = NDArray[Any]


class Linear(NamedTuple):
    """logits = (x - mean) / scale @ weight + bias. mean, scale: [D]. weight: [D, outputs]. bias: [outputs].

    c: the inverse of its penalty.
    """

    mean: Array
    scale: Array
    weight: Array
    bias: Array
    c: float

    def logits(self, x: Array) -> Array:
        """Maps x [N, D] to [N, outputs]."""
        return np.asarray((x - self.mean) / self.scale @ self.weight + self.bias)


def log_probabilities(logits: Array, target: Target) -> Array:
    """Logits [N, outputs] as log probabilities of each head's classes, none below `LOWEST`; numbers stay numbers."""
    if target.task == "regression":
        return logits
    heads = len(target.classes) if target.task == "multilabel" else 1
    by_head = log_softmax(logits.reshape(len(logits), heads, -1), axis=-1)
    return np.asarray(np.maximum(by_head, LOWEST).reshape(len(logits), -1))


def fit_linear(train: tuple[Array, Array], valid: tuple[Array, Array], target: Target) -> Linear:
    """Fits on the train rows once for each strength, and takes the one with the lowest loss on validation.

    train, valid: vectors [N, D] and labels [N] or [N, heads].
    """
    fits = [_fit(*train, target, c) for c in STRENGTHS]
    return min(fits, key=lambda fit: _loss(fit.logits(valid[0]), valid[1], target))


def _fit(x: Array, y: Array, target: Target, c: float) -> Linear:
    scaler = StandardScaler().fit(x)
    z = scaler.transform(x)
    if target.task == "regression":
        ridge = Ridge(alpha=1 / c).fit(z, y.reshape(len(y), -1))
        parts = [(np.atleast_2d(ridge.coef_).T, np.atleast_1d(ridge.intercept_))]
    elif target.task == "multiclass":
        parts = [_classifier(z, y, len(target.classes), c)]
    else:
        parts = [_classifier(z, y[:, i], 2, c) for i in range(len(target.classes))]
    weights, biases = zip(*parts, strict=True)
    return Linear(scaler.mean_, scaler.scale_, np.concatenate(weights, axis=1), np.concatenate(biases), c)


def _classifier(z: Array, y: Array, classes: int, c: float) -> tuple[Array, Array]:
    """The weight [D, C] and the bias [C] of a head. A class without a train row is impossible."""
    weight, bias = np.zeros((z.shape[1], classes)), np.full(classes, _UNSEEN)
    seen = np.unique(y)
    bias[seen] = 0.0
    if len(seen) > 1:
        logistic = LogisticRegression(C=c, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            logistic.fit(z, y)
        of = seen[1:] if len(seen) == 2 else seen  # of two classes, the coefficients are those of the second
        weight[:, of], bias[of] = logistic.coef_.T, logistic.intercept_
    return weight, bias


def _loss(logits: Array, truth: Array, target: Target) -> float:
    if target.task == "regression":
        return float(np.abs(logits.reshape(truth.shape) - truth).mean())
    heads = truth.reshape(len(truth), -1)
    shares = log_probabilities(logits, target).reshape(len(truth), heads.shape[1], -1)
    return float(-np.take_along_axis(shares, heads[:, :, None], axis=2).mean())
