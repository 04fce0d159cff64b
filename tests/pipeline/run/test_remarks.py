"""Remarks come to the record of the row they are on, stay with it, and never reach an object or a key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.cache.record import Record
from pipeline.media.child import Child
from pipeline.remark import Kind, Remark
from pipeline.run.stage_calls import here, in_child
from pipeline.stage import Item
from stages.text_word2vec import TextWord2vec
from tests.clips import Clips, of, write_vectors

CNN_SET = """
[features.words.text]
stage = "text_cnn"
epochs = 1
channels = 2
input.text_word2vec = { vectors = "$PLACE/words.txt" }
align = { mode = "pad", length = 8 }
"""
TEXTS = ["waa wab", "waa xx yy wac", "so waa", "xx so", "wab waa so", "so yy"]
UNKNOWN = {"u1": "2/4", "u3": "1/2", "u5": "1/2"}


@pytest.fixture
def spoken(tmp_path: Path) -> Clips:
    """Six utterances of three dialogues, with words that have no vector in three of them."""
    write_vectors(tmp_path / "words.txt")
    splits = ("train", "valid", "test")
    lines = [
        {"utterance": f"u{n}", "dialogue": f"d{n // 2}", "turn": n % 2, "split": splits[n // 2], "text": text}
        | {"mood": ("low", "high")[n % 2]}
        for n, text in enumerate(TEXTS)
    ]
    return of(tmp_path, lines, CNN_SET)


def records(clips: Clips, stage: str) -> list[Record]:
    [rows] = [rows for rows in clips.session().catalogue if rows.node.name == stage]
    return [record for shard in rows.shards if (record := rows.final(shard))]


def remarks(clips: Clips, stage: str) -> dict[str, str]:
    """What the records of a stage say of unknown words."""
    found: dict[str, str] = {}
    for record in records(clips, stage):
        found |= record.remarks.get("unknown_words", {})
    return found


def test_a_remark_is_in_the_record_of_its_row_and_in_no_object(spoken: Clips) -> None:
    spoken.extract()
    assert remarks(spoken, "text_word2vec") == UNKNOWN
    stored = [path.read_bytes() for path in (spoken.home / "cache" / "objects").glob("*/*")]
    assert stored and not any(b"unknown_words" in raw for raw in stored)


def test_the_row_of_a_stage_does_not_repeat_the_remarks_of_a_stage_that_it_reads(spoken: Clips) -> None:
    spoken.extract()
    assert all(record.remarks == {} for record in records(spoken, "text_cnn"))


def test_a_remark_goes_with_a_row_that_is_copied_into_another_shard(spoken: Clips) -> None:
    spoken.extract()
    spoken.line("u2")["text"] = "waa so waa"
    spoken.extract()
    assert spoken.count("copied")["text_word2vec"] and remarks(spoken, "text_word2vec") == UNKNOWN


def test_a_remark_comes_out_of_a_child_process(spoken: Clips) -> None:
    [rows] = [rows for rows in spoken.session().catalogue if rows.node.name == "text_word2vec"]
    items = [Item("u1", {"text": TEXTS[1]})]
    with Child() as child:
        [apart] = in_child(child, rows.node, "cpu", None).transform(items)
    [track] = here(rows.node, "cpu", None).transform(items)
    assert apart.remarks == track.remarks == (Remark(Kind.UNKNOWN_WORDS, 2, 4),)


def test_a_remark_decides_no_key_and_no_byte_of_an_object(spoken: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken.extract()
    before = {(record.key, record.object) for record in records(spoken, "text_word2vec")}
    transform = TextWord2vec.transform

    def silent(self: TextWord2vec, *args: object) -> list[object]:
        return [dataclasses.replace(track, remarks=()) for track in transform(self, *args)]  # type: ignore[arg-type]

    monkeypatch.setattr(TextWord2vec, "transform", silent)
    spoken.home = spoken.home.with_name("another")
    spoken.extract()
    assert remarks(spoken, "text_word2vec") == {}
    assert {(record.key, record.object) for record in records(spoken, "text_word2vec")} == before


def test_a_row_without_any_known_word_has_its_reason_and_its_remark(spoken: Clips) -> None:
    spoken.line("u5")["text"] = "xx yy zz"
    spoken.extract()
    assert spoken.failed()["text"] == {"u5": "nothing_valid"}
    assert remarks(spoken, "text_word2vec")["u5"] == "3/3"
