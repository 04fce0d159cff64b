"""The MOSI reader on the raw release, and where either layout may stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests._sentiment import release_folders
from manifests.mosi import Mosi
from pipeline.utterance import Audio, Utterance, Video
from tests.manifests.mosi_files import (
    TRAIN,
    clip,
    problems,
    scan,
    write_mmsa,
    write_raw,
)

# --- the raw release -------------------------------------------------------------------------------------------


def test_a_segment_joins_its_line_its_files_and_its_label(tmp_path: Path) -> None:
    assert Mosi().scan(write_raw(tmp_path)) == [
        Utterance(
            id="03bSnISJMiM_1",
            dialogue=TRAIN,
            turn=1,
            text="ANYHOW IT WAS REALLY GOOD",
            audio=(Audio(path="Raw/Audio/WAV_16000/Segmented/03bSnISJMiM_1.wav"),),
            video=(Video(path="Raw/Video/Segmented/03bSnISJMiM_1.mp4"),),
            start_s=0.3,
            end_s=4.34,
            split="train",
            labels={"sentiment": 2.4},
        )
    ]


def test_segments_are_cut_by_file_not_by_the_interval_of_the_label_which_does_not_fit_it(tmp_path: Path) -> None:
    row = scan(write_raw(tmp_path))["03bSnISJMiM_1"]
    assert row.audio and (row.audio[0].start_s, row.audio[0].end_s) == (None, None)
    assert row.video and (row.video[0].start_s, row.video[0].end_s) == (None, None)
    assert (row.start_s, row.end_s) == (0.3, 4.34)


def test_stereo_files_are_mixed_not_read_from_one_channel(tmp_path: Path) -> None:
    row = scan(write_raw(tmp_path))["03bSnISJMiM_1"]
    assert row.audio and row.audio[0].channel is None


@pytest.mark.parametrize("video", ["_dI--eQ6qVU", "f_pcplsH_V0", "-3g5yACwYnA", "a_b_"])
def test_a_video_may_hold_or_begin_with_underscores_and_dashes(tmp_path: Path, video: str) -> None:
    (row,) = Mosi().scan(write_raw(tmp_path, {video: [("WELL", 0.0, 1.0, 1.0)]}))
    assert (row.id, row.dialogue, row.id.rsplit("_", 1)) == (f"{video}_1", video, [video, "1"])
    assert row.audio and row.audio[0].path.endswith(f"/{video}_1.wav")


@pytest.mark.parametrize(
    ("raw", "labels"),
    [
        ("Raw", "Labels"),
        ("Raw", "Raw/Labels"),
        ("CMU_MOSI/Raw", "CMU_MOSI/Labels"),
        ("CMU_MOSI_Raw", "CMU_MOSI_Raw/Labels"),
        ("cmu-mosi", "Labels"),
        (".", "Labels"),
    ],
)
def test_labels_stand_beside_the_raw_folder_or_in_it_wherever_that_is(tmp_path: Path, raw: str, labels: str) -> None:
    row = scan(write_raw(tmp_path, raw=raw, labels=labels))["03bSnISJMiM_1"]
    assert row.labels == {"sentiment": 2.4}
    assert row.video and row.video[0].path == str(Path(raw) / "Video/Segmented/03bSnISJMiM_1.mp4")


def test_a_release_without_labels_is_told_what_is_missing_and_where_it_is(tmp_path: Path) -> None:
    (write_raw(tmp_path) / "Labels/OpinionLevelSentiment.csv").unlink()
    message = problems(tmp_path)
    for part in ("Raw/Labels/OpinionLevelSentiment.csv", f"{tmp_path}/Labels/OpinionLevelSentiment.csv", "#141"):
        assert part in message
    assert "immortal.multicomp.cs.cmu.edu" in message


def test_a_segment_of_only_the_transcript_or_only_the_labels_is_a_row_too(tmp_path: Path) -> None:
    write_raw(tmp_path)
    (tmp_path / "Labels/OpinionLevelSentiment.csv").write_text(f"1.5,2.5,{TRAIN},10,-1\n")
    rows = scan(tmp_path)
    assert {name: (row.text, row.labels) for name, row in rows.items()} == {
        "03bSnISJMiM_1": ("ANYHOW IT WAS REALLY GOOD", {}),
        "03bSnISJMiM_10": (None, {"sentiment": -1.0}),
    }


def test_a_text_may_hold_the_delimiter_and_blank_lines_are_no_segments(tmp_path: Path) -> None:
    file = write_raw(tmp_path) / "Raw/Transcript/Segmented/03bSnISJMiM.annotprocessed"
    file.write_bytes("\ufeff1_DELIM_A _DELIM_ B\u2028C\r\n\r\n2_DELIM_\r\n".encode())
    assert [row.text for row in Mosi().scan(tmp_path)] == ["A _DELIM_ B\u2028C", None]


def test_apple_double_files_are_skipped(tmp_path: Path) -> None:
    folder = write_raw(tmp_path) / "Raw/Transcript/Segmented"
    (folder / "._03bSnISJMiM.annotprocessed").write_bytes(bytes(range(256)))
    assert len(Mosi().scan(tmp_path)) == 1


def test_every_malformed_line_of_every_file_is_listed_with_its_place(tmp_path: Path) -> None:
    write_raw(tmp_path)
    (tmp_path / "Raw/Transcript/Segmented/b.annotprocessed").write_text("1_DELIM_A\nB\nx_DELIM_C\n1_DELIM_D\n")
    broken = ["0,1,b,1,3.2", "0,1,b,2", "0,one,b,3,1", "4,2,b,4,1", "0,1,../b,5,1", "0,1,b,6,0", "0,1,b,6,0"]
    (tmp_path / "Labels/OpinionLevelSentiment.csv").write_text("\n".join(broken))
    message = problems(tmp_path)
    for place in (2, 3, 4):
        assert f"Raw/Transcript/Segmented/b.annotprocessed:{place}: " in message
    places = {line.split(":")[1] for line in message.splitlines() if line.startswith("Labels")}
    assert places == {"1", "2", "3", "4", "5", "7"}


def test_files_that_lead_outside_the_root_are_refused(tmp_path: Path) -> None:
    write_raw(tmp_path / "root")
    (tmp_path / "x.annotprocessed").write_text("1_DELIM_A\n")
    link = tmp_path / "root/Raw/Transcript/Segmented/x.annotprocessed"
    link.symlink_to(tmp_path / "x.annotprocessed")
    assert f"{link} leads outside" in problems(tmp_path / "root")


# --- where it stands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["MOSI", "CMU_MOSI", "CMU-MOSI", "mosi", "cmu mosi"])
def test_either_layout_may_stand_in_a_folder_called_after_the_corpus(tmp_path: Path, folder: str) -> None:
    for name, write in (("raw", write_raw), ("copy", write_mmsa)):
        write(tmp_path / name / folder)
        (row,) = Mosi().scan(tmp_path / name)
        assert row.video and row.video[0].path.startswith(f"{folder}/Raw/")


@pytest.mark.parametrize("folder", ["MOSEI", "SIMS", "MOSI2", "somewhere"])
def test_folders_called_otherwise_are_not_looked_into(tmp_path: Path, folder: str) -> None:
    write_mmsa(tmp_path / folder)
    assert "is not this corpus" in problems(tmp_path)


def test_the_root_comes_before_its_folders_those_by_name_and_the_raw_release_before_the_copy(tmp_path: Path) -> None:
    def text() -> str | None:
        return Mosi().scan(tmp_path)[0].text

    write_mmsa(tmp_path / "MOSI", [clip(text="copy in MOSI")])
    assert text() == "copy in MOSI"
    write_mmsa(tmp_path / "CMU_MOSI", [clip(text="copy in CMU_MOSI")])
    assert text() == "copy in CMU_MOSI"
    write_mmsa(tmp_path, [clip(text="copy in the root")])
    assert text() == "copy in the root"
    write_raw(tmp_path, {TRAIN: [("RAW", 0.0, 1.0, 0.0)]})
    assert text() == "RAW"


@pytest.mark.parametrize("backwards", [False, True])
def test_which_folder_is_taken_does_not_depend_on_the_order_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    names = ("mosi", "MOSI", "CMU_MOSI_Raw", "CMU-MOSI", "CMU_MOSI")
    for name in names:
        (tmp_path / name).mkdir()
    listed = [tmp_path / name for name in sorted(names, reverse=backwards)]
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(listed))
    assert [str(place) for place in release_folders(tmp_path, "mosi")] == [".", *sorted(names)]


def test_a_folder_that_leads_outside_the_root_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/MOSI").symlink_to(write_mmsa(tmp_path / "elsewhere"))
    assert "is not this corpus" in problems(tmp_path / "root")


def test_a_root_that_is_neither_names_both_layouts(tmp_path: Path) -> None:
    message = problems(tmp_path)
    assert "OpinionLevelSentiment.csv" in message and "label.csv" in message and "thuiar/MMSA" in message
