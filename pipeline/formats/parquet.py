"""Parquet, one row an utterance, and the folder of it with a card that Hugging Face `datasets` loads by its name.

| column | what it holds |
|---|---|
| `id` (or `utterance`) | the utterance, required |
| `text_features`, `audio_features`, `visual_features` | T lists of D numbers; or D numbers, which are one step |
| `<modality>_valid` | T flags, False for a step to be ignored |
| `dialogue`, `turn`, `speaker`, `split`, `text` | as an utterance has them |
| any other | an annotation, if it is a number or a string |

In a folder, `train.parquet`, `validation.parquet` and `test.parquet` are the split.

Shapes: T steps of an utterance, D features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.formats.content import Content, Steps, Tracks, given, known
from pipeline.stage import Modality
from pipeline.utterance import Utterance

MODALITIES: tuple[Modality, ...] = ("text", "audio", "visual")
PARTS = {"train": "train", "valid": "validation", "test": "test"}
_FILES = {name: part for part, name in PARTS.items()} | {"valid": "valid", "dev": "valid"}
_ROW = ("id", "utterance", "dialogue", "turn", "speaker", "split", "text")

# --- in --------------------------------------------------------------------------------------------------------


def parts(folder: Path) -> dict[str, Path]:
    """The file of each part of a split in a folder; none if it is another folder."""
    return {part: path for name, part in _FILES.items() if (path := folder / f"{name}.parquet").is_file()}


def read(path: Path) -> Content:
    """What a file holds, or the files of a folder. Raises InputError for one that is damaged or has no ids."""
    files = parts(path) if path.is_dir() else {None: path}
    contents = [_one(file, part) for part, file in files.items()]
    rows = tuple(row for content in contents for row in content.rows)
    places = [(content, number) for content in contents for number in range(len(content.rows))]
    held = [m for m in MODALITIES if all(m in content.tracks for content in contents)]
    return Content(rows, {m: Tracks(_width(contents, m, path), partial(_placed, places, m)) for m in held})


def _placed(places: Sequence[tuple[Content, int]], modality: Modality, number: int) -> Steps | None:
    content, row = places[number]
    return content.tracks[modality].read(row)


def _width(contents: Sequence[Content], modality: Modality, path: Path) -> int:
    widths = {content.tracks[modality].dim for content in contents}
    if len(widths) > 1:
        raise InputError(f"{path}: {modality}_features has another number of dimensions in each part: {sorted(widths)}")
    return widths.pop()


def _one(path: Path, part: str | None) -> Content:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is no Parquet file: {error}") from error
    if not {"id", "utterance"} & set(table.column_names):
        raise InputError(f"{path} has no column `id`, which names the utterances")
    named = {m: f"{m}_features" for m in MODALITIES if f"{m}_features" in table.column_names}
    tracks = {modality: _tracks(table, name, f"{modality}_valid", path) for modality, name in named.items()}
    return Content(tuple(_rows(table, part)), tracks)


def _tracks(table: pa.Table, name: str, mask: str, path: Path) -> Tracks:
    values = table[name]
    if not pa.types.is_list(values.type) and not pa.types.is_fixed_size_list(values.type):
        raise InputError(f"{path}: {name} is {values.type}, expected lists of numbers")
    place = f"{path}: {name}"
    first = next((array for row in range(len(values)) if (array := _array(values[row], place)) is not None), None)
    if first is None:
        raise InputError(f"{place} is empty in every row")
    valid = table[mask] if mask in table.column_names else None
    return Tracks(first.shape[-1], partial(_steps, values, valid, first.shape[-1], place))


def _steps(values: Any, valid: Any, dim: int, place: str, row: int) -> Steps | None:
    array = _array(values[row], place)
    if array is None:
        return None
    mask = None if valid is None or not valid[row].is_valid else np.asarray(valid[row].as_py(), bool)
    if array.shape[-1] != dim or (mask is not None and len(mask) != len(array)):
        raise InputError(f"{place}: row {row} is {array.shape}, expected [T, {dim}]")
    return given(array, mask)


def _array(value: Any, place: str) -> Any:
    """The numbers of a cell, [T, D] or [D]; None for an empty one."""
    if not value.is_valid or not len(value.values):
        return None
    inner = value.values
    try:
        if not hasattr(inner, "flatten") or not pa.types.is_nested(inner.type):
            return np.asarray(inner.to_numpy(zero_copy_only=False), np.float32)
        return np.asarray(inner.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(len(inner), -1)
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{place} has steps of several widths, or something that is no number") from error


def _rows(table: pa.Table, part: str | None) -> Iterator[Utterance]:
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_string, pa.types.is_boolean)
    plain = [field.name for field in table.schema if any(kind(field.type) for kind in kinds)]
    for number, cells in enumerate(table.select(plain).to_pylist()):
        name = str(cells["id"] if "id" in cells else cells["utterance"])
        yield Utterance(
            id=name,
            dialogue=str(cells.get("dialogue") or name),
            turn=number if cells.get("turn") is None else int(cells["turn"]),
            speaker=cells.get("speaker") or None,
            text=cells.get("text"),
            split=part or _FILES.get(str(cells.get("split")), None),
            labels=known({key: value for key, value in cells.items() if key not in _ROW}),
        )


# --- out -------------------------------------------------------------------------------------------------------


def write(content: Content, folder: Path) -> None:
    """Writes a file for each part of the split, and the card, `README.md`, from which `load_dataset(folder)` reads."""
    for part, name in PARTS.items():
        numbers = [number for number, row in enumerate(content.rows) if row.split == part]
        if numbers:
            pq.write_table(table(content, numbers), folder / f"{name}.parquet", compression="zstd")
    (folder / "README.md").write_text(_card(content, json.loads((folder / "about.json").read_text())), encoding="utf-8")


def table(content: Content, numbers: Sequence[int]) -> pa.Table:
    """Some utterances as the table above, without the column `split`; steps that are not valid are zeros."""
    rows = [content.rows[number] for number in numbers]
    columns: dict[str, Any] = {
        name: [getattr(row, name) for row in rows] for name in ("id", "dialogue", "turn", "speaker", "text")
    }
    for name in sorted({name for row in content.rows for name in row.labels}):
        columns[name] = [row.labels.get(name) for row in rows]
    for modality, tracks in content.tracks.items():
        found = [tracks.read(number) for number in numbers]
        lists = [None if steps is None else list(np.where(steps.valid[:, None], steps.values, 0)) for steps in found]
        columns[f"{modality}_features"] = pa.array(lists, pa.list_(pa.list_(pa.float32())))
        masks = [None if steps is None else steps.valid for steps in found]
        columns[f"{modality}_valid"] = pa.array(masks, pa.list_(pa.bool_()))
    return pa.table(columns)


def _card(content: Content, about: Mapping[str, Any]) -> str:
    """A dataset card: YAML that names the files, then what the data are."""
    held = {row.split for row in content.rows}
    files = "\n".join(f"  - split: {name}\n    path: {name}.parquet" for part, name in PARTS.items() if part in held)
    widths = "\n".join(f"- `{m}_features`: T x {tracks.dim}" for m, tracks in content.tracks.items())
    labels = about.get("labels", {}).get("protocol")
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n\n"
        f"# Features of {about.get('dataset')}\n\n"
        "Written by Affectory; `about.json` has the stages with their parameters, the split and the labels.\n\n"
        f"{widths}\n- `<modality>_valid`: False for a step to be ignored\n\n"
        f"Protocol {about.get('protocol')}, fold {about.get('fold')}, labels {labels}. Values are not standardised.\n\n"
        f"{about.get('licence', '')}\n"
    )
