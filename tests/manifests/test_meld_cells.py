"""The MELD reader reads the cells of its tables, cuts clips that are too long, and marks those known to be bad."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from manifests._meld import KNOWN
from manifests.meld import Meld
from pipeline.corpus import manifest
from pipeline.errors import InputError
from pipeline.media.audio import decode
from pipeline.stage import Waveform
from stages.audio_mfcc import AudioMfcc
from tests.manifests.meld_files import COLUMNS, line, path, scan, write_table, write_tables

# --- the cells -------------------------------------------------------------------------------------------------


def test_a_key_is_part_dialogue_and_utterance_since_numbers_start_anew_in_each(tmp_path: Path) -> None:
    rows = scan(write_tables(tmp_path, train=[line(0, 3)], dev=[line(0, 3)], test=[line(0, 3)]))
    assert [(row.id, row.dialogue, row.turn, row.split) for row in rows.values()] == [
        ("train_dia0_utt3", "train_dia0", 3, "train"),
        ("dev_dia0_utt3", "dev_dia0", 3, "valid"),
        ("test_dia0_utt3", "test_dia0", 3, "test"),
    ]


def test_annotations_hold_labels_season_episode_number_and_file(tmp_path: Path) -> None:
    row = scan(write_tables(tmp_path))["train_dia0_utt0"]
    assert (row.speaker, row.session) == ("Chandler", "s08e03")
    assert row.labels == {
        "emotion": "joy",
        "sentiment": "positive",
        "season": 8,
        "episode": 3,
        "sr_no": 7,
        "file": "dia0_utt0.mp4",
    }


def test_numbers_of_rows_may_repeat_since_they_are_no_key(tmp_path: Path) -> None:
    rows = scan(write_tables(tmp_path, train=[line(0, 0), line(0, 1)]))
    assert [row.labels["sr_no"] for row in rows.values()] == [7, 7, 7, 7]


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    write_tables(tmp_path, train=[line(0, 0), line(0, 0)])
    with pytest.raises(InputError, match="train_dia0_utt0: 2 rows"):
        manifest.build(Meld(), tmp_path, tmp_path / "memory")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("0:16:16,059", 976.059),
        ("00:16:16,059", 976.059),
        ("1:00:00,000", 3600.0),
        ("00:06:47,28", 407.28),
        ("00:05:11,8", 311.8),
    ],
)
def test_digits_after_the_comma_are_a_decimal_fraction(tmp_path: Path, cell: str, expected: float) -> None:
    rows = scan(write_tables(tmp_path, train=[line(StartTime="0:00:00,000", EndTime=cell)]))
    assert rows["train_dia0_utt0"].end_s == expected


def test_an_utterance_of_no_length_is_a_row_of_a_manifest(tmp_path: Path) -> None:
    write_tables(tmp_path, test=[line(155, 3, StartTime="0:00:41,000", EndTime="00:00:41,000")])
    rows = {row.id: row for row in manifest.build(Meld(), tmp_path, tmp_path / "memory").rows}
    row = rows["test_dia155_utt3"]
    assert row.start_s == row.end_s == 41.0
    assert row.audio and row.audio[0].end_s is None


def test_text_keeps_its_typography_and_spaces(tmp_path: Path) -> None:
    text = "I’m—  “so” fine…"
    assert scan(write_tables(tmp_path, train=[line(Utterance=text)]))["train_dia0_utt0"].text == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_tables_may_have_a_mark_or_be_windows_1252(tmp_path: Path, encoding: str) -> None:
    write_tables(tmp_path)
    write_table(tmp_path / "train_sent_emo.csv", [line(Utterance="I’m at the café—")], encoding)
    assert scan(tmp_path)["train_dia0_utt0"].text == "I’m at the café—"


@pytest.mark.parametrize("left", [b"\x92", b"\xc2\x92"])
def test_single_leftovers_of_windows_1252_in_utf8_become_what_they_meant(tmp_path: Path, left: bytes) -> None:
    file = write_tables(tmp_path, train=[line(Utterance="café it@s")]) / "train_sent_emo.csv"
    file.write_bytes(file.read_bytes().replace(b"@", left))
    assert scan(tmp_path)["train_dia0_utt0"].text == "café it’s"


def test_bytes_that_mean_nothing_cost_a_character_not_the_corpus(tmp_path: Path) -> None:
    file = write_tables(tmp_path, train=[line(Utterance="a@b")]) / "train_sent_emo.csv"
    file.write_bytes(file.read_bytes().replace(b"@", b"\x81"))
    assert scan(tmp_path)["train_dia0_utt0"].text == "a�b"


def test_every_malformed_row_of_every_table_is_listed_with_its_line(tmp_path: Path) -> None:
    wrong = [
        line(0, 0),
        line(0, 1, StartTime="62.5"),
        line(0, 2, Emotion="joyful"),
        line(0, 3, Dialogue_ID="x"),
        line(0, 4, Season=""),
    ]
    write_tables(tmp_path, train=wrong, test=[line(0, 0, EndTime="")])
    with pytest.raises(InputError) as caught:
        Meld().scan(tmp_path)
    assert [message.partition(" ")[0] for message in str(caught.value).splitlines()] == [
        *(f"train_sent_emo.csv:{n}:" for n in (3, 4, 5, 6)),
        "test_sent_emo.csv:2:",
    ]
    assert "did you mean joy?" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train_sent_emo.csv:1: no column 'Sr No.'"),
        ("Utterance,Speaker\n", "train_sent_emo.csv:1: no column 'EndTime'"),
        (",".join(COLUMNS) + "\n1,2,3\n", "train_sent_emo.csv:2: 3 cells, 11 columns"),
        (",".join(COLUMNS) + '\n"1\n', "train_sent_emo.csv can't be read"),
    ],
)
def test_a_table_of_another_shape_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (write_tables(tmp_path) / "train_sent_emo.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        Meld().scan(tmp_path)
    assert message in str(caught.value)


# --- clips that are too long, and those known to be bad --------------------------------------------------------


def test_a_wrong_cut_is_used_up_to_the_limit_and_says_so(tmp_path: Path) -> None:
    long = line(38, 4, StartTime="0:00:00,000", EndTime="0:05:04,940")
    rows = scan(write_tables(tmp_path, test=[long, line(38, 5)]))
    row = rows["test_dia38_utt4"]
    assert row.audio and (row.audio[0].start_s, row.audio[0].end_s) == (None, 60.0)
    assert row.video and (row.video[0].start_s, row.video[0].end_s) == (None, 60.0)
    assert (row.end_s, row.labels["windowed_s"]) == (304.94, 304.94)
    assert "windowed_s" not in rows["test_dia38_utt5"].labels


@pytest.mark.parametrize(("limit", "end_s"), [(2.25, None), (2.0, 2.0), (100.0, None)])
def test_only_what_exceeds_the_limit_is_cut(tmp_path: Path, limit: float, end_s: float | None) -> None:
    row = scan(write_tables(tmp_path), max_duration_s=limit)["train_dia0_utt0"]
    assert row.audio and row.audio[0].end_s == end_s
    assert ("windowed_s" in row.labels) == (end_s is not None)


def test_of_a_real_file_of_five_minutes_one_is_decoded(kit: Path, tmp_path: Path) -> None:
    write_tables(tmp_path, test=[line(38, 4, StartTime="0:00:00,000", EndTime="0:05:04,940")])
    wave = decoded(tmp_path, kit / "bad/20_305s_meld_dia38_utt4_like.mp4", "test_dia38_utt4")
    assert len(wave.samples) == 60 * wave.rate_hz


def test_in_a_real_file_of_six_channels_the_centre_is_heard(kit: Path, tmp_path: Path) -> None:
    write_tables(tmp_path)
    wave = decoded(tmp_path, kit / "bad/12_48khz_5.1_speech_in_center_only.mp4", "test_dia0_utt0")
    assert np.sqrt(np.square(wave.samples).mean()) > 0.01


def decoded(root: Path, file: Path, name: str) -> Waveform:
    """The sound of an utterance of the corpus at `root` whose clip is a copy of `file`."""
    row = scan(root)[name]
    (root / path(row)).parent.mkdir(parents=True)
    shutil.copy(file, root / path(row))
    assert row.audio
    (wave,) = decode(row.audio, root, [AudioMfcc()])
    return wave


def test_what_is_known_of_a_clip_is_an_annotation_and_drops_no_row(tmp_path: Path) -> None:
    rows = scan(write_tables(tmp_path, train=[line(125, 3), line(125, 4)], dev=[line(125, 3)]))
    assert rows["train_dia125_utt3"].labels["known"] == "moov atom missing, MELD#39, MELD#52"
    assert [name for name, row in rows.items() if "known" in row.labels] == ["train_dia125_utt3"]


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("dev_dia110_utt7", "no clip in the release"),
        ("train_dia125_utt3", "moov atom missing"),
        *((name, "wrongly cut") for name in ("train_dia309_utt0", "test_dia38_utt4", "test_dia220_utt0")),
        *((name, "about 0.1 s long") for name in ("train_dia71_utt0", "train_dia523_utt10", "dev_dia108_utt5")),
        ("test_dia155_utt3", "less than 10 ms"),
        ("train_dia241_utt2", "out of step"),
    ],
)
def test_the_known_bad_clips_are_on_record(name: str, report: str) -> None:
    assert report in KNOWN[name]
