"""MMSA's `.pkl`: a dict of the parts train, valid and test, each with arrays over its utterances.

Source: github.com/thuiar/MMSA, `src/MMSA/data_loader.py` of 2.2: `id`, `raw_text`, `text`, `audio`, `vision`,
`regression_labels` (for CH-SIMS also `_T`, `_A`, `_V`), and in a file that is not aligned `audio_lengths` and
`vision_lengths`. MulT's files (`labels` in place of `regression_labels`, ids of three parts) are read too.

Shapes: N utterances of a part, T steps after padding, D features.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, closest
from pipeline.formats.content import Content, Steps, Tracks, given, known, padded, plain
from pipeline.stage import Modality
from pipeline.utterance import Utterance, Value

PARTS = {"train": "train", "valid": "valid", "dev": "valid", "validation": "valid", "test": "test"}
KEYS: Mapping[Modality, str] = {"text": "text", "audio": "audio", "visual": "vision"}
_LABELS = {
    "regression_labels": "sentiment",
    "labels": "sentiment",
    "regression_labels_T": "label_T",
    "regression_labels_A": "label_A",
    "regression_labels_V": "label_V",
}
_SEPARATOR = "$_$"

# --- in --------------------------------------------------------------------------------------------------------


def is_mmsa(value: Any) -> bool:
    """True for a dict with a part that is a dict with ids."""
    return isinstance(value, dict) and any(isinstance(part, dict) and "id" in part for part in value.values())


def content(data: Mapping[str, Any], path: Path) -> Content:
    """What a file holds, of the value that was read from it. Raises InputError for arrays that do not fit.

    Text, sound and pictures are those of `text`, `audio` and `vision`; `text_bert` holds the numbers of tokens, which
    are no features, and says only how many steps a text has.
    """
    parts = [_Part(path, name, data[name]) for name in PARTS if name in data]
    if not parts:
        raise InputError(f"{path} has no part train, valid or test: {closest('train', map(str, data))}")
    rows = tuple(row for part in parts for row in part.rows())
    places = [(part, number) for part in parts for number in range(part.count)]
    held: list[Modality] = [m for m, key in KEYS.items() if all(key in part.arrays for part in parts)]
    tracks = {m: Tracks(parts[0].arrays[KEYS[m]].shape[2], partial(_steps, places, m)) for m in held}
    for part in parts:
        part.check_widths({m: track.dim for m, track in tracks.items()})
    return Content(rows, tracks)


def _steps(places: Sequence[tuple[_Part, int]], modality: Modality, number: int) -> Steps | None:
    part, row = places[number]
    return given(part.arrays[KEYS[modality]][row], part.valid(modality, row))


class _Part:
    """One part of a file, its arrays by name."""

    def __init__(self, path: Path, name: str, part: Any) -> None:
        self.place, self.split = f"{path}: {name}", PARTS[name]
        if not isinstance(part, dict) or "id" not in part:
            raise InputError(f"{self.place} has no ids")
        self._part = part
        self.ids = [_id(value) for value in part["id"]]
        self.count = len(self.ids)
        self.arrays = {key: self._array(key) for key in KEYS.values() if key in part}
        lengths: dict[Modality, str] = {m: f"{key}_lengths" for m, key in KEYS.items()}
        self._lengths = {m: self._column(key, int) for m, key in lengths.items() if key in part}
        self._tokens = self._token_mask()

    def check_widths(self, dims: Mapping[Modality, int]) -> None:
        """Raises InputError if a modality has another number of dimensions than in the first part."""
        for modality, dim in dims.items():
            shape = self.arrays[KEYS[modality]].shape
            if shape[2] != dim:
                raise InputError(f"{self.place}: {KEYS[modality]} is {shape}, expected [N, T, {dim}]")

    def valid(self, modality: Modality, row: int) -> NDArray[np.bool_] | None:
        """Which steps of a row are no padding; None if only its zeros can tell.

        A modality's own lengths say it, and for text the mask of its tokens. Without lengths a file is aligned: then
        the mask of the tokens says it for all modalities, or else a step is padding that is zero in all of them.
        """
        steps = self.arrays[KEYS[modality]].shape[1]
        if modality in self._lengths:
            return np.asarray(np.arange(steps) < self._lengths[modality][row], bool)
        tokens = None if self._tokens is None else self._tokens[row]
        if tokens is not None and len(tokens) == steps and (modality == "text" or not self._lengths):
            return np.asarray(tokens, bool)
        if self._lengths or any(array.shape[1] != steps for array in self.arrays.values()):
            return None
        filled = [(np.isfinite(array[row]) & (array[row] != 0)).any(axis=1) for array in self.arrays.values()]
        return np.asarray(np.any(filled, axis=0), bool)

    def rows(self) -> Iterator[Utterance]:
        """The utterances, with their annotations."""
        labels = {name: self._column(key, float) for key, name in _LABELS.items() if key in self._part}
        marks = {n: self._column(k, str) for k, n in {"annotations": "annotation"}.items() if k in self._part}
        names = self._column("utterance", str) if "utterance" in self._part else [name for name, _, _ in self.ids]
        texts = self._column("raw_text", str) if "raw_text" in self._part else [None] * self.count
        for number, (_, dialogue, turn) in enumerate(self.ids):
            found: dict[str, Value] = {key: values[number] for key, values in (labels | marks).items()}
            yield Utterance(
                id=names[number],
                dialogue=dialogue,
                turn=number if turn is None else turn,
                text=texts[number],
                split=self.split,
                labels=known(found),
            )

    def _array(self, key: str) -> NDArray[Any]:
        array = self._part[key]
        if not isinstance(array, np.ndarray):
            raise InputError(f"{self.place}: {key} is no array")
        if array.ndim != 3 or array.dtype.kind not in "fiu" or len(array) != self.count:
            raise InputError(
                f"{self.place}: {key} is {array.shape} {array.dtype}, expected [{self.count}, T, D] numbers"
            )
        return array

    def _column(self, key: str, kind: type[Any]) -> list[Any]:
        """One value for each utterance."""
        values = [plain(value) for value in self._part[key]]
        if len(values) != self.count:
            raise InputError(f"{self.place}: {key} has {len(values)} values, and there are {self.count} ids")
        try:
            return [kind(value) for value in values]
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.place}: {key} holds something that is no {kind.__name__}") from error

    def _token_mask(self) -> NDArray[Any] | None:
        """The mask of the tokens [N, T], the second of the three rows of `text_bert`."""
        if "text_bert" not in self._part:
            return None
        tokens = self._part["text_bert"]
        fits = (
            isinstance(tokens, np.ndarray)
            and tokens.ndim == 3
            and tokens.shape[:2] == (self.count, 3)
            and tokens.dtype.kind in "fiu"
        )
        return tokens[:, 1] if fits else None


def _id(value: Any) -> tuple[str, str, int | None]:
    """The utterance's id, its video, and its number in it if the id says it.

    `video$_$12` becomes `video_12`, as the readers of CMU-MOSI and CMU-MOSEI name it.
    """
    parts = (
        [str(plain(part)) for part in value] if isinstance(value, list | tuple | np.ndarray) else [str(plain(value))]
    )
    if len(parts) > 1:
        return "_".join(parts), parts[0], None
    video, separator, clip = parts[0].rpartition(_SEPARATOR)
    if not separator:
        return parts[0], parts[0], None
    return f"{video}_{clip}", video, int(clip) if clip.isdecimal() else None


# --- out -------------------------------------------------------------------------------------------------------


def write(content: Content, path: Path, *, aligned: bool) -> None:
    """Writes a file that MMSA reads, as a pickle of protocol 2.

    aligned: all modalities have the same steps, so lengths are left out. An utterance's annotation `label` becomes its
    regression label, and `class` its annotation. Its own id is in `utterance`, which MMSA does not read. `text_bert`
    is left out: only BERT's own tokens can be in it.
    """
    data = {part: _part(content, part, aligned) for part in ("train", "valid", "test")}
    with path.open("wb") as file:
        pickle.dump(data, file, protocol=2)


def _part(content: Content, part: str, aligned: bool) -> dict[str, Any]:
    numbers = [number for number, row in enumerate(content.rows) if row.split == part]
    rows = [content.rows[number] for number in numbers]
    labels = np.array([row.labels["label"] for row in rows], np.float32)
    found: dict[str, Any] = {
        "id": [f"{row.dialogue}{_SEPARATOR}{row.turn}" for row in rows],
        "utterance": [row.id for row in rows],
        "raw_text": [row.text or "" for row in rows],
        "regression_labels": labels,
        "classification_labels": labels.astype(np.int64),
        "annotations": [str(row.labels.get("class", "")) for row in rows],
    }
    for modality, tracks in content.tracks.items():
        found[KEYS[modality]], valid = padded(tracks, numbers)
        if not aligned:
            found[f"{KEYS[modality]}_lengths"] = [_length(row) for row in valid]
    return found


def _length(valid: NDArray[np.bool_]) -> int:
    """The steps up to the last valid one; at least 1, because MMSA packs sequences, and none may be empty."""
    return max(1, int(np.flatnonzero(valid)[-1]) + 1) if valid.any() else 1
