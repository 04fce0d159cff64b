"""The file of a table: what it is not is told with file, line or column, and nothing is replaced silently."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from manifests.table import Table
from pipeline.errors import InputError


def scan(root: Path, text: str):
    (root / "utterances.csv").write_text(text, encoding="utf-8")
    return Table().scan(root)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"utterance,text\na,x\nb,caf\xe9\n", r"utterances\.csv:3: not utf-8; it is likely cp1252"),
        ("utterance,text\na,我们很高兴\n".encode("gb18030"), r"utterances\.csv:2: not utf-8; it is likely gb18030"),
        ("utterance,text\na,x\n".encode("utf-16"), r"utterances\.csv:1: not utf-8; it is likely utf-16:"),
        ("utterance,text\na,x\n".encode("utf-16-le"), r"utterances\.csv:1: not utf-8; it is likely utf-16-le"),
        (b'utterance,text\na,x\nb,"open\nc,y\n', r"utterances\.csv:3: a quote in this row is not closed"),
        (b'utterance,text\na,"x"y\nb,z\n', r"utterances\.csv:2: a quote in this row is not closed"),
    ],
)
def test_a_csv_of_another_encoding_or_with_an_open_quote_is_told_with_its_line(tmp_path, data, expected):
    (tmp_path / "utterances.csv").write_bytes(data)
    with pytest.raises(InputError, match=expected):
        Table().scan(tmp_path)


@pytest.mark.parametrize(("encoding", "text"), [("cp1252", "café “so”"), ("gb18030", "我们很高兴"), ("utf-16", "é我")])
def test_the_option_encoding_reads_a_table_of_another_encoding(tmp_path, encoding, text):
    (tmp_path / "utterances.csv").write_bytes(f"utterance,text\na,{text}\n".encode(encoding))
    assert [row.text for row in Table(encoding=encoding).scan(tmp_path)] == [text]


def test_an_unknown_encoding_is_an_input_error(tmp_path):
    (tmp_path / "utterances.csv").write_bytes(b"utterance,text\na,x\n")
    with pytest.raises(InputError, match="no encoding 'utf-88'"):
        Table(encoding="utf-88").scan(tmp_path)


def test_the_suffix_of_a_table_may_be_in_capitals(tmp_path):
    (tmp_path / "CLIPS.CSV").write_bytes(b"utterance,text\na,x\n")
    assert [row.text for row in Table(file="CLIPS.CSV").scan(tmp_path)] == ["x"]


def test_an_absolute_path_inside_the_root_is_the_same_path_relative_to_it(tmp_path):
    (row,) = scan(tmp_path, f"utterance,audio\na,{tmp_path}/sub/a.wav\n")
    assert [stretch.path for stretch in row.audio] == ["sub/a.wav"]


@pytest.mark.parametrize("written", ["007", "1234567890123456789", "1e3", "0x10", "1_000", "+5", "٣"])
def test_a_column_with_a_code_is_text_although_float_would_read_it(tmp_path, written):
    rows = scan(tmp_path, f"utterance,text,code\na,x,{written}\nb,x,7\n")
    assert [row.labels["code"] for row in rows] == [written, "7"]


def test_a_column_of_plain_decimals_is_numbers(tmp_path):
    rows = scan(tmp_path, "utterance,text,score\na,x,-0.25\nb,x,12\nc,x,NaN\n")
    assert [row.labels.get("score") for row in rows] == [-0.25, 12.0, None]


def test_bytes_words_and_files_of_a_parquet_table_are_read_as_what_they_hold(tmp_path):
    columns = {
        "utterance": pa.array([b"a", b"b"]),
        "text": pa.array([["so", "good"], None]),
        "audio": pa.array([{"bytes": b"RIFF", "path": "a.wav"}, {"bytes": None, "path": None}]),
        "mood": pa.array(["low", "high"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "clips.parquet")
    first, second = Table(file="clips.parquet").scan(tmp_path)
    assert (first.id, first.text, first.labels) == ("a", "so good", {"mood": "low"})
    assert [stretch.path for stretch in first.audio] == ["a.wav"]
    assert (second.id, second.text, second.audio) == ("b", None, ())


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([[1.0, 2.0]]), r"clips\.parquet: column 'text' holds list<[a-z]+: double>"),
        (pa.array([{"a": 1}]), r"clips\.parquet: column 'text' holds struct<a: int64>"),
        (pa.array([b"\xff\xfe"]), r"clips\.parquet:row 1: bytes that are not UTF-8"),
    ],
)
def test_a_parquet_column_that_is_neither_text_nor_numbers_is_refused_by_name(tmp_path, column, expected):
    pq.write_table(pa.table({"utterance": ["a"], "text": column}), tmp_path / "clips.parquet")
    with pytest.raises(InputError, match=expected):
        Table(file="clips.parquet").scan(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_are_the_same_however_many_are_read_at_once(tmp_path, monkeypatch, suffix):
    cells = {"utterance": [*"abcde"], "dialogue": ["x"] * 5, "text": ["aa", "bb", "cc", "dd", "ee"], "note": [1] * 5}
    pq.write_table(pa.table(cells), tmp_path / "t.parquet")
    csv.write_csv(pa.table(cells), tmp_path / "t.csv")
    table = Table(file=f"t.{suffix}")
    whole = table.scan(tmp_path)
    monkeypatch.setattr("manifests._table_file.ROWS", 2)
    assert table.scan(tmp_path) == whole and [(row.id, row.turn, row.text) for row in whole][3] == ("d", 3, "dd")


def test_two_rows_of_one_id_are_told_also_if_they_are_far_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("manifests._table_file.ROWS", 2)
    with pytest.raises(InputError, match=r"^utterances.csv:6: utterance 'a' is already in utterances.csv:2$"):
        scan(tmp_path, "utterance,text\na,x\nb,x\nc,x\nd,x\na,x\n")
