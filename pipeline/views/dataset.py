"""Batches gathered from the columns of a view, and statistics over its rows.

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
from pipeline.model import Batch, Standardiser
from pipeline.objective import targets
from pipeline.reader import Label
from pipeline.stage import Target
from pipeline.views.dialogue_rows import DialogueRows
from pipeline.views.view import Column, Rows, View

# --- statistics ------------------------------------------------------------------------------------------------


class Statistics(NamedTuple):
    """Mean and standard deviation of each dimension, float64 [D]; the deviation of a constant is 0."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def statistics(column: Column, rows: Rows) -> Statistics:
    """The statistics of the valid steps of `rows` alone, in float64 and in bounded memory (X1).

    Raises InputError if a valid step is not finite.
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
    return Statistics(mean, np.where(std <= Standardiser.NOISE * np.abs(mean), 0.0, std))


def means(column: Column) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The mean of each row's valid steps, [N, 1, D], 0 over none, and whether it has any, [N, 1]; in bounded memory."""
    pooled = np.zeros((len(column.mask), 1, column.dim), np.float32)
    for chunk in column.chunks(np.arange(len(pooled))):
        count = column.mask[chunk].sum(axis=1, keepdims=True).clip(min=1)
        pooled[chunk, 0] = column.values[chunk].sum(axis=1, dtype=np.float64) / count  # invalid steps hold 0
    return pooled, np.asarray(column.mask.any(axis=1, keepdims=True))


