"""The MOSEI reader on transcripts, on MMSA's copy, and where either layout may stand."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from manifests.mosei import EMOTIONS, KNOWN, Mosei
from pipeline.corpus import manifest
from pipeline.media.audio import decode
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio, Utterance, Video
from stages.audio_mfcc import AudioMfcc
from tests.manifests.mosei_files import (
    CLIPS,
    TEST,
    TRAIN,
    VALID,
    one,
    problems,
    scan,
    write_mmsa,
    write_raw,
)

# --- transcripts and cutting -----------------------------------------------------------------------------------


def test_a_line_is_a_clip_cut_out_of_the_whole_video_by_its_times(tmp_path: Path) -> None:
    row = one(tmp_path, f"{TRAIN}___0___0.5___4.25___We begin.")
    assert row == Utterance(
        id="hh04W3xXa5s_0",
        dialogue=TRAIN,
        turn=0,
        text="We begin.",
        audio=(Audio(path="Raw/Audio/Full/WAV_16000/hh04W3xXa5s.wav", start_s=0.5, end_s=4.25),),
        video=(Video(path="Raw/Videos/Full/Combined/hh04W3xXa5s.mp4", start_s=0.5, end_s=4.25),),
        start_s=0.5,
        end_s=4.25,
        split="train",
        labels={"sentiment": 1.0, **dict.fromkeys(EMOTIONS, 0.0), "raters": 1},
    )


def test_a_clip_with_a_file_of_its_own_is_that_file_and_only_its_sound_is_cut(tmp_path: Path) -> None:
    write_raw(tmp_path, {TRAIN: "".join(f"{TRAIN}___{n}___{n}.0___{n}.5___x\n" for n in range(2))})
    (tmp_path / CLIPS).mkdir(parents=True)
    (tmp_path / CLIPS / f"{TRAIN}_1.mp4").touch()
    whole, own = Mosei().scan(tmp_path)
    assert whole.video == (Video(path=f"Raw/Videos/Full/Combined/{TRAIN}.mp4", start_s=0.0, end_s=0.5),)
    assert own.video == (Video(path=f"{CLIPS}/{TRAIN}_1.mp4"),)
    assert own.audio and (own.audio[0].start_s, own.audio[0].end_s) == (1.0, 1.5)


@pytest.mark.parametrize("text", ["a ___ b", "_____", "___x", "and ______ then ___1___2___3___"])
def test_a_text_may_hold_the_delimiter(tmp_path: Path, text: str) -> None:
    row = one(tmp_path, f"{TRAIN}___3___0.5___4.25___{text}")
    assert (row.id, row.start_s, row.end_s, row.text) == (f"{TRAIN}_3", 0.5, 4.25, text)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("b'so good'", "so good"),
        ('b"it\'s caf\\xc3\\xa9"', "it's café"),
        ("b'\\xff'", "b'\\xff'"),
        ("b'open", "b'open"),
    ],
)
def test_a_text_in_the_form_of_printed_bytes_is_read_as_what_they_stand_for(tmp_path: Path, written, text) -> None:
    assert one(tmp_path, f"{TRAIN}___3___0.5___4.25___{written}").text == text


@pytest.mark.parametrize("video", ["-3g5yACwYnA", "_dI--eQ6qVU", "a_b__", "100499"])
def test_a_video_may_begin_with_a_dash_and_begin_or_end_with_underscores(tmp_path: Path, video: str) -> None:
    row = one(tmp_path, f"{video}___12___1.0___2.0___x", video)
    assert (row.id, row.dialogue, row.turn) == (f"{video}_12", video, 12)
    assert row.video and row.video[0].path.endswith(f"/{video}.mp4")


def test_clips_count_from_zero(tmp_path: Path) -> None:
    assert one(tmp_path, f"{TRAIN}___0___1.0___2.0___x").turn == 0


def test_a_negative_start_counts_as_zero(tmp_path: Path) -> None:
    row = one(tmp_path, "-NFrJFQijFE___0___-0.477551___3.5___x", "-NFrJFQijFE")
    assert (row.start_s, row.end_s) == (0.0, 3.5)
    assert row.audio and row.video and (row.audio[0].start_s, row.video[0].start_s) == (0.0, 0.0)


def test_a_clip_without_length_is_kept_passes_the_manifest_and_is_too_short_to_extract(tmp_path: Path) -> None:
    write_raw(tmp_path / "root", {TRAIN: f"{TRAIN}___0___-0.9___-0.1___x\n"})
    sound = tmp_path / "root/Raw/Audio/Full/WAV_16000/hh04W3xXa5s.wav"
    sound.parent.mkdir(parents=True)
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(32000))
    (row,) = manifest.build(Mosei(), tmp_path / "root", tmp_path / "memory").rows
    assert row.audio and (row.start_s, row.end_s, row.audio[0].start_s, row.audio[0].end_s) == (0.0, 0.0, 0.0, 0.0)
    with pytest.raises(Unreadable) as caught:
        decode(row.audio, tmp_path / "root", [AudioMfcc()])
    assert caught.value.reason is Reason.TOO_SHORT


def test_overlapping_clips_stand_beside_each_other(tmp_path: Path) -> None:
    lines = [f"{TRAIN}___{n}___{start}___{end}___x\n" for n, (start, end) in enumerate([(0.0, 5.0), (3.0, 6.0)])]
    assert len(Mosei().scan(write_raw(tmp_path, {TRAIN: "".join(lines)}))) == 2


def test_the_misaligned_video_is_kept_and_marked(tmp_path: Path) -> None:
    lines = {video: f"{video}___0___0.0___1.0___x\n" for video in (TRAIN, "ZZzdvUdOTww")}
    rows = scan(write_raw(tmp_path, lines))
    assert "known" not in rows[f"{TRAIN}_0"].labels
    assert rows["ZZzdvUdOTww_0"].labels["known"] == KNOWN["ZZzdvUdOTww"]


def test_every_malformed_line_is_listed_with_its_place(tmp_path: Path) -> None:
    bad = [
        "x",
        f"{TRAIN}___a___0___1___x",
        f"{TRAIN}___0___0___one___x",
        f"{TRAIN}___0___3___2___x",
        "../b___0___0___1___x",
    ]
    good = f"{TRAIN}___7___0.0___1.0___x"
    message = problems(write_raw(tmp_path, {TRAIN: "\n".join([*bad, "", good])}))
    file = f"Raw/Transcript/Segmented/Combined/{TRAIN}.txt"
    assert [line.split(": ")[0] for line in message.splitlines()] == [f"{file}:{n}" for n in range(1, 6)]


# --- MMSA's copy, and where either stands ----------------------------------------------------------------------


def test_the_copy_has_the_same_labels_in_another_order_of_columns(tmp_path: Path) -> None:
    write_mmsa(tmp_path, f"{TRAIN},0001,NA,-0.5,Negative,train,,,", f"{VALID},2,x,0,Neutral,validation,0.1,-1,1")
    first, second = Mosei().scan(tmp_path)
    assert (first.id, first.turn, first.text, first.split) == (f"{TRAIN}_0001", 1, "NA", "train")
    assert first.labels == {"sentiment": -0.5, "annotation": "Negative"}
    assert (second.split, second.labels["label_T"], second.labels["label_V"]) == ("valid", 0.1, 1.0)
    assert first.audio == (Audio(path=f"Raw/{TRAIN}/0001.mp4"),)


def test_a_mode_other_than_the_published_part_is_refused(tmp_path: Path) -> None:
    message = problems(write_mmsa(tmp_path, f"{TEST},1,x,0,Neutral,test,,,", f"{TEST},2,x,0,Neutral,train,,,"))
    assert message == f"label.csv:3: mode = 'train', but video {TEST} is in test"


@pytest.mark.parametrize("folder", ["MOSEI", "CMU_MOSEI", "CMU-MOSEI"])
def test_either_layout_may_stand_in_a_folder_called_after_the_corpus(tmp_path: Path, folder: str) -> None:
    write_raw(tmp_path / "raw", raw=f"{folder}/Raw")
    write_mmsa(tmp_path / "copy" / folder, f"{TRAIN},1,x,0,Neutral,train,,,")
    for name in ("raw", "copy"):
        (row,) = Mosei().scan(tmp_path / name)
        assert row.video and row.video[0].path.startswith(f"{folder}/Raw/")


def test_mosi_is_not_mosei(tmp_path: Path) -> None:
    write_mmsa(tmp_path / "MOSI", f"{TRAIN},1,x,0,Neutral,train,,,")
    message = problems(tmp_path)
    assert "Answer" not in message and "Raw/Labels/*.csv" in message and "label.csv" in message
