"""The MOSEI reader: transcripts, cutting, workers' answers, MMSA's copy, labels, folds, and what is refused."""

from __future__ import annotations

import csv
import wave
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from manifests._sentiment import published
from manifests.mosei import EMOTIONS, KNOWN, Mosei, outwards
from pipeline.corpus import manifest
from pipeline.corpus.recipe_file import read_recipe
from pipeline.errors import InputError
from pipeline.media.audio import decode
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio, Utterance, Video
from stages.audio_mfcc import AudioMfcc

RECIPE = Path(__file__).parents[2] / "manifests" / "mosei.toml"
TRAIN, VALID, TEST = "hh04W3xXa5s", "188343", "7l3BNtSE0xc"
ANSWERS = ("sentiment", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
HEADER = ("HITId", "Input.VIDEO_ID", "Input.CLIP", "WorkerId", *(f"Answer.{name}" for name in ANSWERS))
CLIPS = "Raw/Videos/Segmented/Combined"


def answer(video: str = TRAIN, clip: int = 0, worker: str = "A1", **answers: object) -> dict[str, object]:
    given = dict.fromkeys(ANSWERS, 0) | answers
    row = {"HITId": "H", "Input.VIDEO_ID": video, "Input.CLIP": clip, "WorkerId": worker}
    return row | {f"Answer.{name}": value for name, value in given.items()}


def write_answers(root: Path, rows: Iterable[Mapping[str, object]], name: str = "batch.csv") -> Path:
    folder = root / "Raw/Labels"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, HEADER)
        table.writeheader()
        table.writerows(rows)
    return root


def write_raw(root: Path, transcripts: Mapping[str, str] | None = None, raw: str = "Raw") -> Path:
    """Transcripts by video, and one worker's answer to the first clip of each; media are not written."""
    said = {TRAIN: f"{TRAIN}___0___0.5___4.25___We begin.\n"} if transcripts is None else transcripts
    folder = root / raw / "Transcript/Segmented/Combined"
    folder.mkdir(parents=True)
    for video, text in said.items():
        (folder / f"{video}.txt").write_text(text, encoding="utf-8")
    write_answers(root if raw == "Raw" else root / raw / "..", [answer(video, 0, sentiment=1) for video in said])
    return root


