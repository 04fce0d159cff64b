"""Batches gathered from the columns of a view, and statistics over train rows.

Shapes: N utterances of a view, T steps as stored (1 for `broadcast`, else L), D features, B rows of a batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import InputError
from pipeline.reader import Label, Task
from pipeline.stage import Target
from pipeline.views.view import Column, Rows, View

CLIP = 10.0
"""Standardised values are clipped at so many deviations (X1)."""

NOISE = 1e-6
"""A deviation below this share of the mean is what float32 makes of a constant (X1)."""


# --- statistics ------------------------------------------------------------------------------------------------


class Statistics(NamedTuple):
    """Mean and deviation of each dimension, float64 [D]; the deviation of a constant is 0."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def statistics(column: Column, rows: Rows) -> Statistics:
    """Over the valid steps of `rows` and nothing else, in float64 and in bounded memory (X1).

    Raises InputError where a valid step is not finite.
    """
    count, mean, squares = 0, np.zeros(column.dim), np.zeros(column.dim)
    for chunk in column.chunks(np.sort(rows)):  # in the order of the file
        x = column.values[chunk][column.mask[chunk]].astype(np.float64)  # [steps, D]
        if not len(x):
            continue
        if not np.isfinite(x).all():
            raise InputError("features are not finite, so they have no mean and deviation")
        total, centre = count + len(x), x.mean(axis=0)
        squares += np.square(x - centre).sum(axis=0) + np.square(centre - mean) * count * len(x) / total
        mean += (centre - mean) * len(x) / total  # Chan's merge of two parts: no difference of large squares
        count = total
    std = np.sqrt(squares / max(count, 1))
    return Statistics(mean, np.where(std <= NOISE * np.abs(mean), 0.0, std))


class SpeakerScale(NamedTuple):
    """Who speaks each row, [N], and the mean and reciprocal deviation of each speaker, [S, D]."""

    speaker: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, column: Column, speakers: Sequence[str]) -> SpeakerScale:
        """Statistics over **all** rows of each speaker, test rows included: transductive (X1)."""
        names, index = np.unique(np.asarray(speakers), return_inverse=True)
        each = [statistics(column, np.flatnonzero(index == number)) for number in range(len(names))]
        mean, std = (torch.from_numpy(np.stack(part)).float() for part in zip(*each, strict=True))
        return cls(torch.from_numpy(index), mean, torch.where(std > 0, 1 / std, 0.0))

    def apply(self, rows: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """rows [B], values [B, T, D], mask [B, T] -> values standardised and clipped, float32; invalid steps 0."""
        who = self.speaker[rows]
        scaled = (values.float() - self.mean[who].unsqueeze(1)) * self.scale[who].unsqueeze(1)
        return scaled.clamp(-CLIP, CLIP).masked_fill(~mask.unsqueeze(-1), 0.0)


# --- batches ---------------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """rows [B] of the view, values modality -> [B, T, D], masks modality -> [B, T], labels [B] or [B, heads]."""

    rows: Tensor
    values: dict[str, Tensor]
    masks: dict[str, Tensor]
    labels: Tensor


class Dataset:
    """A view with its labels, read in batches: one gather from the memory map for each modality, no copy besides.

    labels: utterance -> label, for the rows that will be read. scales: modality -> SpeakerScale, where features are
    standardised by speaker. pin: gather into page-locked memory, for a GPU.
    """

    def __init__(
        self,
        view: View,
        labels: Mapping[str, Label],
        target: Target,
        scales: Mapping[str, SpeakerScale] | None = None,
        pin: bool = False,
    ) -> None:
        self.view, self.scales, self.pin = view, dict(scales or {}), pin
        self.labels = label_tensor([labels.get(name) for name in view.ids], target)
        self.values = {modality: _tensor(column.values) for modality, column in view.columns.items()}
        self.masks = {modality: _tensor(column.mask) for modality, column in view.columns.items()}

    def only(self, modality: str) -> Dataset:
        """The same rows with one modality alone."""
        one = copy(self)
        one.values, one.masks = {modality: self.values[modality]}, {modality: self.masks[modality]}
        one.scales = {name: scale for name, scale in self.scales.items() if name == modality}
        return one

    def gather(self, rows: Tensor) -> Batch:
        """The batch of these rows, in their order."""
        masks = {modality: mask.index_select(0, rows) for modality, mask in self.masks.items()}
        values = {modality: part.index_select(0, rows) for modality, part in self.values.items()}
        for modality, scale in self.scales.items():
            values[modality] = scale.apply(rows, values[modality], masks[modality])
        if self.pin:
            values = {modality: part.pin_memory() for modality, part in values.items()}
        return Batch(rows, values, masks, self.labels.index_select(0, rows))

    def batches(self, rows: Rows, size: int, seed: int | None = None) -> Batches:
        """Batches of `size` rows, the last one shorter: in order, or shuffled by `seed`."""
        order = rows if seed is None else np.random.default_rng(seed).permutation(rows)
        return Batches(self, torch.split(torch.from_numpy(order), size))


class Batches:
    """What a training loop iterates over. No workers: they copy every batch through a pipe and only slow it."""

    def __init__(self, dataset: Dataset, parts: Sequence[Tensor]) -> None:
        self.dataset, self.parts = dataset, parts

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        return (self.dataset.gather(part) for part in self.parts)


_KINDS: Mapping[Task, torch.dtype] = {"regression": torch.float32, "multiclass": torch.int64, "multilabel": torch.int64}


def label_tensor(labels: Sequence[Label | None], target: Target) -> Tensor:
    """int64 [N] for multiclass, [N, heads] for multilabel, float32 [N] for regression, of several [N, numbers].

    -1 where there is none.
    """
    wide = target.several or target.task == "multilabel"
    nothing: Label = (-1,) * len(target.classes) if wide else -1
    return torch.tensor([nothing if label is None else label for label in labels], dtype=_KINDS[target.task])


def _tensor(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():  # a read-only map is what we want: nothing writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(array))
