"""Predicts rows of a dataset with a model, and scores them: the one path of training, `evaluate` and `table`.

Shapes: N rows of the dataset, R rows that are predicted, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.model import Batch, Model, Prediction, Trainable
from pipeline.reader import Label
from pipeline.score.predictions import Predictions
from pipeline.stage import Target
from pipeline.views.dataset import Dataset, speaker_scales
from pipeline.views.dialogue_rows import DialogueRows
from pipeline.views.view import Rows, View


def dataset_for(
    kind: type[Model],
    view: View,
    labels: Mapping[str, Label],
    target: Target,
    *,
    speakers: Mapping[str, str] | None,
    dialogues: DialogueRows | None,
    device: str,
) -> Dataset:
    """The rows of a view as a model of this kind reads them.

    labels, dialogues: see `Dataset`. speakers: utterance -> speaker, if features are standardised by speaker.
    """
    scales = None if speakers is None else speaker_scales(view, speakers)
    pin, cut = device == "cuda", not kind.fixed_length
    return Dataset(view, labels, target, scales, pin=pin, cut=cut, dialogues=dialogues)


def predicted(model: Trainable, batch: Batch, device: str) -> Prediction:
    """What the model gives for a batch, which is moved to the device first."""
    values, masks = (_moved(part, device) for part in (batch.values, batch.masks))
    turns = None if batch.turns is None else batch.turns.to(device)
    return model.predict(batch._replace(values=values, masks=masks, turns=turns))


def predict(
    model: Trainable, dataset: Dataset, rows: Rows, size: int, device: str
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """The logits [R, outputs], and for a model with gates, modality -> [R], its mean share, in the order of the rows.

    size: rows of a batch; its dialogues, if the dataset has them.
    """
    model = model.to(device).eval()
    seen: list[Tensor] = []
    logits: list[Tensor] = []
    gates: dict[str, list[Tensor]] = {}
    with torch.inference_mode():
        for batch in dataset.batches(dataset.by_length(rows) if dataset.cut else rows, size):
            prediction = predicted(model, batch, device)
            seen.append(batch.rows)
            logits.append(prediction.logits.float().cpu())
            for modality, share in (prediction.gates or {}).items():
                gates.setdefault(modality, []).append(share.float().cpu())
    place = np.empty(len(dataset.labels), np.int64)
    place[torch.cat(seen).numpy()] = np.arange(len(rows))  # lengths and dialogues put rows into an order of their own
    order = place[rows]
    return torch.cat(logits).numpy()[order], {m: torch.cat(shares).numpy()[order] for m, shares in gates.items()}


def predict_all(
    model: Trainable,
    dataset: Dataset,
    rows: Rows,
    labels: Sequence[Label],
    *,
    prior: Sequence[Any] | NDArray[Any],
    size: int,
    device: str,
) -> Predictions:
    """The predictions of all rows; one without a valid step of any modality has the logits of the prior.

    labels: [R]. prior: [outputs], the train rows' (`pipeline.objective.prior`). size: as in `predict`.
    """
    usable = dataset.usable[rows]
    logits = np.tile(np.asarray(prior), (len(rows), 1))
    gates: dict[str, NDArray[np.float64]] = {}
    if usable.any():
        logits[usable], shares = predict(model, dataset, rows[usable], size, device)
        gates = {modality: np.full(len(rows), np.nan) for modality in shares}
        for modality, share in shares.items():
            gates[modality][usable] = share
    return Predictions([dataset.view.ids[row] for row in rows], logits, labels, gates)


def _moved(tensors: Mapping[str, Tensor], device: str) -> dict[str, Tensor]:
    return {modality: tensor.to(device, non_blocking=True) for modality, tensor in tensors.items()}
