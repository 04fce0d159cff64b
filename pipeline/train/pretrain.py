"""Unimodal pretraining: the reduction of each modality learns the task alone before the whole model does (X8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.model import Model, Prediction, Standardiser, Trainable, masked_mean
from pipeline.train.loop import History, Job, fit


class Unimodal(Trainable):
    """A linear head on the mean of one modality's reduced steps. Shapes: B rows, T steps, D features."""

    def __init__(self, standardise: Standardiser, modality: str, reduce: nn.Module, dim: int, outputs: int) -> None:
        super().__init__()
        self.standardise, self.modality, self.reduce = standardise, modality, reduce
        with torch.no_grad():
            width = reduce(torch.zeros(1, 1, dim)).shape[-1]
        self.head = nn.Linear(width, outputs)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T, D], masks: modality -> [B, T] -> logits [B, outputs]."""
        x = self.standardise({self.modality: values[self.modality]}, masks)[self.modality]
        return Prediction(self.head(masked_mean(self.reduce(x), masks[self.modality])))


def pretrain(model: Model, job: Job) -> dict[str, History]:
    """Trains the model's reductions in place, each on the rows that have its modality, below `job.directory`.

    A modality that no train row or no validation row has is left as it is.
    """
    histories = {}
    for modality, reduce in model.reductions().items():
        column = job.dataset.view.columns[modality]
        train, valid = (rows[column.present[rows]] for rows in (job.train, job.valid))
        if not len(train) or not len(valid):
            continue
        torch.manual_seed(job.seed)  # the head's weights do not depend on the modality before, which may be resumed
        unimodal = Unimodal(model.standardise, modality, reduce, column.dim, model.outputs)
        own = replace(job, dataset=job.dataset.only(modality), train=train, valid=valid)
        own = replace(own, settings=job.settings.pretraining(), directory=job.directory / modality)
        histories[modality] = fit(unimodal, own)
    return histories
