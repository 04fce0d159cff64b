"""Reads the file of a table, CSV or Parquet, as cells of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from pipeline.errors import InputError
from pipeline.text_file import read_text

ROWS = 10_000
"""So many rows are texts of Python at once; the others are held by Arrow, in a tenth of the memory."""


@dataclass(frozen=True)
class Cells:
    """The cells of a table as text, "" for an unknown value. columns: their names, as the file has them.

    parts: the places of some rows in the file, and their cells by column.
    """

    columns: Sequence[str]
    parts: Sequence[tuple[pa.StringArray, pa.RecordBatch]]

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Cells:
        """Cells of rows that each come as a place and a cell for each column."""
        rows, parts = iter(rows), []
        while part := list(islice(rows, ROWS)):
            places, cells = zip(*part, strict=True)
            texts = dict(zip(columns, map(_texts, zip(*cells, strict=True)), strict=True))
            parts.append((_texts(places), pa.RecordBatch.from_arrays([*texts.values()], [*texts])))
        return cls(columns, parts)

    def __iter__(self) -> Iterator[tuple[str, dict[str, str]]]:
        """The place of each row in the file, and its cells by column."""
        for places, part in self.parts:
            columns = [column.to_pylist() for column in part.columns]
            for place, cells in zip(places.to_pylist(), zip(*columns, strict=True), strict=True):
                yield place, dict(zip(part.schema.names, cells, strict=True))

    @property
    def places(self) -> Iterator[str]:
        """The place of each row in the file."""
        return (place for places, _ in self.parts for place in places.to_pylist())

    def column(self, name: str) -> Iterator[str]:
        """The cells of a column, "" for each row if there is no such column."""
        for _, part in self.parts:
            yield from part[name].to_pylist() if name in part.schema.names else [""] * len(part)


def _texts(cells: Sequence[str]) -> pa.StringArray:
    """The cells as `pa.array` would hold them, which imports pandas: half a second and fifty megabytes."""
    encoded = [cell.encode() for cell in cells]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(cells), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def read(file: Path, encoding: str = "utf-8") -> Cells:
    """Reads a CSV or Parquet table. encoding: that of a CSV.

    Raises InputError if it is neither, if it is damaged, and for a column of Parquet that holds no text and no numbers.
    """
    suffix = file.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise InputError(f"{file} is neither .csv nor .parquet")
    if suffix == ".csv":
        return _separated(file, encoding)
    try:
        table = pq.read_table(file)
        return Cells.of(table.column_names, _written(file, table))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} can't be read: {error}") from error


def _separated(file: Path, encoding: str) -> Cells:
    text = read_text(file, encoding, file.name)
    records = _records(file, csv.reader(io.StringIO(text, newline=""), strict=True))
    _, columns = next(records, (1, []))
    return Cells.of(columns, _whole_rows(file, columns, records))


def _whole_rows(
    file: Path, columns: Sequence[str], records: Iterable[tuple[int, list[str]]]
) -> Iterator[tuple[str, list[str]]]:
    """Each row with its place. Raises one InputError that lists the rows with too many or too few cells."""
    ragged = []
    for line, cells in records:
        if len(cells) == len(columns):
            yield str(line), cells
        else:
            ragged.append(f"{file.name}:{line}: {len(cells)} cells, {len(columns)} columns")
    if ragged:
        raise InputError("\n".join(ragged))


def _records(file: Path, lines: Any) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not empty, with the line where it begins; a quoted cell may go on over several lines."""
    while True:
        first = lines.line_num + 1
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            message = f"{file.name}:{first}: a quote in this row is not closed where its cell ends: {error}"
            raise InputError(message) from error
        if cells:
            yield first, cells


def _written(file: Path, table: pa.Table) -> Iterator[tuple[str, list[str]]]:
    """Each row of a Parquet table with its place."""
    writers = [_writer(file, field) for field in table.schema]
    rows = (row for part in table.to_batches(ROWS) for row in zip(*map(pa.Array.to_pylist, part.columns), strict=True))
    for n, row in enumerate(rows, start=1):
        try:
            yield f"row {n}", [write(value) for write, value in zip(writers, row, strict=True)]
        except UnicodeDecodeError as error:
            raise InputError(f"{file.name}:row {n}: bytes that are not UTF-8: {error}") from error


def _writer(file: Path, field: pa.Field) -> Callable[[Any], str]:
    """How a value of a column is written in a cell. Words are joined; of a file with its path, the path is taken."""
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return lambda value: "" if value is None else value.decode()
    if types.is_list(kind) and _is_text(kind.value_type):
        return lambda words: " ".join(word for word in words or () if word)
    if types.is_struct(kind) and "path" in kind.names:
        return lambda value: (value or {}).get("path") or ""
    if types.is_nested(kind):
        raise InputError(f"{file.name}: column {field.name!r} holds {field.type}, not text or numbers")
    return lambda value: "" if value is None or value != value else str(value)


def _is_text(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))
