"""The MELD reader: which tables and clips it finds and takes, how it reads them, its labels, folds and known clips."""

from __future__ import annotations

import csv
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests._meld import FOLDERS, KNOWN, TABLES
from manifests.meld import EMOTIONS, SENTIMENTS, Meld
from pipeline.corpus import manifest
from pipeline.corpus.recipe_file import read_recipe
from pipeline.errors import InputError
from pipeline.media.audio import decode
from pipeline.stage import Waveform
from pipeline.utterance import MISSING, Utterance
from stages.audio_mfcc import AudioMfcc

COLUMNS = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
)
RECIPE = Path(__file__).parents[2] / "manifests" / "meld.toml"


def line(dialogue: int = 0, utterance: int = 0, **cells: object) -> dict[str, str]:
    """A row of a table; spaces in names of columns are written as underscores."""
    row: dict[str, object] = {
        "Sr No.": 7,
        "Utterance": "Could this be any shorter?",
        "Speaker": "Chandler",
        "Emotion": "joy",
        "Sentiment": "positive",
        "Dialogue_ID": dialogue,
        "Utterance_ID": utterance,
        "Season": 8,
        "Episode": 3,
        "StartTime": "0:01:02,500",
        "EndTime": "00:01:04,750",
    }
    return {name: str(value) for name, value in (row | cells).items()}


