"""Small Parquet files that decode to very much are refused before anything is decoded, whatever their footer says."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cache import parquet_pages, shards
from pipeline.cache.parquet_pages import Bounds, open_parquet
from pipeline.cache.states import load_state
from pipeline.corpus import pulled_manifest
from pipeline.errors import InputError
from pipeline.utterance import Utterance, to_table

BOUNDS = Bounds(1000, bytes=1 << 20, ratio=100, most=1 << 30, texts=1 << 18)


def floats(path, rows=1, length=1 << 20, **options):
    """Lists of zeros."""
    table = pa.table({"x": pa.array([np.zeros(length, np.float32)] * rows)})
    pq.write_table(table, path, compression="zstd", **options)


BOMBS = {
    "a dictionary of one number": partial(floats, use_dictionary=True),
    "plain zeros": partial(floats, use_dictionary=False),
    "zeros in pages of the second version": partial(floats, data_page_version="2.0"),
    "many small pages": partial(floats, use_dictionary=True, data_page_size=1 << 10),
    "many groups of rows": partial(floats, rows=16, length=1 << 16, row_group_size=1),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_of_many_values_is_refused(tmp_path, kind):
    path = tmp_path / "x.parquet"
    BOMBS[kind](path)
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match="unpacks to more than"):
        open_parquet(path, BOUNDS)


def test_a_footer_that_says_one_value_where_the_page_holds_a_million_hides_nothing(tmp_path):
    path = tmp_path / "x.parquet"
    floats(path, use_dictionary=True, data_page_size=1 << 30)
    raw = path.read_bytes()
    start = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    million, one = b"\x80\x80\x80\x01", b"\x82\x80\x80\x00"  # numbers of Thrift, twice their value
    assert million in raw[start:]
    path.write_bytes(raw[:start] + raw[start:].replace(million, one))
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).num_values == 1
    with pytest.raises(InputError, match="unpacks to more than"):
        open_parquet(path, BOUNDS)


def test_a_sound_file_is_read(tmp_path):
    path = tmp_path / "x.parquet"
    floats(path, rows=3, length=1000)
    assert open_parquet(path, BOUNDS).read()["x"].to_pylist() == [[0.0] * 1000] * 3


def test_a_footer_of_megabytes_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata({"a": "x" * (1 << 21)}), path)
    monkeypatch.setattr(parquet_pages.pq, "ParquetFile", lambda *given, **options: pytest.fail("it was read"))
    with pytest.raises(InputError, match="its footer would have"):
        open_parquet(path, BOUNDS)


def test_of_another_writer_texts_may_follow_their_lengths(tmp_path):
    path, bounds = tmp_path / "x.parquet", replace(BOUNDS, foreign=True)
    pq.write_table(pa.table({"x": ["a", "b"]}), path, use_dictionary=False, column_encoding="DELTA_LENGTH_BYTE_ARRAY")
    assert open_parquet(path, bounds).read()["x"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_texts_that_are_parts_of_each_other_are_refused(tmp_path, encoding):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": ["a" * 1000] * 900}), path, use_dictionary=False, column_encoding=encoding)
    with pytest.raises(InputError, match="a page that none of ours is like"):
        open_parquet(path, BOUNDS)


@pytest.mark.parametrize("place", ["text", "label", "path"])
def test_one_long_text_in_every_row_of_a_manifest_is_refused(tmp_path, place):
    long, rows = "a" * 100_000, [Utterance(id=f"u{i}", dialogue="d", turn=i, text="x") for i in range(2000)]
    table = to_table(rows)
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), pa.array([long]))
    if place == "path":
        paths = pa.StructArray.from_arrays([column.cast(pa.string())], ["path"])
        lists = pa.ListArray.from_arrays(pa.array(np.arange(len(rows) + 1, dtype=np.int32)), paths)
        filled = lists.cast(table.schema.field("audio").type)
        table = table.set_column(table.column_names.index("audio"), table.schema.field("audio"), filled)
    elif place == "text":
        table = table.set_column(table.column_names.index("text"), "text", column.cast(pa.string()))
    else:
        table = table.append_column("label.emotion", column.cast(pa.string()))
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 60_000
    with pytest.raises(InputError, match="its texts are too long"):
        pulled_manifest._table(path)


def test_texts_that_are_no_utf_8_are_refused(tmp_path):
    table = to_table([Utterance(id="u", dialogue="d", turn=0, text="x")])
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    table = table.set_column(table.column_names.index("text"), "text", broken)
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="(?i)utf"):
        pulled_manifest._table(tmp_path / "x.parquet")


COUNTED = """
import sys, pathlib, pyarrow
from pipeline.cache.parquet_pages import Bounds, open_parquet
try:
    open_parquet(pathlib.Path(sys.argv[1]), Bounds(1000, bytes=1 << 20, ratio=100, most=1 << 30, texts=1 << 18)).read()
except (pyarrow.ArrowException, OSError) as error:
    print(error)
"""


def test_statistics_that_contradict_the_schema_end_no_process(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1.0]}), path)
    optional, required = b"\x25\x02\x18\x01x", b"\x25\x00\x18\x01x"  # the repetition and the name of the column
    raw = path.read_bytes()
    assert raw.count(optional) == 1
    path.write_bytes(raw.replace(optional, required))
    ended = subprocess.run([sys.executable, "-c", COUNTED, path], capture_output=True, text=True)
    assert ended.returncode == 0 and "histogram size mismatch" in ended.stdout, ended.stderr


@pytest.mark.parametrize("kind", [b"\x11", b"\x15\x02", b"\x18\x01a"])
def test_a_field_of_a_footer_that_is_of_another_type_is_refused(kind):
    """Field 4, the groups of rows, is a flag, a number or a text."""
    footer = bytes([kind[0] & 15 | 0x40]) + kind[1:] + b"\x00"
    with pytest.raises(InputError, match="a field has another type"):
        parquet_pages._chunks(footer, 1)


@pytest.mark.parametrize("raw", [b"", b"PAR1", bytes(range(100)), b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_no_shard_and_no_state(tmp_path, raw):
    (tmp_path / "x").write_bytes(raw)
    for read in (shards.open_table, load_state):
        with pytest.raises(InputError):
            read(tmp_path / "x")


def test_a_state_with_a_header_of_megabytes_is_refused_unread(tmp_path):
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write((1 << 26).to_bytes(8, "little"))
        file.truncate(1 << 27)
    with pytest.raises(InputError, match="its header would have"):
        load_state(path)