def write_mmsa(root: Path, *rows: str) -> Path:
    """In the order of columns that MMSA's MOSEI has."""
    root.mkdir(parents=True, exist_ok=True)
    columns = "video_id,clip_id,text,label,annotation,mode,label_T,label_A,label_V"
    (root / "label.csv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return root


def scan(root: Path) -> dict[str, Utterance]:
    return {row.id: row for row in Mosei().scan(root)}


def one(root: Path, line: str, video: str = TRAIN) -> Utterance:
    (row,) = Mosei().scan(write_raw(root, {video: line + "\n"}))
    return row


def problems(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        Mosei().scan(root)
    return str(caught.value)


# --- transcripts and cutting -----------------------------------------------------------------------------------


def test_a_line_is_a_clip_cut_out_of_the_whole_video_by_its_times(tmp_path: Path) -> None:
    row = one(tmp_path, f"{TRAIN}___0___0.5___4.25___We begin.")
    assert row == Utterance(
        id="hh04W3xXa5s_0",
        dialogue=TRAIN,
        turn=0,
        text="We begin.",
        audio=Audio(path="Raw/Audio/Full/WAV_16000/hh04W3xXa5s.wav", start_s=0.5, end_s=4.25),
        video=Video(path="Raw/Videos/Full/Combined/hh04W3xXa5s.mp4", start_s=0.5, end_s=4.25),
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
    assert whole.video == Video(path=f"Raw/Videos/Full/Combined/{TRAIN}.mp4", start_s=0.0, end_s=0.5)
    assert own.video == Video(path=f"{CLIPS}/{TRAIN}_1.mp4")
    assert own.audio and (own.audio.start_s, own.audio.end_s) == (1.0, 1.5)


@pytest.mark.parametrize("text", ["a ___ b", "_____", "___x", "and ______ then ___1___2___3___"])
def test_a_text_may_hold_the_delimiter(tmp_path: Path, text: str) -> None:
    row = one(tmp_path, f"{TRAIN}___3___0.5___4.25___{text}")
    assert (row.id, row.start_s, row.end_s, row.text) == (f"{TRAIN}_3", 0.5, 4.25, text)


@pytest.mark.parametrize("video", ["-3g5yACwYnA", "_dI--eQ6qVU", "a_b__", "100499"])
def test_a_video_may_begin_with_a_dash_and_begin_or_end_with_underscores(tmp_path: Path, video: str) -> None:
    row = one(tmp_path, f"{video}___12___1.0___2.0___x", video)
    assert (row.id, row.dialogue, row.turn) == (f"{video}_12", video, 12)
    assert row.video and row.video.path.endswith(f"/{video}.mp4")


def test_clips_count_from_zero(tmp_path: Path) -> None:
    assert one(tmp_path, f"{TRAIN}___0___1.0___2.0___x").turn == 0


def test_a_negative_start_counts_as_zero(tmp_path: Path) -> None:
    row = one(tmp_path, "-NFrJFQijFE___0___-0.477551___3.5___x", "-NFrJFQijFE")
    assert (row.start_s, row.end_s) == (0.0, 3.5)
    assert row.audio and row.video and (row.audio.start_s, row.video.start_s) == (0.0, 0.0)


def test_a_clip_without_length_is_kept_passes_the_manifest_and_is_too_short_to_extract(tmp_path: Path) -> None:
    write_raw(tmp_path / "root", {TRAIN: f"{TRAIN}___0___-0.9___-0.1___x\n"})
    sound = tmp_path / "root/Raw/Audio/Full/WAV_16000/hh04W3xXa5s.wav"
    sound.parent.mkdir(parents=True)
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(32000))
    (row,) = manifest.build(Mosei(), tmp_path / "root", tmp_path / "memory").rows
    assert row.audio and (row.start_s, row.end_s, row.audio.start_s, row.audio.end_s) == (0.0, 0.0, 0.0, 0.0)
    with pytest.raises(Unreadable) as caught:
        decode(row.audio, sound, [AudioMfcc()])
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


# --- what workers answered -------------------------------------------------------------------------------------


def test_ratings_are_means_over_workers(tmp_path: Path) -> None:
    votes = [answer(worker=w, sentiment=s, happiness=h) for w, s, h in (("A", -3, 0), ("B", 1, 2), ("C", -1, 1))]
    labels = scan(write_answers(write_raw(tmp_path), votes))[f"{TRAIN}_0"].labels
    assert (labels["sentiment"], labels["happy"], labels["sad"], labels["raters"]) == (-1.0, 1.0, 0.0, 3)


def test_the_videos_folder_in_a_table_is_not_part_of_its_id(tmp_path: Path) -> None:
    write_answers(write_raw(tmp_path), [answer(f"some/dir/{TRAIN}", sentiment=-2)])
    assert scan(tmp_path)[f"{TRAIN}_0"].labels["sentiment"] == -2.0


def test_answers_of_all_tables_are_taken_and_a_worker_counts_once_a_clip(tmp_path: Path) -> None:
    write_raw(tmp_path)
    write_answers(tmp_path, [answer(worker="B", sentiment=3)], "b.csv")
    write_answers(tmp_path, [answer(worker="A", sentiment=-1), answer(worker="B", sentiment=2)], "a.csv")
    write_answers(tmp_path, [answer(clip=1, worker="A", sentiment=3)])
    labels = scan(tmp_path)[f"{TRAIN}_0"].labels
    assert (labels["sentiment"], labels["raters"]) == (0.5, 2)


def test_an_answer_left_out_has_no_part_in_its_mean(tmp_path: Path) -> None:
    write_answers(write_raw(tmp_path), [answer(worker="A", fear=2), answer(worker="B", fear="", sentiment=1)])
    labels = scan(tmp_path)[f"{TRAIN}_0"].labels
    assert (labels["fear"], labels["sentiment"]) == (2.0, 0.5)


def test_a_clip_that_nobody_rated_is_a_row_without_labels_and_a_rating_without_a_clip_is_none(tmp_path: Path) -> None:
    rows = scan(write_answers(write_raw(tmp_path), [answer(clip=5, sentiment=1)]))
    assert {name: dict(row.labels) for name, row in rows.items()} == {f"{TRAIN}_0": {}}
    assert {labels.of(rows[f"{TRAIN}_0"]) for labels in Mosei.labels.values()} == {None}


def test_rows_shorter_than_the_header_and_stray_bytes_are_read(tmp_path: Path) -> None:
    """The tables of Mechanical Turk end in columns such as Approve, which the rows lack."""
    write_raw(tmp_path)
    row = answer(sentiment=2)
    text = ",".join([*HEADER, "Approve", "Reject"]) + "\n" + ",".join(str(row[name]) for name in HEADER) + "\n"
    (tmp_path / "Raw/Labels/batch.csv").write_bytes(text.replace(",H,", ",caf\xe9,").encode("latin-1"))
    assert scan(tmp_path)[f"{TRAIN}_0"].labels["sentiment"] == 2.0


def test_a_row_that_ends_before_its_answers_has_none(tmp_path: Path) -> None:
    write_answers(write_raw(tmp_path), [answer(worker="A", sentiment=2, fear=1)])
    with (tmp_path / "Raw/Labels/batch.csv").open("a") as file:
        file.write(f"H,{TRAIN},0,B,-1\n")
    labels = scan(tmp_path)[f"{TRAIN}_0"].labels
    assert (labels["sentiment"], labels["fear"]) == (0.5, 1.0)


def test_answers_off_the_scale_or_not_numbers_are_listed(tmp_path: Path) -> None:
    bad = [answer(sentiment=4), answer(anger=-1), answer(fear=3.5), answer(fear="much"), answer(clip=-1)]
    message = problems(write_answers(write_raw(tmp_path), bad))
    assert [line.split(": ")[0] for line in message.splitlines()] == [f"Raw/Labels/batch.csv:{n}" for n in range(2, 7)]


def test_a_table_without_a_column_of_answers_names_it(tmp_path: Path) -> None:
    (write_raw(tmp_path) / "Raw/Labels/other.csv").write_text("Input.VIDEO_ID,Input.CLIP,WorkerId\n")
    assert "Raw/Labels/other.csv:1: no column 'Answer.sentiment'" in problems(tmp_path)


def test_a_release_without_tables_of_answers_is_told_so(tmp_path: Path) -> None:
    (write_raw(tmp_path) / "Raw/Labels/batch.csv").unlink()
    assert f"no {tmp_path}/Raw/Labels/*.csv" in problems(tmp_path)


# --- MMSA's copy, and where either stands ----------------------------------------------------------------------


def test_the_copy_has_the_same_labels_in_another_order_of_columns(tmp_path: Path) -> None:
    write_mmsa(tmp_path, f"{TRAIN},0001,NA,-0.5,Negative,train,,,", f"{VALID},2,x,0,Neutral,validation,0.1,-1,1")
    first, second = Mosei().scan(tmp_path)
    assert (first.id, first.turn, first.text, first.split) == (f"{TRAIN}_0001", 1, "NA", "train")
    assert first.labels == {"sentiment": -0.5, "annotation": "Negative"}
    assert (second.split, second.labels["label_T"], second.labels["label_V"]) == ("valid", 0.1, 1.0)
    assert first.audio == Audio(path=f"Raw/{TRAIN}/0001.mp4")


def test_a_mode_other_than_the_published_part_is_refused(tmp_path: Path) -> None:
    message = problems(write_mmsa(tmp_path, f"{TEST},1,x,0,Neutral,test,,,", f"{TEST},2,x,0,Neutral,train,,,"))
    assert message == f"label.csv:3: mode = 'train', but video {TEST} is in test"


@pytest.mark.parametrize("folder", ["MOSEI", "CMU_MOSEI", "CMU-MOSEI"])
def test_either_layout_may_stand_in_a_folder_called_after_the_corpus(tmp_path: Path, folder: str) -> None:
    write_raw(tmp_path / "raw", raw=f"{folder}/Raw")
    write_mmsa(tmp_path / "copy" / folder, f"{TRAIN},1,x,0,Neutral,train,,,")
    for name in ("raw", "copy"):
        (row,) = Mosei().scan(tmp_path / name)
        assert row.video and row.video.path.startswith(f"{folder}/Raw/")


def test_mosi_is_not_mosei(tmp_path: Path) -> None:
    write_mmsa(tmp_path / "MOSI", f"{TRAIN},1,x,0,Neutral,train,,,")
    message = problems(tmp_path)
    assert "Answer" not in message and "Raw/Labels/*.csv" in message and "label.csv" in message


# --- labels ----------------------------------------------------------------------------------------------------


def row(**labels: float) -> Utterance:
    return Utterance(id="u", dialogue="d", turn=0, labels=labels)


@pytest.mark.parametrize(
    ("sentiment", "found"),
    [(-2.4, -3), (-2.0, -2), (-0.3, -1), (0.0, 0), (0.2, 1), (1.0, 1), (1.1, 2), (2.0, 2), (2.1, 3), (3.0, 3)],
)
def test_seven_classes_by_the_corpuss_own_notes_go_away_from_zero(sentiment: float, found: int) -> None:
    assert outwards(sentiment) == found
    labels = Mosei().protocol("sentiment7_sdk")
    assert labels.classes[int(str(labels.of(row(sentiment=sentiment))))] == str(found)


def test_an_emotion_is_present_above_zero(tmp_path: Path) -> None:
    labels = Mosei().protocol("emotions")
    assert labels.classes == ("happy", "sad", "anger", "surprise", "disgust", "fear")
    assert labels.of(row(happy=1 / 3, sad=0, anger=3, surprise=0, disgust=0, fear=0)) == (1, 0, 1, 0, 0, 0)
    assert labels.of(row(**dict.fromkeys(EMOTIONS, 0))) == (0,) * 6
    assert labels.of(row(happy=1, sentiment=2)) is None


def test_both_readings_of_two_classes_are_offered() -> None:
    for sentiment, sign, below in ((-0.1, 0, 0), (0.0, None, 1), (0.1, 1, 1)):
        assert Mosei().protocol("sentiment2").of(row(sentiment=sentiment)) == sign
        assert Mosei().protocol("sentiment2_nonneg").of(row(sentiment=sentiment)) == below


# --- folds -----------------------------------------------------------------------------------------------------


def test_the_published_folds_are_2249_300_and_678_videos_and_disjoint() -> None:
    lines = (RECIPE.parent / "mosei_folds.csv").read_text().splitlines()
    assert Counter(published("mosei").values()) == {"train": 2249, "valid": 300, "test": 678}
    assert len(lines) == 1 + len(published("mosei")) == 3228
    assert (published("mosei")[TRAIN], published("mosei")[VALID], published("mosei")[TEST]) == (
        "train",
        "valid",
        "test",
    )


def write_videos(root: Path, videos: Sequence[str]) -> list[Utterance]:
    return Mosei().scan(write_raw(root, {video: f"{video}___0___0.0___1.0___x\n" for video in videos}))


def test_videos_outside_the_published_folds_are_scanned_and_are_in_no_official_fold(tmp_path: Path) -> None:
    rows = write_videos(tmp_path, [TRAIN, VALID, TEST, "stranger"])
    assert {row.id: row.split for row in rows}["stranger_0"] is None
    (fold,) = Mosei().folds(rows, "official")
    assert (fold.train, fold.valid, fold.test) == ((f"{TRAIN}_0",), (f"{VALID}_0",), (f"{TEST}_0",))


def test_cross_validation_has_five_folds_of_whole_videos(tmp_path: Path) -> None:
    rows = write_videos(tmp_path, sorted(published("mosei"))[:20])
    assert sorted(len(fold.test) for fold in Mosei().folds(rows, "cv")) == [4] * 5


def test_the_recipe_is_read_and_has_the_papers_values(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPE, root=str(tmp_path), memory=tmp_path / "memory", home=tmp_path / "home")
    mulg = recipe.train["mulg"]
    assert (mulg["epochs"], mulg["batch_size"], mulg["embed_dropout"], mulg["out_dropout"]) == (50, 16, 0.3, 0.1)
    assert recipe.features["mulg"]["audio"].align.length == 600