def write_table(file: Path, rows: Iterable[dict[str, str]], encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding=encoding, newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    return file


def write_tables(folder: Path, **rows: Sequence[dict[str, str]]) -> Path:
    """The three tables beside each other; a part that isn't given has one row."""
    for part, name in TABLES.items():
        write_table(folder / name, rows.get(part, [line()]))
    return folder


def write_clips(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"a clip")
    return folder


def scan(root: Path, **options: Any) -> dict[str, Utterance]:
    return {row.id: row for row in Meld(**options).scan(root)}


def path(row: Utterance) -> str:
    assert row.audio is not None and row.video is not None and row.audio.path == row.video.path
    return row.audio.path


# --- where tables and clips lie --------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", "data/MELD", "a/deep/place"])
def test_tables_are_found_by_name_at_any_depth(tmp_path: Path, folder: str) -> None:
    write_tables(tmp_path / folder)
    assert [*scan(tmp_path)] == ["train_dia0_utt0", "dev_dia0_utt0", "test_dia0_utt0"]


def test_tables_of_the_tar_are_found_although_that_of_train_lies_apart(tmp_path: Path) -> None:
    write_tables(tmp_path / "MELD.Raw")
    (tmp_path / "MELD.Raw/train").mkdir()
    (tmp_path / "MELD.Raw/train_sent_emo.csv").rename(tmp_path / "MELD.Raw/train/train_sent_emo.csv")
    assert len(scan(tmp_path)) == 3


@pytest.mark.parametrize(("git", "tar"), [("repository/data/MELD", "."), ("MELD/data/MELD", "MELD.Raw"), ("z", "a")])
def test_the_tables_of_the_git_repository_are_taken_before_those_of_the_tar(tmp_path: Path, git: str, tar: str) -> None:
    for folder, text in ((git, "git"), (tar, "tar")):
        write_tables(tmp_path / folder, **{part: [line(Utterance=text)] for part in TABLES})
    (tmp_path / tar / "train").mkdir()
    (tmp_path / tar / "train_sent_emo.csv").rename(tmp_path / tar / "train/train_sent_emo.csv")
    assert {row.text for row in scan(tmp_path).values()} == {"git"}


def test_the_tables_of_the_git_repository_are_taken_before_nearer_ones_that_lie_together_too(tmp_path: Path) -> None:
    for folder, text in (("MELD/data/MELD", "git"), (".", "moved")):
        write_tables(tmp_path / folder, **{part: [line(Utterance=text)] for part in TABLES})
    assert {row.text for row in scan(tmp_path).values()} == {"git"}


def test_of_equal_copies_the_nearest_is_taken_then_the_first_by_name(tmp_path: Path) -> None:
    for folder in ("a/b", "d", "c"):
        write_tables(tmp_path / folder, **{part: [line(Utterance=folder)] for part in TABLES})
    assert {row.text for row in scan(tmp_path).values()} == {"c"}


@pytest.mark.parametrize("absent", TABLES)
def test_a_table_that_is_absent_is_named(tmp_path: Path, absent: str) -> None:
    (write_tables(tmp_path) / TABLES[absent]).unlink()
    with pytest.raises(InputError, match=rf"^no {absent}_sent_emo\.csv found") as caught:
        Meld().scan(tmp_path)
    assert "declare-lab/MELD" in str(caught.value)


@pytest.mark.parametrize("above", ["", "train", "MELD.Raw/train"])
def test_folders_of_clips_are_found_by_name_at_any_depth(tmp_path: Path, above: str) -> None:
    write_tables(tmp_path)
    folder = write_clips(tmp_path / above / "train_splits", "dia0_utt0.mp4")
    assert tmp_path / path(scan(tmp_path)["train_dia0_utt0"]) == folder / "dia0_utt0.mp4"


def test_audio_and_video_are_the_whole_of_the_utterances_own_clip(tmp_path: Path) -> None:
    rows = scan(write_tables(tmp_path, dev=[line(12, 3)]))
    row = rows["dev_dia12_utt3"]
    assert path(row) == "dev_splits_complete/dia12_utt3.mp4"
    assert row.audio is not None and (row.audio.start_s, row.audio.end_s, row.audio.channel) == (None, None, None)
    assert row.video is not None and (row.video.start_s, row.video.end_s, row.video.crop) == (None, None, None)


def test_a_missing_clip_keeps_its_row_and_is_referred_to_where_it_ought_to_be(tmp_path: Path) -> None:
    write_tables(tmp_path, dev=[line(110, 6), line(110, 7)])
    write_clips(tmp_path / "MELD.Raw/dev_splits_complete", "dia110_utt6.mp4")
    built = manifest.build(Meld(), tmp_path, tmp_path / "memory")
    dev = {row.id: row for row in built.rows if row.split == "valid"}
    assert path(dev["dev_dia110_utt7"]) == "MELD.Raw/dev_splits_complete/dia110_utt7.mp4"
    assert [row.audio.digest == MISSING for row in dev.values() if row.audio] == [False, True]


def test_a_part_without_a_folder_of_clips_is_referred_to_below_the_root(tmp_path: Path) -> None:
    rows = scan(write_tables(tmp_path))
    assert {path(row) for row in rows.values()} == {f"{folder}/dia0_utt0.mp4" for folder in FOLDERS.values()}


def test_where_two_folders_have_the_name_each_clip_is_taken_from_the_first_that_has_it(tmp_path: Path) -> None:
    write_tables(tmp_path, train=[line(0, n) for n in range(4)])
    write_clips(tmp_path / "raw/train_splits", "dia0_utt0.mp4", "dia0_utt1.mp4")
    write_clips(tmp_path / "wav/train_splits", "dia0_utt0.wav", "dia0_utt1.mp4", "dia0_utt2.mp4")
    found = [path(row) for row in scan(tmp_path).values() if row.split == "train"]
    assert [name.partition("/")[0] for name in found] == ["raw", "raw", "wav", "wav"]


def test_clips_without_a_row_are_ignored(tmp_path: Path) -> None:
    write_tables(tmp_path)
    write_clips(tmp_path / "dev_splits_complete", "dia49_utt4.mp4", "dia66_utt10.mp4")
    write_clips(tmp_path / "output_repeated_splits_test", "dia108_utt2.mp4", "final_videos_testdia101_utt0.mp4")
    assert len(scan(tmp_path)) == 3


def test_apple_double_files_are_neither_tables_nor_clips(tmp_path: Path) -> None:
    write_tables(tmp_path / "deep/er")
    folder = write_clips(
        tmp_path / "output_repeated_splits_test", "._dia0_utt0.mp4", "._final_videos_testdia0_utt0.mp4"
    )
    (tmp_path / "._train_sent_emo.csv").write_bytes(b"\x00\x05\x16\x07")
    write_clips(tmp_path / "._x/train_splits", "dia0_utt0.mp4")
    rows = scan(tmp_path, final_videos_test="prefer")
    assert tmp_path / path(rows["test_dia0_utt0"]) == folder / "dia0_utt0.mp4"
    assert path(rows["train_dia0_utt0"]) == "train_splits/dia0_utt0.mp4"


def test_a_link_to_a_folder_of_clips_inside_the_root_is_followed(tmp_path: Path) -> None:
    write_tables(tmp_path / "tables")
    write_clips(tmp_path / "clips/of train", "dia0_utt0.mp4")
    (tmp_path / "tables/train_splits").symlink_to(tmp_path / "clips/of train", target_is_directory=True)
    assert path(scan(tmp_path)["train_dia0_utt0"]) == "tables/train_splits/dia0_utt0.mp4"


@pytest.mark.parametrize("name", ["train_splits", "test_sent_emo.csv"])
def test_a_link_that_leads_outside_the_root_is_refused(tmp_path: Path, name: str) -> None:
    elsewhere = write_tables(tmp_path / "elsewhere")
    write_clips(elsewhere / "train_splits", "dia0_utt0.mp4")
    root = write_tables(tmp_path / "root")
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(elsewhere / name)
    with pytest.raises(InputError, match=rf"{name} leads outside"):
        Meld().scan(root)


def test_a_clip_that_is_a_link_outside_the_root_is_no_row_of_a_manifest(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "root")
    (tmp_path / "secret").write_bytes(b"x")
    write_clips(root / "train_splits")
    (root / "train_splits/dia0_utt0.mp4").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=r"train_dia0_utt0: .* lies outside"):
        manifest.build(Meld(), root, tmp_path / "memory")


