"""numpy's `.npz`: one array for each modality, padded, and one for each column of the utterances.

| array | what it holds |
|---|---|
| `id` | [N], the utterances |
| `text`, `audio`, `visual` | [N, T, D] features, padded at the end, or [N, D]; also `vision` |
| `<modality>_valid` | [N, T], False for padding and for steps to be ignored; or `<modality>_lengths`, [N] |
| `<modality>_names` | [D], of the dimensions |
| `dialogue`, `turn`, `speaker`, `split`, `raw_text` | [N] each; "" is unknown |
| `label.<name>` | [N], an annotation; NaN and "" are unknown |

All but `id` and one modality may be left out. Without a mask and lengths, a step of zeros alone is padding.

Shapes: N utterances, T steps after padding, D features.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.formats.content import MOST_ROWS, RATIO, SMALL, Content, Steps, Tracks, given, known, padded
from pipeline.stage import Modality
from pipeline.utterance import Utterance

MODALITIES: Mapping[str, Modality] = {"text": "text", "audio": "audio", "visual": "visual", "vision": "visual"}
_LABEL = "label."

# --- in --------------------------------------------------------------------------------------------------------


def read(path: Path) -> Content:
    """What a file holds. Nothing in it is unpickled.

    Raises InputError for a file that is damaged, that has no ids, or that would unpack to more than it may.
    """
    try:
        _check_size(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, TypeError, MemoryError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no .npz of numbers and strings: {error}") from error
    return content(arrays, path)


def _check_size(path: Path) -> None:
    """Raises InputError, before anything is unpacked, for arrays that would need more than the memory or than the size
    of their file explains. zipfile reads no more of an array than the directory of the archive states."""
    with zipfile.ZipFile(path) as archive:
        stated = sum(member.file_size for member in archive.infolist())
    most = min(psutil.virtual_memory().available, max(SMALL, RATIO * path.stat().st_size))
    if stated > most:
        raise InputError(f"{path} would unpack to {stated:,} bytes, more than the {most:,} that it may")


def content(arrays: Mapping[str, NDArray[Any]], path: Path) -> Content:
    """What arrays of these names hold. path: for messages. Raises InputError for arrays that do not fit each other."""
    if "id" not in arrays:
        raise InputError(f"{path} has no array `id`, which names the utterances")
    count = len(np.atleast_1d(arrays["id"]))
    if count > MOST_ROWS:  # empty names take no bytes
        raise InputError(f"{path} has {count:,} utterances, more than {MOST_ROWS:,}")
    for name, array in arrays.items():
        if not name.endswith("_names") and (not array.ndim or len(array) != count):
            raise InputError(f"{path}: {name} is {array.shape}, and there are {count} ids")
    tracks = {modality: _tracks(arrays, name, path) for name, modality in MODALITIES.items() if name in arrays}
    return Content(tuple(_rows(arrays, count)), tracks)


def _tracks(arrays: Mapping[str, NDArray[Any]], name: str, path: Path) -> Tracks:
    values = arrays[name]
    if values.ndim not in (2, 3) or values.dtype.kind not in "fiu":
        raise InputError(f"{path}: {name} is {values.shape} {values.dtype}, expected numbers [N, T, D] or [N, D]")
    valid = arrays.get(f"{name}_valid")
    if valid is None and f"{name}_lengths" in arrays and values.ndim == 3:
        valid = np.arange(values.shape[1]) < arrays[f"{name}_lengths"][:, None]
    if valid is not None and valid.shape != values.shape[:-1]:
        raise InputError(f"{path}: the mask of {name} is {valid.shape}, expected {values.shape[:-1]}")
    names = tuple(map(str, arrays.get(f"{name}_names", ())))
    return Tracks(values.shape[-1], partial(_steps, values, valid), names)


def _steps(values: NDArray[Any], valid: NDArray[Any] | None, row: int) -> Steps | None:
    return given(values[row], None if valid is None else np.atleast_1d(valid[row]).astype(bool))


def _rows(arrays: Mapping[str, NDArray[Any]], count: int) -> Iterator[Utterance]:
    labels = [name for name in arrays if name.startswith(_LABEL)]
    for row in range(count):
        cells = {name: arrays[name][row].item() for name in _COLUMNS if name in arrays}
        name = str(cells["id"])
        yield Utterance(
            id=name,
            dialogue=str(cells.get("dialogue") or name),
            turn=int(cells.get("turn", row)),
            speaker=str(cells.get("speaker", "")) or None,
            text=str(cells["raw_text"]) if "raw_text" in cells else None,
            split=str(cells.get("split", "")) or None,
            labels=known({label.removeprefix(_LABEL): arrays[label][row].item() for label in labels}),
        )


_COLUMNS = ("id", "dialogue", "turn", "speaker", "split", "raw_text")

# --- out -------------------------------------------------------------------------------------------------------


def write(content: Content, path: Path) -> None:
    """Writes the arrays of the table above, compressed."""
    rows, numbers = content.rows, range(len(content.rows))
    arrays: dict[str, Any] = {
        "id": [row.id for row in rows],
        "dialogue": [row.dialogue for row in rows],
        "turn": [row.turn for row in rows],
        "speaker": [row.speaker or "" for row in rows],
        "split": [row.split or "" for row in rows],
        "raw_text": [row.text or "" for row in rows],
    }
    for name in sorted({name for row in rows for name in row.labels}):
        values = [row.labels.get(name) for row in rows]
        text = any(isinstance(value, str) for value in values)
        arrays[f"{_LABEL}{name}"] = [("" if text else np.nan) if value is None else value for value in values]
    for modality, tracks in content.tracks.items():
        arrays[modality], arrays[f"{modality}_valid"] = padded(tracks, numbers)
        arrays[f"{modality}_names"] = np.array(tracks.names, str)
    with path.open("wb") as file:
        np.savez_compressed(file, **{name: np.asarray(values) for name, values in arrays.items()})  # type: ignore[arg-type]
