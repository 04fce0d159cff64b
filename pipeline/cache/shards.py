"""Shards: which rows are stored in one file, and its form in Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.cache.keys import digest
from pipeline.cache.parquet_pages import Bounds, open_parquet
from pipeline.errors import InputError
from pipeline.reason import Reason
from pipeline.stage import Spec, Track

TYPICAL, LEAST, MOST = 64, 16, 256
"""The number of rows in a shard: about, at least as a rule, and at most."""
RECIPE = b"affectory"
"""The key of a shard's recipe in the metadata of its schema."""
LARGEST = 1 << 32
"""The most bytes that a shard may unpack to: 256 utterances of 1,024 steps of 4,096 dimensions in float32."""
LARGEST_TEXTS = 1 << 20
"""The most bytes of the distinct texts in a column: ids and reasons."""
BOUNDS = Bounds(MOST, bytes=1 << 28, ratio=1000, most=LARGEST, texts=LARGEST_TEXTS)
"""What a shard may hold: one that is mostly the same number may be small, but not for any number of values."""


class Grouped(Protocol):
    """A row, as far as `cut` reads it."""

    @property
    def dialogue(self) -> str:
        """The dialogue that the row belongs to."""

    @property
    def split(self) -> str | None:
        """The corpus's own split."""


R = TypeVar("R", bound=Grouped)


def cut(rows: Sequence[R]) -> list[list[R]]:
    """Cuts rows, which are in manifest order, into shards at the ends of dialogues.

    Whether a shard ends with a dialogue depends on the name and size of that dialogue alone, so that a new row changes
    the shard it is put into and leaves the others byte for byte. A shard has rows of one of the corpus's splits only.
    """
    shards: list[list[R]] = []
    by_split = sorted(rows, key=lambda r: r.split or "")
    for _, part in groupby(by_split, key=lambda r: r.split or ""):
        shards += _cut_split(list(part))
    return shards


def _cut_split(rows: list[R]) -> list[list[R]]:
    shards: list[list[R]] = []
    unfinished: list[R] = []
    for name, group in groupby(rows, key=lambda r: r.dialogue):
        dialogue = list(group)
        if unfinished and len(unfinished) + len(dialogue) > MOST:
            shards.append(unfinished)
            unfinished = []
        unfinished = unfinished + dialogue
        while len(unfinished) > MOST:
            shards.append(unfinished[:MOST])
            unfinished = unfinished[MOST:]
        if len(unfinished) >= LEAST and _ends_shard(name, len(dialogue)):
            shards.append(unfinished)
            unfinished = []
    return shards + ([unfinished] if unfinished else [])


def _ends_shard(dialogue: str, size: int) -> bool:
    return int(digest("cut", dialogue)[:8], 16) / 2**32 < size / TYPICAL


def to_table(ids: Sequence[str], row_keys: Sequence[str], tracks: Sequence[Track], spec: Spec, recipe: Any) -> pa.Table:
    """A shard as a table of one row for each utterance; a failed one has a reason and no values.

    recipe: everything that the rows' keys are made of. It becomes JSON in the schema's metadata, beside the Spec.
    """
    numbers = pa.float16() if spec.dtype == "float16" else pa.float32()
    columns = {
        "utterance": pa.array(ids, pa.string()),
        "row_key": pa.array([bytes.fromhex(key) for key in row_keys], pa.binary(32)),
        "frames": pa.array([0 if t.values is None else len(t.values) for t in tracks], pa.int32()),
        "values": _lists([t.values for t in tracks], numbers, spec.dtype),
        "time_s": _lists([t.time_s for t in tracks], pa.float32(), "float32"),
        "valid": _lists([t.valid for t in tracks], pa.bool_(), "bool"),
        "reason": pa.array([t.reason and t.reason.value for t in tracks], pa.string()),
    }
    about = {"recipe": recipe, "dim": spec.dim, "dtype": spec.dtype, "tolerance": spec.tolerance, "names": spec.names}
    return pa.table(columns).replace_schema_metadata({RECIPE: json.dumps(about)})


def _lists(arrays: Sequence[NDArray[Any] | None], kind: pa.DataType, dtype: str) -> pa.Array:
    sizes = [0 if a is None else a.size for a in arrays]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    flat = [np.asarray(a, dtype).ravel() for a in arrays if a is not None]
    values = pa.array(np.concatenate(flat) if flat else np.zeros(0, dtype), kind)
    nulls = pa.array([a is None for a in arrays])
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=nulls)


def write(table: pa.Table, path: Path) -> None:
    """Writes a shard as Parquet with zstd. Dictionaries of floats would make reading ten times slower."""
    pq.write_table(table, path, compression="zstd", use_dictionary=["reason"], store_schema=True)


def open_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A shard, or some of its columns.

    The file may come from another machine, so what it decodes to is counted before anything is decoded. Raises
    InputError if the file is no shard, or would unpack to more than any shard does.
    """
    try:
        file = open_parquet(path, BOUNDS)
        _check(file, path)
        table = file.read(columns=None if columns is None else list(columns))
        table.validate(full=True)  # texts are UTF-8, and lists are where they say
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError, InputError) as error:  # the third: in a column's name
        raise InputError(f"{path} is no shard: {error}") from error


def _check(file: pq.ParquetFile, path: Path) -> None:
    schema = file.schema_arrow
    if [*zip(schema.names, schema.types, strict=True)] not in _SCHEMAS or RECIPE not in (schema.metadata or {}):
        raise InputError(f"{path} has not the columns of a shard: {schema.names}")
    _form(schema)


def _form(schema: pa.Schema) -> About:
    """The schema's metadata. Raises InputError if they are not those of a shard."""
    try:
        return About.model_validate_json(schema.metadata[RECIPE])
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"its recipe is wrong: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _columns(numbers: pa.DataType) -> list[tuple[str, pa.DataType]]:
    lists = [("values", numbers), ("time_s", pa.float32()), ("valid", pa.bool_())]
    return [
        ("utterance", pa.string()),
        ("row_key", pa.binary(32)),
        ("frames", pa.int32()),
        *((name, pa.list_(pa.field("element", kind))) for name, kind in lists),
        ("reason", pa.string()),
    ]


