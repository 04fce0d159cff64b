"""Features of utterances, as a dataset of torch, as tables of pandas and polars, and as arrays.

Shapes: T steps of an utterance, D features of a step, B utterances of a batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from pipeline.errors import InputError, MachineError, closest
from pipeline.formats import parquet
from pipeline.formats.content import Content, Steps, Tracks, pooled
from pipeline.stage import Modality
from pipeline.utterance import Utterance

if TYPE_CHECKING:
    import datasets
    import polars as pl

Sample = dict[str, Any]
"""An utterance: its id, dialogue, speaker, text, split and labels, and its features by `<modality>_features`."""


class Features(torch.utils.data.Dataset[Sample]):
    """Features of utterances with their labels, in the order of the corpus; a map-style dataset of torch.

    A sample is a dict: `id`, `dialogue`, `turn`, `speaker`, `text`, `split`, the labels (`label`, and `class`, the name
    of a class), and for each modality `<modality>_features`, float32 [T, D], and `<modality>_valid`, [T], False for a
    step to be ignored, whose features are zeros. An utterance that lacks a modality has no steps of it, T = 0. Features
    are read when they are asked for, and are not standardised.
    """

    def __init__(self, name: str, content: Content) -> None:
        self.name = name
        self._content = content
        self._labels = tuple(dict.fromkeys(label for row in content.rows for label in row.labels))

    @property
    def _tracks(self) -> Mapping[Modality, Tracks]:
        return self._content.tracks

    @property
    def ids(self) -> list[str]:
        """The utterances."""
        return [row.id for row in self._content.rows]

    @property
    def dims(self) -> dict[str, int]:
        """modality -> D."""
        return {modality: tracks.dim for modality, tracks in self._tracks.items()}

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """modality -> the names of its D dimensions; none for a stage that does not name them."""
        return {modality: tracks.names for modality, tracks in self._tracks.items()}

    def __len__(self) -> int:
        return len(self._content.rows)

    def __getitem__(self, index: int) -> Sample:
        number = range(len(self))[index]
        row = self._content.rows[number]
        sample: Sample = as_dict(row) | {name: row.labels.get(name) for name in self._labels}
        for modality, tracks in self._tracks.items():
            steps = tracks.read(number)
            sample[f"{modality}_features"] = torch.from_numpy(_values(steps, tracks.dim))
            sample[f"{modality}_valid"] = torch.from_numpy(_valid(steps))
        return sample

    def __repr__(self) -> str:
        widths = ", ".join(f"{modality} T x {dim}" for modality, dim in self.dims.items())
        return f"Features({self.name!r}: {len(self):,} utterances; {widths})"

    def to_numpy(self, modality: str = "") -> dict[str, NDArray[np.float32]]:
        """utterance -> its features, float32 [T, D]; an utterance without values of the modality is left out.

        modality: may be left out if there is only one. Raises InputError for one that is not there.
        """
        name = modality or next(iter(self.dims))
        tracks = {str(held): tracks for held, tracks in self._tracks.items()}
        if name not in tracks or (not modality and len(tracks) > 1):
            raise InputError(f"name the modality, one of {', '.join(tracks)}")
        found = ((row.id, tracks[name].read(number)) for number, row in enumerate(self._content.rows))
        return {utterance: _values(steps, tracks[name].dim) for utterance, steps in found if steps is not None}

    def to_pandas(self) -> pd.DataFrame:
        """A row for each utterance, with the index `id` and the columns of a sample; a cell holds an array [T, D]."""
        samples = (self[number] for number in range(len(self)))
        plain = [{key: value.numpy() if torch.is_tensor(value) else value for key, value in s.items()} for s in samples]
        return pd.DataFrame(plain, index=pd.Index(self.ids, name="id")).drop(columns="id", errors="ignore")

    def means(self) -> pd.DataFrame:
        """The mean of each utterance's valid steps: the index `id`, and a column `<modality>.<dimension>` for each.

        An utterance without values of a modality has NaN there.
        """
        return pd.concat([self._means(modality) for modality in self._tracks], axis=1)

    def to_arrow(self) -> pa.Table:
        """The table that `affectory export parquet` writes, with the column `split`."""
        table = parquet.table(self._content, range(len(self)))
        return table.append_column("split", pa.array([row.split for row in self._content.rows], pa.string()))

    def to_polars(self) -> pl.DataFrame:
        """The same as a data frame of polars: `pip install 'affectory[polars]'`."""
        frame: pl.DataFrame = _optional("polars").from_arrow(self.to_arrow())
        return frame

    def to_huggingface(self) -> datasets.Dataset:
        """The same as a dataset of Hugging Face: `pip install 'affectory[datasets]'`."""
        return _optional("datasets").Dataset(self.to_arrow())

    def of(self, split: str) -> Features:
        """Those of one part of the split. Raises InputError if there is none."""
        numbers = [number for number, row in enumerate(self._content.rows) if row.split == split]
        if not numbers:
            raise InputError(f"no split {split!r}: {closest(split, {row.split or '' for row in self._content.rows})}")
        tracks = {m: replace(held, read=partial(_renumbered, held.read, numbers)) for m, held in self._tracks.items()}
        return Features(self.name, Content(tuple(self._content.rows[number] for number in numbers), tracks))

    def _means(self, modality: Modality) -> pd.DataFrame:
        tracks = self._tracks[modality]
        named = [f"{modality}.{name}" for name in tracks.names or range(tracks.dim)]
        found = [tracks.read(number) for number in range(len(self))]
        means = np.array([pooled(steps, tracks.dim) for steps in found]).reshape(-1, tracks.dim)
        means[[steps is None or not steps.valid.any() for steps in found]] = np.nan
        return pd.DataFrame(means, index=pd.Index(self.ids, name="id"), columns=named)


_ROW = ("id", "dialogue", "turn", "speaker", "text", "split")


def as_dict(row: Utterance) -> dict[str, Any]:
    """Who says what when in which split, and the labels."""
    return {name: getattr(row, name) for name in _ROW} | dict(row.labels)


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """The samples of a batch, for `torch.utils.data.DataLoader(..., collate_fn=affectory.collate)`.

    Features are padded with zeros to [B, T, D], and `<modality>_valid` with False to [B, T]. Numbers are a tensor [B],
    anything else is a list.
    """
    return {name: _stacked([sample[name] for sample in samples]) for name in samples[0]}


def _stacked(values: list[Any]) -> Any:
    if torch.is_tensor(values[0]):
        return pad_sequence(values, batch_first=True)
    return torch.tensor(values) if all(isinstance(value, int | float) for value in values) else values


def _renumbered(read: Callable[[int], Steps | None], numbers: Sequence[int], number: int) -> Steps | None:
    return read(numbers[number])


def _values(steps: Steps | None, dim: int) -> NDArray[np.float32]:
    if steps is None:
        return np.zeros((0, dim), np.float32)
    return np.where(steps.valid[:, None], steps.values, np.float32(0))


def _valid(steps: Steps | None) -> NDArray[np.bool_]:
    return np.zeros(0, bool) if steps is None else np.array(steps.valid)


def _optional(library: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MachineError(f"{library} is not installed: pip install 'affectory[{library}]'") from error
