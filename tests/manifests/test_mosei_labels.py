"""The MOSEI reader's labels: workers' answers, label protocols, folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from manifests._sentiment import published
from manifests.mosei import EMOTIONS, Mosei, outwards
from pipeline.corpus.recipe_file import read_recipe
from pipeline.utterance import Utterance
from tests.manifests.mosei_files import (
    HEADER,
    RECIPE,
    TEST,
    TRAIN,
    VALID,
    answer,
    problems,
    scan,
    write_answers,
    write_raw,
)

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
