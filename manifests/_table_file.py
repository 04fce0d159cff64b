"""Reads the file of a table, CSV or Parquet, as cells of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from pipeline.errors import InputError
from pipeline.text_file import read_text

Cells = tuple[list[str], list[tuple[str, dict[str, str]]]]
"""The names of the columns, and for each row its place in the file and its cells by column, "" for an unknown one."""


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
        return _parquet(file, pq.read_table(file))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} can't be read: {error}") from error


def _separated(file: Path, encoding: str) -> Cells:
    text = read_text(file, encoding, file.name)
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    rows, ragged = [], []
    for line, cells in _records(file, lines):
        if not columns:
            columns = cells
            continue
        rows.append((str(line), dict(zip(columns, cells, strict=False))))
        if len(cells) != len(columns):
            ragged.append(f"{file.name}:{line}: {len(cells)} cells, {len(columns)} columns")
    if ragged:
        raise InputError("\n".join(ragged))
    return columns, rows


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


def _parquet(file: Path, table: pa.Table) -> Cells:
    writers = [_writer(file, field) for field in table.schema]
    rows = []
    for n, row in enumerate(table.to_pylist(), start=1):
        try:
            rows.append((f"row {n}", {name: write(row[name]) for name, write in zip(row, writers, strict=True)}))
        except UnicodeDecodeError as error:
            raise InputError(f"{file.name}:row {n}: bytes that are not UTF-8: {error}") from error
    return table.column_names, rows


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
