"""Parquet files that others wrote are read, and small ones that unpack to very much are refused unread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.formats import parquet

ROWS = 3000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Utterances of three steps of two numbers, with texts, classes and numbers."""
    values = [[[6.0 * row + 2 * step, 6.0 * row + 2 * step + 1] for step in range(3)] for row in range(ROWS)]
    return pa.table(
        {
            "id": [f"u{number}" for number in range(ROWS)],
            "text": [f"words of number {number}" for number in range(ROWS)],
            "mood": ["low" if number % 2 else "high" for number in range(ROWS)],
            "label": [number % 3 for number in range(ROWS)],
            "audio_features": pa.array(
                [[list(step) for step in row] for row in values], pa.list_(pa.list_(pa.float32()))
            ),
        }
    )


WRITERS: dict[str, Callable[[pa.Table, Path], Any]] = {
    "pyarrow": pq.write_table,
    "pyarrow, pages of the second version": lambda t, p: pq.write_table(
        t, p, data_page_version="2.0", use_dictionary=False, column_encoding={"id": "DELTA_LENGTH_BYTE_ARRAY"}
    ),
    "pandas": lambda t, p: t.to_pandas().to_parquet(p),
    "polars": lambda t, p: polars.DataFrame(t).write_parquet(p),
    "duckdb": lambda t, p: duckdb.from_arrow(t).write_parquet(str(p)),
    "duckdb, the second version": lambda t, p: duckdb.execute(
        f"copy (select * from t) to '{p}' (format parquet, parquet_version v2)"
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_every_writer_makes_of_a_table_is_read_alike(table: pa.Table, tmp_path: Path, writer: str) -> None:
    WRITERS[writer](table, tmp_path / "x.parquet")
    content = parquet.read(tmp_path / "x.parquet")
    row, steps = content.rows[5], content.of("audio", "u5")
    assert (row.id, row.text, row.labels) == ("u5", "words of number 5", {"mood": "low", "label": 2})
    assert steps is not None and steps.values.tolist() == [[30, 31], [32, 33], [34, 35]]
    assert len(content.rows) == ROWS


def _zeros(count: int) -> pa.Array:
    return pa.array([np.zeros(count, np.float32)])


def _repeated(text: str, rows: int) -> pa.Array:
    """A column with one text in every row, which a file holds once, and so does this."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


BOMBS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a hundred megabytes of zeros": (
        lambda: {"id": ["u"], "audio_features": _zeros(1 << 25)},
        "unpacks to more than",
    ),
    "a long text in every row": (
        lambda: {"id": _repeated("a" * 100_000, 20_000), "audio_features": [[1.0]] * 20_000},
        "2,000,000,000 bytes of texts",
    ),
    "more utterances than any corpus has": (
        lambda: {"id": _repeated("a", parquet.MOST_ROWS + 1)},
        r"says it has 2,000,001 rows",
    ),
    "texts in place of features": (lambda: {"id": ["u"], "audio_features": [["x"]]}, "expected lists of numbers"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_that_unpacks_to_very_much_is_refused(tmp_path: Path, kind: str) -> None:
    make, message = BOMBS[kind]
    pq.write_table(pa.table(make()), tmp_path / "x.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "x.parquet").stat().st_size < 10_000
    with pytest.raises(InputError, match=message):
        parquet.read(tmp_path / "x.parquet")
