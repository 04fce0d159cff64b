"""The objective that models and fits minimise: a task's loss, its labels as tensors, the weights of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import InputError
from pipeline.reader import Label
from pipeline.stage import Target


def targets(labels: Sequence[Label], target: Target) -> Tensor:
    """Labels as a tensor: int64 [N] for multiclass, int64 [N, H] for multilabel, float32 [N] for the regression of one
    number and float32 [N, H] for that of several."""
    return torch.tensor(labels, dtype=torch.float32 if target.task == "regression" else torch.int64)


class Objective(nn.Module):
    """The loss of a task: for regression the mean absolute error (G14), over all numbers if there are several; for
    classification the cross-entropy, over all heads for multilabel (G13).

    weights: [H, K], a weight for each class of each head (H is 1 for multiclass), by which the mean is weighted; or
    None.
    """

    weights: Tensor | None

    def __init__(self, target: Target, weights: Tensor | None = None) -> None:
        super().__init__()
        self.task = target.task
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of logits [B, outputs] for labels [B] or [B, H]."""
        if self.task == "regression":
            return functional.l1_loss(logits.reshape(labels.shape), labels)
        heads = labels.reshape(len(labels), -1)  # [B, H]
        logits = logits.reshape(heads.numel(), -1)  # [B H, K]
        losses = functional.cross_entropy(logits, heads.flatten(), reduction="none")
        if self.weights is None:
            return losses.mean()
        weights = self.weights[torch.arange(heads.shape[1], device=heads.device), heads].flatten()
        return (losses * weights).sum() / weights.sum()


def class_weights(labels: Tensor, target: Target) -> Tensor:
    """Weights [H, K]: the inverse frequency of each class among labels [N] or [N, H], with mean 1 over the rows.

    A class without rows is weighted as one with a single row. Raises InputError for a regression.
    """
    if target.task == "regression":
        raise InputError("class weights make no sense for a regression")
    classes = 2 if target.task == "multilabel" else len(target.classes)
    heads = labels.reshape(len(labels), -1).unbind(dim=1)
    counts = torch.stack([torch.bincount(head, minlength=classes) for head in heads])
    return len(labels) / (classes * counts.clamp(min=1).float())


def prior(labels: Sequence[Label] | Tensor, target: Target) -> NDArray[Any]:
    """The logits [outputs] that follow from the train labels alone: log frequencies (add-one), or medians.

    They predict the majority class. Utterances without any valid modality are scored with them.
    """
    truth = np.asarray(labels)
    if target.task == "regression":
        return np.atleast_1d(np.median(truth, axis=0))
    if target.task == "multiclass":
        return np.asarray(np.log(np.bincount(truth, minlength=len(target.classes)) + 1.0) - np.log(len(truth)))
    positive = truth.sum(axis=0)
    return np.asarray(
        np.log(np.stack([len(truth) - positive, positive], axis=1) + 1.0).reshape(-1) - np.log(len(truth))
    )
