"""Shards: which rows stand together, and what a Parquet file keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cache import shards
from pipeline.errors import InputError
from pipeline.reason import Reason
from pipeline.stage import Spec, Track


@dataclass(frozen=True)
class Row:
    id: str
    dialogue: str
    split: str | None = None


def corpus(sizes, splits=(None,)):
    return [Row(f"d{d:04}-{i}", f"d{d:04}", splits[d % len(splits)]) for d, n in enumerate(sizes) for i in range(n)]


@given(st.lists(st.integers(1, 300), max_size=60))
def test_cutting_loses_no_row_and_keeps_their_order(sizes):
    rows = corpus(sizes)
    assert [row for shard in shards.cut(rows) for row in shard] == rows


@given(st.lists(st.integers(1, 300), max_size=60))
def test_no_shard_is_larger_than_256_rows_and_only_the_last_smaller_than_16(sizes):
    cut = shards.cut(corpus(sizes))
    assert all(len(shard) <= shards.MOST for shard in cut)
    whole = [shard for shard in cut[:-1] if shard[-1].dialogue != cut[cut.index(shard) + 1][0].dialogue]
    assert all(len(shard) >= shards.LEAST or _squeezed(shard, cut) for shard in whole)


def _squeezed(shard, cut):
    following = cut[cut.index(shard) + 1]
    return len(shard) + sum(row.dialogue == following[0].dialogue for s in cut for row in s) > shards.MOST


@given(st.lists(st.integers(1, 40), max_size=60))
def test_a_shard_never_spans_two_splits(sizes):
    for shard in shards.cut(corpus(sizes, splits=("train", "test"))):
        assert len({row.split for row in shard}) == 1


def test_shards_hold_about_64_rows():
    for size in (1, 10, 66):
        cut = shards.cut(corpus([size] * (20_000 // size)))
        assert 40 <= 20_000 / len(cut) <= 110


def test_an_insertion_moves_few_shards():
    rows = corpus([12] * 400)
    before = {tuple(shard) for shard in shards.cut(rows)}
    moved = []
    for at in range(0, len(rows), 97):
        inserted = [*rows[: at + 1], Row("new", rows[at].dialogue), *rows[at + 1 :]]
        moved.append(len({tuple(shard) for shard in shards.cut(inserted)} - before))
    assert max(moved) <= 3 and sum(moved) / len(moved) < 1.5


def tracks(dtype):
    values = np.arange(12, dtype=dtype).reshape(4, 3)
    valid = np.array([True, False, True, True])
    return [Track.of(values, np.arange(4) / 2, valid), Track.failed(Reason.TOO_SHORT), Track.of(values[:1])]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_shard_comes_back_as_it_was_written(tmp_path, dtype):
    made = tracks(dtype)
    table = shards.to_table(["a", "b", "c"], ["0" * 64, "1" * 64, "2" * 64], made, Spec(3, dtype=dtype), {"stage": "x"})
    shards.write(table, tmp_path / "x.parquet")
    found = list(shards.read(pq.read_table(tmp_path / "x.parquet")))
    assert [(name, key[0]) for name, key, _ in found] == [("a", "0"), ("b", "1"), ("c", "2")]
    for (_, _, got), want in zip(found, made, strict=True):
        assert got.reason == want.reason
        for part in ("values", "time_s", "valid"):
            np.testing.assert_array_equal(getattr(got, part), getattr(want, part))


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        table = shards.to_table(["u"], ["0" * 64], tracks("float32")[:1], Spec(3), {"stage": "x"})
        shards.write(table, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_pandas_and_duckdb_open_a_shard_without_us(tmp_path):
    import duckdb
    import pandas as pd

    path = tmp_path / "x.parquet"
    keys = ["0" * 64, "1" * 64, "2" * 64]
    shards.write(shards.to_table(["a", "b", "c"], keys, tracks("float32"), Spec(3), {"stage": "x"}), path)
    frame = pd.read_parquet(path)
    assert frame["reason"].tolist()[1] == "too_short" and len(frame["values"][0]) == 12
    total = duckdb.sql(f"select sum(frames) from '{path}'").fetchall()
    assert total == [(5,)]


# --- files that unpack to far more than they are -----------------------------------------------------------------


def bomb(path, steps=1, name="a", **options):
    """Writes a shard of one row with so many equal values."""
    values = pa.ListArray.from_arrays(pa.array([0, steps], pa.int32()), pa.array(np.zeros(steps, np.float32)))
    table = shards.to_table([name], ["0" * 64], [Track.of(np.zeros((1, 1), np.float32))], Spec(1), {"stage": "x"})
    table = table.set_column(3, table.schema.field("values"), values.cast(table.schema.field("values").type))
    pq.write_table(table, path, compression="zstd", **options)


def test_a_value_that_is_stored_once_and_stands_for_millions_counts_as_millions(tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    bomb(path, 1 << 22, use_dictionary=True, data_page_size=1 << 30)
    assert path.stat().st_size < 10_000
    assert len(shards.open_table(path)["values"][0]) == 1 << 22
    monkeypatch.setattr(shards, "BOUNDS", replace(shards.BOUNDS, bytes=1 << 23))
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *given, **options: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match="unpacks to more than"):
        shards.open_table(path)


def test_a_text_of_megabytes_is_no_id(tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    bomb(path, name="a" * (1 << 21))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *given, **options: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match="unpacks to more than"):
        shards.open_table(path)