def test_links_that_go_round_in_circles_end(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "root")
    for name in (*FOLDERS.values(), "other"):
        (root / name).symlink_to(root, target_is_directory=True)
    assert len(scan(root)) == 3


def test_each_folder_is_listed_once_and_no_clip_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path, train=[line(0, n) for n in range(50)])
    write_clips(tmp_path / "train_splits", *(f"dia0_utt{n}.mp4" for n in range(25)))
    looked, listed = counted(monkeypatch, "stat"), counted(monkeypatch, "scandir")
    assert len(scan(tmp_path)) == 52
    assert listed == {str(tmp_path): 1, str(tmp_path / "train_splits"): 1}
    assert not [name for name in looked if name.endswith(".mp4")]


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> Counter[str]:
    """How often a function of `os` is called, by path."""
    calls: Counter[str] = Counter()
    real: Callable[..., Any] = getattr(os, name)

    def call(path: Any, *rest: Any, **options: Any) -> Any:
        calls[str(path)] += 1
        return real(path, *rest, **options)

    monkeypatch.setattr(os, name, call)
    return calls


# --- second files of test clips --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "files"),
    [
        ("ignore", {0: "dia108_utt0.mp4", 1: "dia108_utt1.mp4"}),
        ("prefer", {0: "final_videos_testdia108_utt0.mp4", 1: "dia108_utt1.mp4"}),
    ],
)
def test_the_option_says_which_of_two_files_is_used_and_the_row_says_which_it_was(
    tmp_path: Path, option: str, files: dict[int, str]
) -> None:
    write_tables(tmp_path, test=[line(108, 0), line(108, 1)])
    names = ("dia108_utt0.mp4", "dia108_utt1.mp4", "final_videos_testdia108_utt0.mp4")
    write_clips(tmp_path / "output_repeated_splits_test", *names)
    rows = scan(tmp_path, final_videos_test=option)
    for utterance, name in files.items():
        row = rows[f"test_dia108_utt{utterance}"]
        assert path(row) == f"output_repeated_splits_test/{name}" and row.labels["file"] == name


def test_only_test_clips_have_second_files(tmp_path: Path) -> None:
    write_tables(tmp_path)
    write_clips(tmp_path / "train_splits", "dia0_utt0.mp4", "final_videos_testdia0_utt0.mp4")
    assert scan(tmp_path, final_videos_test="prefer")["train_dia0_utt0"].labels["file"] == "dia0_utt0.mp4"


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
    assert row.audio is not None and row.audio.end_s is None


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
    assert row.audio is not None and (row.audio.start_s, row.audio.end_s) == (None, 60.0)
    assert row.video is not None and (row.video.start_s, row.video.end_s) == (None, 60.0)
    assert (row.end_s, row.labels["windowed_s"]) == (304.94, 304.94)
    assert "windowed_s" not in rows["test_dia38_utt5"].labels


@pytest.mark.parametrize(("limit", "end_s"), [(2.25, None), (2.0, 2.0), (100.0, None)])
def test_only_what_exceeds_the_limit_is_cut(tmp_path: Path, limit: float, end_s: float | None) -> None:
    row = scan(write_tables(tmp_path), max_duration_s=limit)["train_dia0_utt0"]
    assert row.audio is not None and row.audio.end_s == end_s
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
    assert row.audio is not None
    (wave,) = decode(row.audio, root / row.audio.path, [AudioMfcc()])
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


