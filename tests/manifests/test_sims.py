"""The readers of CH-SIMS and CH-SIMS v2.0: tables, Chinese texts, classes of sentiment, videos that the split cuts."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.ch_sims import ChSims
from manifests.ch_sims_v2 import ChSimsV2
from pipeline.errors import InputError
from pipeline.utterance import Utterance

HEAD = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\n"


def scan(root: Path, *lines: str, table: str = "label.csv", reader: ChSims | ChSimsV2 = ChSims()) -> list[Utterance]:
    root.mkdir(parents=True, exist_ok=True)
    (root / table).write_text(HEAD + "\n".join(lines), encoding="utf-8")
    return reader.scan(root)


def test_a_row_is_a_clip_with_its_chinese_text_and_a_sentiment_of_each_modality(tmp_path: Path) -> None:
    [row] = scan(tmp_path, "video_0001,0002,我不想嫁给李茶,-0.6,-0.2,0.0,-1.0,Negative,train")
    assert (row.id, row.dialogue, row.session, row.turn) == ("video_0001_0002", "video_0001", "video_0001", 2)
    assert (row.text, row.split, row.files("video")) == ("我不想嫁给李茶", "train", ["Raw/video_0001/0002.mp4"])
    labels = {name: ChSims().protocol(name).of(row) for name in ChSims.labels}
    assert labels == {
        "sentiment": -0.6,
        "sentiment2": 0,
        "sentiment3": 0,
        "sentiment5": 1,
        "text_sentiment": -0.2,
        "audio_sentiment": 0.0,
        "visual_sentiment": -1.0,
    }


@pytest.mark.parametrize(
    ("sentiment", "classes"),
    [
        ("-0.8", (0, 0, 0)),
        ("-0.2", (0, 0, 1)),
        ("0.0", (0, 1, 2)),
        ("0.2", (1, 2, 3)),
        ("0.6", (1, 2, 3)),
        ("1", (1, 2, 4)),
    ],
)
def test_classes_of_sentiment_are_those_of_acc_2_acc_3_and_acc_5(
    tmp_path: Path, sentiment: str, classes: tuple[int, ...]
) -> None:
    [row] = scan(tmp_path, f"v,1,好,{sentiment},,,,,test")
    assert tuple(ChSims().protocol(name).of(row) for name in ("sentiment2", "sentiment3", "sentiment5")) == classes


def test_zeros_that_a_table_lost_are_those_of_the_file(tmp_path: Path) -> None:
    [row] = scan(tmp_path, "aqgy3,7,好,0.2,,,,,valid", table="meta.csv", reader=ChSimsV2())
    assert (row.id, row.files("audio")) == ("aqgy3_0007", ["Raw/aqgy3/0007.mp4"])


def test_a_video_that_the_split_cuts_is_a_dialogue_in_each_part_and_whole_in_cross_validation(tmp_path: Path) -> None:
    parts = ("train", "valid", "test")
    rows = scan(tmp_path, *(f"v{video},{clip},好,0.2,,,,,{parts[clip % 3]}" for video in range(5) for clip in range(6)))
    [official] = ChSims().folds(rows, "official")
    assert {row.dialogue for row in rows if row.session == "v0"} == {"v0_train", "v0_valid", "v0_test"}
    assert len(official.train) == len(official.valid) == len(official.test) == 10
    video = {row.id: row.session for row in rows}
    for fold in ChSims().folds(rows, "cv"):
        assert fold.group == "session" and not {video[i] for i in fold.test} & {video[i] for i in fold.train}


def test_published_counts_of_two_and_three_classes_are_sums_of_those_of_five() -> None:
    expected = ChSims.expected
    assert expected["sentiment3"]["train/negative"] == 742 and expected["sentiment2"]["train/positive"] == 419
    assert sum(expected["sentiment"].values()) == 2281 and sum(ChSimsV2.expected["sentiment"].values()) == 4403


@pytest.mark.parametrize("reader", [ChSims, ChSimsV2])
@pytest.mark.parametrize("labels", ["sentiment2", "sentiment3", "sentiment5"])
def test_published_counts_of_classes_add_up_to_their_part(reader: type[ChSims | ChSimsV2], labels: str) -> None:
    counts = reader.expected[labels]
    for part in ("train", "valid", "test"):
        assert sum(count for name, count in counts.items() if name.startswith(f"{part}/")) == counts[part]


@pytest.mark.parametrize("folder", ["SIMS", "CH-SIMS", "sims"])
def test_the_folder_of_the_corpus_is_found_below_the_root(tmp_path: Path, folder: str) -> None:
    scan(tmp_path / folder, "v,1,好,0.2,,,,,test")
    scan(tmp_path / "SIMS_V2", "w,1,好,0.2,,,,,test")
    assert [row.files("video") for row in ChSims().scan(tmp_path)] == [[f"{folder}/Raw/v/0001.mp4"]]
    assert [row.files("video") for row in ChSimsV2().scan(tmp_path)] == [["SIMS_V2/Raw/w/0001.mp4"]]


def test_a_table_without_a_header_and_a_sentiment_beyond_the_scale_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"label.csv:2: label = 3 is not from -1 to 1"):
        scan(tmp_path, "v,1,好,3,,,,,test")
    (tmp_path / "label.csv").write_text("v,1,好,0.2,,,,,test", encoding="utf-8")
    with pytest.raises(InputError, match="no column 'video_id'"):
        ChSims().scan(tmp_path)
