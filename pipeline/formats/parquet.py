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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.cache.parquet_pages import Bounds, open_parquet
from pipeline.errors import InputError
from pipeline.formats.content import MOST_ROWS, RATIO, SMALL, Content, Steps, Tracks, given, known
from pipeline.stage import Modality
from pipeline.utterance import Utterance

MODALITIES: tuple[Modality, ...] = ("text", "audio", "visual")
PARTS = {"train": "train", "valid": "validation", "test": "test"}
_FILES = {name: part for part, name in PARTS.items()} | {"valid": "valid", "dev": "valid"}
_BATCH = 1024
"""How many utterances become objects of Python at once."""
_ROW = ("id", "utterance", "dialogue", "turn", "speaker", "split", "text")

# --- in --------------------------------------------------------------------------------------------------------


def parts(folder: Path) -> dict[str, Path]:
    """The file of each part of a split in a folder; none if it is another folder."""
    return {part: path for name, part in _FILES.items() if (path := folder / f"{name}.parquet").is_file()}


def read(path: Path) -> Content:
    """What a file holds, or the files of a folder.

    Raises InputError for one that is damaged, that has no ids, or that would unpack to more than the memory or than its
    own size explains, which is known before anything is unpacked.
    """
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
        table = _table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is no Parquet file: {error}") from error
    if not {"id", "utterance"} & set(table.column_names):
        raise InputError(f"{path} has no column `id`, which names the utterances")
    named = {m: f"{m}_features" for m in MODALITIES if f"{m}_features" in table.column_names}
    tracks = {modality: _tracks(table, name, f"{modality}_valid", path) for modality, name in named.items()}
    return Content(tuple(_rows(table, part)), tracks)


def _table(path: Path) -> pa.Table:
    """The columns of numbers, of texts and of features. What they unpack to is counted before anything is unpacked."""
    free = psutil.virtual_memory().available
    bounds = Bounds(MOST_ROWS, bytes=SMALL, ratio=RATIO, most=free, texts=free, shared=True, foreign=True)
    with open_parquet(path, bounds) as file:
        schema = file.schema_arrow
    features = {f"{modality}_features" for modality in MODALITIES}
    for field in schema:
        if field.name in features and not (pa.types.is_nested(field.type) and _of_numbers(field.type)):
            raise InputError(f"{path}: {field.name} is {field.type}, expected lists of numbers")
    texts = [field.name for field in schema if _is_text(field.type)]
    return _read(
        path, bounds, [field.name for field in schema if field.name in texts or _of_numbers(field.type)], texts
    )


def _read(path: Path, bounds: Bounds, columns: list[str], texts: list[str]) -> pa.Table:
    """These columns. Texts are read as indices into their distinct ones, or else counted each with its own bytes."""
    try:
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            table = file.read(columns)
    except OSError:  # pyarrow reads texts that follow their lengths in no other way than each on its own
        with open_parquet(path, replace(bounds, shared=False)) as file:
            return file.read(columns)
    most = bounds.allowed(path.stat().st_size)
    for name in texts:
        table = table.set_column(columns.index(name), name, _spelt_out(table[name], most, path))
    return table


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _of_numbers(kind: pa.DataType) -> bool:
    """True for numbers and flags, and for lists of them."""
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _spelt_out(column: pa.ChunkedArray, most: int, path: Path) -> pa.ChunkedArray:
    """Texts that are read as indices into their distinct ones, each on its own.

    Raises InputError for more than `most` bytes of them: one long text may stand in every row of a small file.
    """
    lengths = [pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0 for chunk in column.chunks]
    if sum(lengths) > most:
        raise InputError(f"{path} has {sum(lengths):,} bytes of texts: more than the {most:,} that it may hold")
    return column.cast(pa.string())


def _tracks(table: pa.Table, name: str, mask: str, path: Path) -> Tracks:
    values = table[name]
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
    kinds = (pa.types.is_floating, pa.types.is_integer, _is_text, pa.types.is_boolean)
    plain = [field.name for field in table.schema if any(kind(field.type) for kind in kinds)]
    batches = table.select(plain).to_batches(max_chunksize=_BATCH)
    for number, cells in enumerate(cells for batch in batches for cells in batch.to_pylist()):
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
