"""What models and stages that fit minimise: a task's loss, its labels as tensors, the weights of its classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import InputError
from pipeline.reader import Label
from pipeline.stage import Target


def targets(labels: Sequence[Label], target: Target) -> Tensor:
    """Labels as a tensor: multiclass int64 [N], multilabel int64 [N, H], regression float32 [N], of several [N, H]."""
    return torch.tensor(labels, dtype=torch.float32 if target.task == "regression" else torch.int64)


class Objective(nn.Module):
    """The loss of a task: L1 for regression (G14), of several numbers their mean; else cross-entropy, of each head
    for multilabel (G13).

    weights: [H, K] of each head's classes (H is 1 for multiclass), or None; the loss is their weighted mean.
    """

    weights: Tensor | None

    def __init__(self, target: Target, weights: Tensor | None = None) -> None:
        super().__init__()
        self.task = target.task
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits [B, outputs], labels [B] or [B, H] -> the mean loss."""
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
    """[H, K], the inverse frequency of each class among labels [N] or [N, H], 1 on average over the rows.

    A class without a row counts as one with a single row. Raises InputError for a regression, which has no classes.
    """
    if target.task == "regression":
        raise InputError("class weights make no sense for a regression")
    classes = 2 if target.task == "multilabel" else len(target.classes)
    heads = labels.reshape(len(labels), -1).unbind(dim=1)
    counts = torch.stack([torch.bincount(head, minlength=classes) for head in heads])
    return len(labels) / (classes * counts.clamp(min=1).float())
