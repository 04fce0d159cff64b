"""The MOSI reader on MMSA's copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.mosi import Mosi
from pipeline.utterance import Audio, Utterance, Video
from tests.manifests.mosi_files import (
    COLUMNS,
    OTHER_ORDER,
    TEST,
    TRAIN,
    clip,
    problems,
    scan,
    write_mmsa,
)

# --- MMSA's copy -----------------------------------------------------------------------------------------------


def test_a_row_of_the_copy_is_a_clip_with_its_own_sound(tmp_path: Path) -> None:
    assert Mosi().scan(write_mmsa(tmp_path)) == [
        Utterance(
            id="03bSnISJMiM_0001",
            dialogue=TRAIN,
            turn=1,
            text="A LOT OF SAD PARTS",
            audio=(Audio(path="Raw/03bSnISJMiM/0001.mp4"),),
            video=(Video(path="Raw/03bSnISJMiM/0001.mp4"),),
            split="train",
            labels={"sentiment": -0.5, "annotation": "Negative"},
        )
    ]


def test_columns_are_found_by_name_whatever_their_order(tmp_path: Path) -> None:
    orders = [COLUMNS, OTHER_ORDER, tuple(reversed(COLUMNS))]
    rows = [Mosi().scan(write_mmsa(tmp_path / str(n) / "MOSI", columns=order)) for n, order in enumerate(orders)]
    assert rows[0] == rows[1] == rows[2]


def test_a_clips_leading_zeros_are_part_of_its_name(tmp_path: Path) -> None:
    rows = scan(write_mmsa(tmp_path, [clip(number="0001"), clip(number="1"), clip(number="10")]))
    assert {name: row.turn for name, row in rows.items()} == {f"{TRAIN}_0001": 1, f"{TRAIN}_1": 1, f"{TRAIN}_10": 10}
    assert [row.video[0].path for row in rows.values() if row.video][0] == "Raw/03bSnISJMiM/0001.mp4"


@pytest.mark.parametrize("text", ["NA", "null", "nan", "N/A", "123", "a, b\nc"])
def test_a_text_is_never_taken_for_an_unknown_value_or_a_number(tmp_path: Path, text: str) -> None:
    (row,) = Mosi().scan(write_mmsa(tmp_path, [clip(text=text)]))
    assert row.text == text


@pytest.mark.parametrize(("mode", "split"), [("train", "train"), ("valid", "valid"), ("validation", "valid")])
def test_the_mode_is_the_split_and_validation_is_valid(tmp_path: Path, mode: str, split: str) -> None:
    (row,) = Mosi().scan(write_mmsa(tmp_path, [clip("somebody", mode=mode)]))
    assert row.split == split


def test_labels_of_single_modalities_are_kept_where_they_are_filled(tmp_path: Path) -> None:
    full = clip(number="2", label_T="0.2", label_A="-1", label_V="0")
    blank, filled = Mosi().scan(write_mmsa(tmp_path, [clip(), full]))
    assert not {"label_T", "label_A", "label_V"} & set(blank.labels)
    assert (filled.labels["label_T"], filled.labels["label_A"], filled.labels["label_V"]) == (0.2, -1.0, 0.0)


def test_a_mode_other_than_the_published_part_of_the_video_is_refused(tmp_path: Path) -> None:
    rows = [clip(TRAIN, mode="test"), clip(TEST, mode="test"), clip("new", mode="train"), clip("new", "2", "valid")]
    message = problems(write_mmsa(tmp_path, rows))
    assert [line.split(": ")[0] for line in message.splitlines()] == ["label.csv:2", "label.csv:5"]


def test_a_headerless_table_is_told_which_columns_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text("video_0001,0001,text,0.5,,,,Positive,train\n")
    assert "label.csv:1: no column 'video_id'" in problems(tmp_path)


def test_every_malformed_row_of_the_copy_is_listed(tmp_path: Path) -> None:
    wrong = [{"label": "4"}, {"label": "good"}, {"clip_id": "x"}, {"video_id": ".."}, {"mode": "dev"}, {"mode": ""}]
    rows = [clip("v", str(n)) | cells for n, cells in enumerate([*wrong, {"clip_id": "../1"}])]
    message = problems(write_mmsa(tmp_path, rows))
    assert {line.split(": ")[0] for line in message.splitlines()} == {f"label.csv:{n}" for n in range(2, 9)}
