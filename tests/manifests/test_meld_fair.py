"""MELD realigned by MELD-FAIR: which stretches of which clips are an utterance's, and where its speaker's face is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from manifests._meld import FACES, FAIR_TABLES, TIMES
from manifests.meld import NOT_REALIGNED
from pipeline.corpus.published import notes
from pipeline.errors import InputError
from pipeline.utterance import Audio, Utterance, Video
from tests.manifests.meld_files import line, scan, write_clips, write_fair, write_tables

RATE_HZ = 24000 / 1001
CLIPS = "train_splits"


def corpus(root: Path) -> Path:
    """Dialogue 0 of train with the utterances 0, 1 and 2."""
    write_tables(root, train=[line(0, number) for number in range(3)])
    write_clips(root / CLIPS, *(f"dia0_utt{number}.mp4" for number in range(3)))
    return root


def crops(row: Utterance) -> list[tuple[float, ...] | None]:
    return [stretch.crop for stretch in row.video]


# --- stretches -------------------------------------------------------------------------------------------------


def test_an_utterance_is_the_stretches_that_fair_names_in_their_order(tmp_path: Path) -> None:
    times = [("train", 0, 1, 0, 0, 2.5, 3.25), ("train", 0, 1, 0, 1, 0.0, 0.5), ("train", 0, 1, 0, 0, 0.125, 1)]
    write_fair(corpus(tmp_path) / "MELD-FAIR/csvs", times)
    cuts = [("dia0_utt0.mp4", 2.5, 3.25), ("dia0_utt1.mp4", 0.0, 0.5), ("dia0_utt0.mp4", 0.125, 1.0)]
    row = scan(tmp_path, realign="fair")["train_dia0_utt1"]
    assert row.audio == tuple(Audio(path=f"{CLIPS}/{name}", start_s=start, end_s=end) for name, start, end in cuts)
    assert row.video == tuple(Video(path=f"{CLIPS}/{name}", start_s=start, end_s=end) for name, start, end in cuts)


def test_fair_counts_utterances_by_their_start_and_its_tables_tell_melds_number(tmp_path: Path) -> None:
    numbers = {"train": [(0, 2, 0), (0, 0, 1), (0, 1, 2)]}
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, 2, 0.5, 1.0), ("train", 0, 2, 0, 2, 1.0, 1.5)], numbers=numbers)
    rows = scan(tmp_path, realign="fair")
    starts = {name: row.audio[0].start_s for name, row in rows.items() if row.dialogue == "train_dia0"}
    assert starts == {"train_dia0_utt0": None, "train_dia0_utt1": 1.0, "train_dia0_utt2": 0.5}


def test_an_utterance_that_fair_lacks_keeps_its_own_clip_and_a_remark(tmp_path: Path) -> None:
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, 0, 0.5, 1.0), ("train", 0, 1, 0, 0, 1.0, 1.5)])
    rows = scan(tmp_path, realign="fair")
    assert rows["train_dia0_utt2"].audio == scan(tmp_path)["train_dia0_utt2"].audio
    own = [name for name, note in notes(rows.values()) if note == NOT_REALIGNED]
    assert own == ["train_dia0_utt2", "dev_dia0_utt0", "test_dia0_utt0"]


def test_without_the_option_fairs_files_change_nothing(tmp_path: Path) -> None:
    before = scan(corpus(tmp_path))
    write_fair(tmp_path, [("train", 0, 0, 0, 0, 0.5, 1.0)])
    assert scan(tmp_path) == before


def test_a_clip_with_a_wrong_cut_is_used_where_fair_found_the_utterance_in_it(tmp_path: Path) -> None:
    write_tables(tmp_path, train=[line(EndTime="00:06:04,750")])
    write_fair(tmp_path, [("train", 0, 0, 0, 0, 214.5, 215.5)])
    row = scan(tmp_path, realign="fair")["train_dia0_utt0"]
    assert (row.audio[0].start_s, row.audio[0].end_s) == (214.5, 215.5) and "windowed_s" not in row.labels


# --- faces -----------------------------------------------------------------------------------------------------


def faces(frames: Sequence[int], box: Sequence[float], number: int = 0) -> list[Sequence[object]]:
    return [("train", 0, number, frame, *box) for frame in frames]


def test_a_stretch_is_cropped_to_the_median_of_its_boxes_and_is_whole_where_there_is_none(tmp_path: Path) -> None:
    times = [("train", 0, 0, 0, 0, 1.0, 2.001), ("train", 0, 0, 0, 1, 0.0, 1.001)]
    boxes = [*faces(range(10), (320, 180, 960, 540)), *faces([10], (330, 190, 970, 550))]
    write_fair(corpus(tmp_path), times, boxes)
    row = scan(tmp_path, realign="fair")["train_dia0_utt0"]
    assert crops(row) == [(0.25, 0.25, 0.5, 0.5), None]
    assert [stretch.path for stretch in row.video] == [stretch.path for stretch in row.audio]


def test_frames_are_counted_over_the_joined_stretches(tmp_path: Path) -> None:
    times = [("train", 0, 0, 0, 0, 1.0, 2.001), ("train", 0, 0, 0, 1, 0.0, 1.001)]
    write_fair(corpus(tmp_path), times, faces(range(24, 40), (0, 0, 640, 360)))
    assert crops(scan(tmp_path, realign="fair")["train_dia0_utt0"]) == [None, (0.0, 0.0, 0.5, 0.5)]


def test_a_stretch_is_cut_where_the_face_jumps_and_its_sound_is_not(tmp_path: Path) -> None:
    boxes = [*faces(range(24), (0, 0, 640, 360)), *faces(range(30, 48), (640, 360, 1280, 720))]
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, 0, 1.0, 3.002)], boxes)
    row = scan(tmp_path, realign="fair")["train_dia0_utt0"]
    jump_s = round(1.0 + 30 / RATE_HZ, 6)
    assert [(stretch.start_s, stretch.end_s) for stretch in row.video] == [(1.0, jump_s), (jump_s, 3.002)]
    assert crops(row) == [(0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)]
    assert [(stretch.start_s, stretch.end_s) for stretch in row.audio] == [(1.0, 3.002)]


def test_a_face_that_flickers_for_less_than_a_quarter_of_a_second_makes_no_cut(tmp_path: Path) -> None:
    boxes = [*faces(range(24), (0, 0, 640, 360)), *faces(range(24, 29), (640, 360, 1280, 720))]
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, 0, 1.0, 3.002)], boxes)
    assert crops(scan(tmp_path, realign="fair")["train_dia0_utt0"]) == [(0.0, 0.0, 0.5, 0.5)]


def test_a_face_that_walks_is_one_shot(tmp_path: Path) -> None:
    walk = [("train", 0, 0, frame, 20 * frame, 0, 20 * frame + 200, 200) for frame in range(48)]
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, 0, 1.0, 3.002)], walk)
    assert len(scan(tmp_path, realign="fair")["train_dia0_utt0"].video) == 1


def test_a_box_is_cut_to_the_picture_and_frames_after_the_end_are_left_out(tmp_path: Path) -> None:
    boxes = [*faces(range(12), (-64, 0, 640, 800)), *faces(range(24, 60), (640, 360, 1280, 720))]
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, 0, 1.0, 2.001)], boxes)
    assert crops(scan(tmp_path, realign="fair")["train_dia0_utt0"]) == [(0.0, 0.0, 0.5, 1.0)]


def test_the_pictures_of_eight_dialogues_are_smaller(tmp_path: Path) -> None:
    write_tables(tmp_path, train=[line(128, 0)])
    numbers = {"train": [(128, 0, 0)]}
    box = [("train", 128, 0, frame, 0, 0, 248, 192) for frame in range(10)]
    write_fair(tmp_path, [("train", 128, 0, 128, 0, 0.0, 1.0)], box, numbers)
    assert crops(scan(tmp_path, realign="fair")["train_dia128_utt0"]) == [(0.0, 0.0, 0.5, 0.5)]


def test_whole_pictures_need_no_file_of_faces(tmp_path: Path) -> None:
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, 0, 1.0, 2.0)], faces(range(20), (0, 0, 640, 360)))
    (tmp_path / FACES).unlink()
    assert crops(scan(tmp_path, realign="fair", crop="none")["train_dia0_utt0"]) == [None]


# --- wrong files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [TIMES, FACES, *FAIR_TABLES.values()])
def test_a_missing_file_is_named_with_the_command_that_gets_it(tmp_path: Path, name: str) -> None:
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, 0, 0.5, 1.0)])
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"no {name} below .*make fetch DATASET=meld"):
        scan(tmp_path, realign="fair")


def test_every_wrong_line_is_listed_with_its_place(tmp_path: Path) -> None:
    times = [
        ("train", 0, 0, 0, 0, 1.0, 0.5),
        ("train", 0, 0, 0, "x", 0.0, 0.5),
        ("valid", 0, 0, 0, 0, 0.0, 0.5),
        ("train", 0, 7, 0, 0, 0.0, 0.5),
        ("train", 0, 0, 0, 0, "nan", 0.5),
        ("train", 0, 0, 0, 0, -1.0, 0.5),
    ]
    write_fair(corpus(tmp_path), times)
    with pytest.raises(InputError) as caught:
        scan(tmp_path, realign="fair")
    lines = str(caught.value).splitlines()
    assert [text.split(": ")[0] for text in lines] == [f"{TIMES}:{number}" for number in range(2, 8)]


@pytest.mark.parametrize("text", ["", "Split,Dialogue ID\ntrain,0", "\0", "no table"])
def test_a_file_of_faces_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, 0, 0.5, 1.0)])
    (tmp_path / FACES).write_text(text)
    with pytest.raises(InputError, match=FACES):
        scan(tmp_path, realign="fair")


def test_a_clip_outside_the_root_cannot_be_named(tmp_path: Path) -> None:
    write_fair(corpus(tmp_path), [("train", 0, 0, 0, "../../etc/passwd", 0.0, 0.5)])
    with pytest.raises(InputError, match="is not a whole number"):
        scan(tmp_path, realign="fair")


@pytest.mark.parametrize("option", [{"realign": "fare"}, {"crop": "speaker"}])
def test_an_unknown_option_names_the_closest(tmp_path: Path, option: dict[str, str]) -> None:
    with pytest.raises(InputError, match="known: |did you mean"):
        scan(corpus(tmp_path), **option)