# --- options, labels, folds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final_videos_test": "prefered"}, "did you mean prefer"),
        ({"group": "episodes"}, "did you mean episode"),
        ({"max_duration_s": 0.0}, "not a length"),
        ({"max_duration_s": float("inf")}, "not a length"),
        ({"max_duration_s": float("nan")}, "not a length"),
    ],
)
def test_an_option_of_another_value_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Meld(**options)


@pytest.mark.parametrize(
    ("protocol", "annotation", "label"),
    [
        ("emotion", "neutral", 0),
        ("emotion", "surprise", 1),
        ("emotion", "anger", 6),
        ("sentiment", "neutral", 0),
        ("sentiment", "positive", 1),
        ("sentiment", "negative", 2),
        ("sentiment", None, None),
    ],
)
def test_labels_are_indices_in_the_order_that_others_publish(
    protocol: str, annotation: str | None, label: int | None
) -> None:
    labels = {} if annotation is None else {protocol: annotation}
    assert Meld().protocol(protocol).of(Utterance(id="u", dialogue="d", turn=0, labels=labels)) == label


def test_expected_counts_add_up_to_the_published_totals() -> None:
    for name, classes in (("emotion", EMOTIONS), ("sentiment", SENTIMENTS)):
        counts = Meld.expected[name]
        assert [counts[part] for part in ("train", "valid", "test")] == [9989, 1109, 2610]
        assert sum(counts[each] for each in classes) == 13708
        assert all(counts[each] == sum(counts[f"{p}/{each}"] for p in ("train", "valid", "test")) for each in classes)


def corpus() -> list[Utterance]:
    """Sixty dialogues, two of each episode in different parts, three utterances each."""
    return [
        Utterance(id=f"{s}_dia{d}_utt{n}", dialogue=f"{s}_dia{d}", turn=n, split=s, session=f"s01e{d % 30:02}")
        for d in range(60)
        for s in [("train", "train", "valid", "test")[d // 15]]
        for n in range(3)
    ]


def test_the_official_fold_is_the_published_split() -> None:
    rows = corpus()
    (fold,) = Meld().folds(rows, "official")
    parts = {"train": fold.train, "valid": fold.valid, "test": fold.test}
    assert all(set(ids) == {row.id for row in rows if row.split == name} for name, ids in parts.items())


def test_the_official_fold_needs_rows_of_each_part() -> None:
    with pytest.raises(InputError, match="none of valid"):
        Meld().folds([row for row in corpus() if row.split != "valid"], "official")


@pytest.mark.parametrize("group", ["dialogue", "episode"])
def test_cross_validation_has_five_folds_that_share_no_group_with_their_test_part(group: Any) -> None:
    rows = corpus()
    of = {row.id: row.dialogue if group == "dialogue" else row.session for row in rows}
    folds = Meld(group=group).folds(rows, "cv")
    assert len(folds) == 5
    assert sorted(name for fold in folds for name in fold.test) == sorted(of)
    for fold in folds:
        assert not {of[name] for name in fold.test} & {of[name] for name in (*fold.train, *fold.valid)}


def test_folds_by_dialogue_part_episodes_and_folds_by_episode_do_not() -> None:
    episode = {row.id: row.session for row in corpus()}

    def shared(group: Any) -> bool:
        folds = Meld(group=group).folds(corpus(), "cv")
        return any({episode[i] for i in f.test} & {episode[i] for i in f.train} for f in folds)

    assert shared("dialogue") and not shared("episode")


@pytest.mark.parametrize("ask", [lambda: Meld().protocol("emotions"), lambda: Meld().folds(corpus(), "offical")])
def test_an_unknown_protocol_names_the_closest(ask: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=r"did you mean (emotion|official)"):
        ask()


def test_the_recipe_has_the_papers_sizes_for_meld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD2VEC", str(tmp_path / "vectors.bin"))
    recipe = read_recipe(RECIPE, root=str(tmp_path), memory=tmp_path / "memory", home=tmp_path / "home")
    hjcag = recipe.features["hjcag"]
    assert {name: view.align.length for name, view in hjcag.items()} == {"text": 30, "audio": 30, "visual": 30}
    assert (recipe.train["hjcag"]["audio_dim"], recipe.train["hjcag"]["batch_size"]) == (300, 100)


# --- the real tables -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(kit: Path) -> list[Utterance]:
    if not (kit / "meld").is_dir():
        pytest.skip("no MELD tables in the real-data kit")
    return Meld().scan(kit / "meld")


def test_the_real_tables_have_the_published_rows_and_dialogues(real: list[Utterance]) -> None:
    assert Counter(row.split for row in real) == {"train": 9989, "valid": 1109, "test": 2610}
    assert len({row.id for row in real}) == 13708
    parts = {row.dialogue: row.split for row in real}
    assert Counter(parts.values()) == {"train": 1038, "valid": 114, "test": 280}


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("train", (4710, 1205, 268, 683, 1743, 271, 1109)),
        ("valid", (470, 150, 40, 111, 163, 22, 153)),
        ("test", (1256, 281, 50, 208, 402, 68, 345)),
    ],
)
def test_the_real_tables_have_the_published_classes(real: list[Utterance], split: str, counts: tuple[int, ...]) -> None:
    emotions = Counter(row.labels["emotion"] for row in real if row.split == split)
    assert tuple(emotions[name] for name in EMOTIONS) == counts


