"""The MELD reader finds its tables and clips, wherever they lie, and takes the right ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifests._meld import FOLDERS, TABLES
from manifests.meld import Meld
from pipeline.corpus import manifest
from pipeline.dialogue import Dialogues
from pipeline.errors import InputError
from pipeline.utterance import MISSING
from tests.manifests.meld_files import line, path, scan, write_clips, write_tables

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


def test_turns_are_in_the_order_of_utterance_ids_and_start_anew_in_each_part(tmp_path: Path) -> None:
    times = {2: "0:00:09,000", 10: "0:00:01,000", 9: "0:00:05,000"}
    lines = [line(0, number, StartTime=time, EndTime="0:00:20,000") for number, time in times.items()]
    write_tables(tmp_path, train=lines, dev=lines)
    dialogues = Dialogues(scan(tmp_path).values())
    assert [row.id for row in dialogues.before("train_dia0_utt10", 5)] == ["train_dia0_utt2", "train_dia0_utt9"]
    assert [row.id for row in dialogues.before("dev_dia0_utt9", 5)] == ["dev_dia0_utt2"]


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
    assert row.audio and (row.audio[0].start_s, row.audio[0].end_s, row.audio[0].channel) == (None, None, None)
    assert row.video and (row.video[0].start_s, row.video[0].end_s, row.video[0].crop) == (None, None, None)


def test_a_missing_clip_keeps_its_row_and_is_referred_to_where_it_ought_to_be(tmp_path: Path) -> None:
    write_tables(tmp_path, dev=[line(110, 6), line(110, 7)])
    write_clips(tmp_path / "MELD.Raw/dev_splits_complete", "dia110_utt6.mp4")
    built = manifest.build(Meld(), tmp_path, tmp_path / "memory")
    dev = {row.id: row for row in built.rows if row.split == "valid"}
    assert path(dev["dev_dia110_utt7"]) == "MELD.Raw/dev_splits_complete/dia110_utt7.mp4"
    assert [row.audio[0].digest == MISSING for row in dev.values() if row.audio] == [False, True]


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
    with pytest.raises(InputError, match=r"train_dia0_utt0: .* is outside"):
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