class SpeakerScale(NamedTuple):
    """Standardisation by speaker (X1).

    speaker: [N], the number of each row's speaker. mean, scale: [S, D], the mean and the reciprocal deviation of each
    of S speakers.
    """

    speaker: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, column: Column, speakers: Sequence[str]) -> SpeakerScale:
        """The scale of each speaker over all rows, test rows included, which makes training transductive.

        speakers: [N], the speaker of each row.
        """
        names, numbers = np.unique(np.asarray(speakers), return_inverse=True)
        by_speaker = [statistics(column, np.flatnonzero(numbers == number)) for number in range(len(names))]
        mean, std = (torch.from_numpy(np.stack(part)).float() for part in zip(*by_speaker, strict=True))
        return cls(torch.from_numpy(numbers), mean, torch.where(std > 0, 1 / std, 0.0))

    def apply(self, rows: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Standardises and clips values [B, T, D] of rows [B] to float32; steps that mask [B, T] excludes give 0."""
        speaker = self.speaker[rows]
        scaled = (values.float() - self.mean[speaker].unsqueeze(1)) * self.scale[speaker].unsqueeze(1)
        return scaled.clamp(-Standardiser.CLIP, Standardiser.CLIP).masked_fill(~mask.unsqueeze(-1), 0.0)


def speaker_scales(view: View, speakers: Mapping[str, str]) -> dict[str, SpeakerScale]:
    """The scale of each modality by speaker. speakers: utterance -> speaker."""
    names = [speakers.get(name, "") for name in view.ids]
    return {modality: SpeakerScale.of(column, names) for modality, column in view.columns.items()}


POOL = 32
"""Among the rows of how many batches those of like length are put together."""

# --- batches ---------------------------------------------------------------------------------------------------


class Dataset:
    """A view with its labels, read in batches. A batch is one gather from the memory map for each modality.

    labels: utterance -> label, at least of the rows that will be read. scales: modality -> SpeakerScale, if features
    are standardised by speaker. pin: gathers into page-locked memory, for a GPU. cut: a batch has as many steps as its
    longest row, at least two. dialogues: of the view's rows, for a model that reads dialogues; then batches hold whole
    ones, say their turns, and have the mean of a row's valid steps as its one step of a modality.
    """

    def __init__(
        self,
        view: View,
        labels: Mapping[str, Label],
        target: Target,
        scales: Mapping[str, SpeakerScale] | None = None,
        pin: bool = False,
        cut: bool = False,
        dialogues: DialogueRows | None = None,
    ) -> None:
        self.view, self.scales, self.pin, self.cut, self.dialogues = view, dict(scales or {}), pin, cut, dialogues
        self.labels = label_tensor([labels.get(name) for name in view.ids], target)
        pooled = dialogues is not None
        parts = {m: means(column) if pooled else (column.values, column.mask) for m, column in view.columns.items()}
        self.values = {modality: _tensor(values) for modality, (values, _) in parts.items()}
        self.masks = {modality: _tensor(mask) for modality, (_, mask) in parts.items()}

    def only(self, modality: str) -> Dataset:
        """The same rows with only one modality."""
        narrowed = copy(self)
        narrowed.values, narrowed.masks = {modality: self.values[modality]}, {modality: self.masks[modality]}
        narrowed.scales = {name: scale for name, scale in self.scales.items() if name == modality}
        return narrowed

    @property
    def usable(self) -> NDArray[np.bool_]:
        """[N], True for a row with a valid step of any modality."""
        present = [mask.any(dim=1) for mask in self.masks.values()]
        return np.asarray(torch.stack(present).any(dim=0).numpy(), bool)

    def hiding(self, hidden: Mapping[str, NDArray[np.bool_]]) -> Dataset:
        """The same rows with modalities hidden: modality -> [N], True for each row that is to be without it."""
        changed = copy(self)
        shown = {modality: ~torch.from_numpy(rows).unsqueeze(1) for modality, rows in hidden.items()}  # [N, 1]
        changed.masks = {m: mask & shown[m] if m in shown else mask for m, mask in self.masks.items()}
        return changed

    def gather(self, rows: Tensor) -> Batch:
        """The batch of these rows, in their order."""
        masks = {modality: mask.index_select(0, rows) for modality, mask in self.masks.items()}
        values = {modality: part.index_select(0, rows) for modality, part in self.values.items()}
        if self.cut:
            steps = {modality: _longest(mask) for modality, mask in masks.items()}
            masks = {modality: mask[:, : steps[modality]] for modality, mask in masks.items()}
            values = {modality: part[:, : steps[modality]] for modality, part in values.items()}
        for modality, scale in self.scales.items():
            values[modality] = scale.apply(rows, values[modality], masks[modality])
        if self.pin:
            values = {modality: part.pin_memory() for modality, part in values.items()}
        turns = None if self.dialogues is None else self.dialogues.turns(rows)
        return Batch(rows, values, masks, self.labels.index_select(0, rows), turns)

    def by_length(self, rows: Rows) -> Rows:
        """The rows [R], those with the fewest steps first, padding after the last valid step not counted."""
        given = torch.from_numpy(rows)
        steps = [(mask[given] * torch.arange(1, mask.shape[1] + 1)).amax(dim=1) for mask in self.masks.values()]
        return np.asarray(rows[np.argsort(torch.stack(steps).sum(dim=0).numpy(), kind="stable")])

    def batches(self, rows: Rows, size: int, seed: int | None = None, *, grouped: bool = False) -> Iterator[Batch]:
        """Batches of `size` rows, the last one possibly shorter: in order, or shuffled by `seed`.

        grouped: the rows of a shuffled batch are of like length, among those of `POOL` batches drawn together.
        With `dialogues`, of `size` dialogues with those turns that are among the rows, a dialogue's rows side by side.
        They are gathered in this process: workers copy each batch through a pipe, which is slower.
        """
        rng = None if seed is None else np.random.default_rng(seed)
        if self.dialogues is not None:
            return map(self.gather, self.dialogues.batches(rows, size, rng))
        order = rows if rng is None else rng.permutation(rows)
        if rng is None or not grouped:
            return map(self.gather, torch.split(torch.from_numpy(order), size))
        pools = [self.by_length(order[start : start + POOL * size]) for start in range(0, len(order), POOL * size)]
        alike = [batch for pool in pools for batch in torch.split(torch.from_numpy(pool), size)]
        return (self.gather(alike[number]) for number in rng.permutation(len(alike)))


def _longest(mask: Tensor) -> int:
    """The steps of the longest row of mask [B, T]; at least 2, since one step would stand for all (X6)."""
    return max(2, int(mask.any(dim=0).nonzero().max()) + 1) if mask.any() else 2


def label_tensor(labels: Sequence[Label | None], target: Target) -> Tensor:
    """Labels as `objective.targets` has them, [N] or [N, heads], with -1 for a row without a label."""
    wide = target.several or target.task == "multilabel"
    none: Label = (-1,) * len(target.classes) if wide else -1
    return targets([none if label is None else label for label in labels], target)


def _tensor(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():  # the map is read-only, and nothing writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(array))