@pytest.mark.parametrize("protocol", ["emotion", "sentiment"])
def test_the_real_tables_have_every_count_the_reader_expects(real: list[Utterance], protocol: str) -> None:
    found = Counter(str(row.labels[protocol]) for row in real) + Counter(str(row.split) for row in real)
    found += Counter(f"{row.split}/{row.labels[protocol]}" for row in real)
    assert found == Meld.expected[protocol]


def test_the_three_real_ends_of_two_digits_are_decimal_fractions(real: list[Utterance]) -> None:
    ends = {row.id: row.end_s for row in real}
    names = ("train_dia437_utt2", "test_dia187_utt2", "test_dia233_utt8")
    assert [ends[name] for name in names] == [407.28, 311.82, 701.41]


def lengths(rows: Sequence[Utterance]) -> dict[str, float]:
    times = {row.id: (row.start_s, row.end_s) for row in rows}
    return {
        name: round(end - start, 6) for name, (start, end) in times.items() if start is not None and end is not None
    }


def test_no_real_length_is_negative_one_is_zero_and_those_up_to_a_tenth_of_a_second_are_known(
    real: list[Utterance],
) -> None:
    found = lengths(real)
    assert len(found) == 13708 and min(found.values()) == 0.0
    assert [name for name, length in found.items() if length == 0.0] == ["test_dia155_utt3"]
    short = {name for name, report in KNOWN.items() if "long" in report}
    assert {name for name, length in found.items() if length <= 0.1} == short


def test_the_two_real_clips_over_a_minute_are_windowed(real: list[Utterance]) -> None:
    windowed = {row.id: row.labels["windowed_s"] for row in real if "windowed_s" in row.labels}
    assert windowed == {"test_dia38_utt4": 304.94, "test_dia220_utt0": 235.068}


def test_every_known_clip_is_one_of_the_real_rows(real: list[Utterance]) -> None:
    assert {row.id for row in real if "known" in row.labels} == KNOWN.keys()


def test_real_texts_keep_their_curly_quotes(real: list[Utterance]) -> None:
    assert sum(str(row.text).count("\u2019") for row in real if row.split == "train") == 3547


def test_real_dialogues_lie_in_one_episode_each(real: list[Utterance]) -> None:
    assert max(Counter(dialogue for dialogue, _ in {(row.dialogue, row.session) for row in real}).values()) == 1


def test_real_folds_by_dialogue_are_of_nearly_equal_size(real: list[Utterance]) -> None:
    sizes = [len(fold.test) for fold in Meld().folds(real, "cv")]
    assert len(sizes) == 5 and max(sizes) - min(sizes) <= 2


def test_the_real_tables_are_scanned_within_seconds_with_every_clip_in_place(kit: Path, tmp_path: Path) -> None:
    rows = Meld().scan(kit / "meld")
    for name in TABLES.values():
        (tmp_path / name).write_bytes((kit / "meld" / name).read_bytes())
    for folder in FOLDERS.values():
        (tmp_path / "MELD.Raw" / folder).mkdir(parents=True)
    for row in rows:
        (tmp_path / "MELD.Raw" / path(row)).touch()
    began = time.perf_counter()
    again = Meld().scan(tmp_path)
    assert time.perf_counter() - began < 10.0
    assert [replace(row, audio=None, video=None) for row in again] == [
        replace(row, audio=None, video=None) for row in rows
    ]
    assert {path(row).rpartition("/")[0] for row in again} == {f"MELD.Raw/{folder}" for folder in FOLDERS.values()}