_SCHEMAS = [_columns(pa.float32()), _columns(pa.float16())]


class About(BaseModel):
    """The schema's metadata, as far as this version reads them."""

    model_config = ConfigDict(strict=True, extra="ignore")
    recipe: dict[str, Any]
    dim: int = Field(ge=1, le=1 << 20)
    dtype: Literal["float32", "float16"]
    tolerance: float = Field(ge=0, allow_inf_nan=False)
    names: list[str]


def check(table: pa.Table, stage: str, rows: Sequence[tuple[str, str]] | None = None) -> None:
    """Raises InputError for a table that is not the shard that its record promises; it may be of another machine.

    It has to be of the stage of this digest and, if given, of exactly these rows: id and key, in order. Every row has
    either a reason or T x D values with T flags and T times or none, and valid steps are finite.
    """
    form = _form(table.schema)
    if form.recipe.get("digest") != stage:
        raise InputError(f"it is of the stage {str(form.recipe.get('digest'))[:12]}, not of {stage[:12]}")
    if form.names and len(form.names) != form.dim:
        raise InputError(f"it names {len(form.names)} of {form.dim} dimensions")
    if rows is not None and table["utterance"].to_pylist() != [name for name, _ in rows]:
        raise InputError("it holds other utterances")
    keys = table["row_key"].to_pylist() if "row_key" in table.column_names else []
    if None in keys or (keys and rows is not None and [key.hex() for key in keys] != [key for _, key in rows]):
        raise InputError("it holds other rows")
    if "values" in table.column_names:
        _check_values(table.combine_chunks(), form.dim)


def _check_values(table: pa.Table, dim: int) -> None:
    """Raises InputError if a row has neither a reason nor tracks of one length, or a valid step that is not finite."""
    reasons = table["reason"].to_pylist()
    if table["frames"].null_count:
        raise InputError("it has a row without a number of frames")
    frames, failed = table["frames"].to_numpy(), np.array([reason is not None for reason in reasons])
    lists = {name: _Lists(table[name]) for name in ("values", "valid", "time_s")}
    steps = {name: np.where(part.null, -1, np.diff(part.offsets)) for name, part in lists.items()}
    sound = (frames >= 0) & (steps["values"] == frames.astype(np.int64) * dim)
    for name in ("valid", "time_s"):
        sound &= (steps[name] == frames) | (steps[name] == -1)
    if not np.where(failed, (frames == 0) & (steps["values"] <= 0), sound).all():
        raise InputError(f"it has a row that is no track of {dim} dimensions")
    if any(chunk.values.null_count for name in lists for chunk in table[name].chunks):
        raise InputError("it has a step without a number")
    valid = np.ones(int(frames.sum()), bool)
    valid[np.repeat(steps["valid"] >= 0, frames)] = lists["valid"].all
    if not np.isfinite(lists["values"].all.reshape(-1, dim)).all(axis=1)[valid].all():
        raise InputError("it has a valid step that is not finite")


def about(table: pa.Table) -> Mapping[str, Any]:
    """The schema's metadata: recipe, dim, dtype, tolerance, and names of the dimensions."""
    metadata: Mapping[str, Any] = json.loads(table.schema.metadata[RECIPE])
    return metadata


def read(table: pa.Table) -> Iterator[tuple[str, str, Track]]:
    """(utterance, row key, track) of each row. Values, [T, D], are views into the table's memory."""
    dim = about(table)["dim"]
    table = table.combine_chunks()
    values, times, valid = (_Lists(table[name]) for name in ("values", "time_s", "valid"))
    reasons = table["reason"].to_pylist()
    keys, ids = table["row_key"].to_pylist(), table["utterance"].to_pylist()
    for i, (name, key) in enumerate(zip(ids, keys, strict=True)):
        if reasons[i] is not None:
            yield name, key.hex(), Track.failed(Reason(reasons[i]))
            continue
        block = values[i]
        steps = None if block is None else block.reshape(-1, dim)  # [T * D] -> [T, D]
        yield name, key.hex(), Track(steps, times[i], valid[i])


class _Lists:
    """The rows of a list column as numpy arrays; numbers are not copied."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        self.offsets = array.offsets.to_numpy()
        self.flat = array.values.to_numpy(zero_copy_only=False)
        self.null = array.is_null().to_numpy(zero_copy_only=False)

    @property
    def all(self) -> NDArray[Any]:
        """The elements of all rows, one row after the other."""
        elements: NDArray[Any] = self.flat[self.offsets[0] : self.offsets[-1]] if len(self.offsets) else self.flat
        return elements

    def __getitem__(self, i: int) -> NDArray[Any] | None:
        if self.null[i]:
            return None
        row: NDArray[Any] = self.flat[self.offsets[i] : self.offsets[i + 1]]
        return row
