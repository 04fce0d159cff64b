"""The table reader: what its columns mean, all errors at once, paths inside the root, folds that share no group."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.table import Table
from pipeline.errors import InputError
from pipeline.utterance import Audio, Utterance, Video, from_table, to_table


def scan(root: Path, text: str, **options: object) -> list[Utterance]:
    (root / "utterances.csv").write_text(text, encoding="utf-8")
    return Table(**options).scan(root)  # type: ignore[arg-type]


def errors(root: Path, text: str, **options: object) -> list[str]:
    with pytest.raises(InputError) as caught:
        scan(root, text, **options)
    return str(caught.value).splitlines()


def test_one_text_column_is_enough(tmp_path: Path) -> None:
    first, second = scan(tmp_path, "utterance,text\n007,Hello\nb,\n")
    assert first == Utterance(id="007", dialogue="007", turn=0, text="Hello")
    assert second.text is None


def test_every_column_has_its_place(tmp_path: Path) -> None:
    (row,) = scan(
        tmp_path,
        "utterance,dialogue,turn,speaker,session,text,audio,audio_start_s,audio_end_s,audio_channel,"
        "video,video_start_s,video_end_s,start_s,end_s,split,label,valence,note\n"
        "u,d,3,ann,s1,Hi,a/b.wav,1,2.5,1,c.mp4,0.5,2,10,11,dev,-1.5,4,x\n",
    )
    assert row == Utterance(
        id="u",
        dialogue="d",
        turn=3,
        speaker="ann",
        session="s1",
        text="Hi",
        audio=(Audio(path="a/b.wav", start_s=1.0, end_s=2.5, channel=1),),
        video=(Video(path="c.mp4", start_s=0.5, end_s=2.0),),
        start_s=10.0,
        end_s=11.0,
        split="valid",
        labels={"label": -1.5, "valence": 4.0, "note": "x"},
    )


def test_sound_comes_from_the_video_where_there_is_no_audio_column(tmp_path: Path) -> None:
    (row,) = scan(tmp_path, "utterance,video,video_start_s,video_end_s\nu,c.mp4,1,2\n")
    assert row.audio == (Audio(path="c.mp4", start_s=1.0, end_s=2.0),)
    (row,) = scan(tmp_path, "utterance,video,audio\nu,c.mp4,\n")
    assert row.audio == () and row.video == (Video(path="c.mp4"),)


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "1.50", "TRUE"])
def test_words_that_look_like_missing_values_are_words(tmp_path: Path, word: str) -> None:
    (row,) = scan(tmp_path, f"utterance,text,speaker,label\n{word},{word},{word},NA\n")
    assert (row.id, row.text, row.speaker) == (word, word, word)
    assert row.labels == {}


def test_turns_count_within_a_dialogue_in_the_order_of_the_table(tmp_path: Path) -> None:
    rows = scan(tmp_path, "utterance,dialogue,text\nz,d,1\ny,e,2\nx,d,3\n")
    assert [(row.id, row.turn) for row in rows] == [("z", 0), ("y", 0), ("x", 1)]


def test_turns_are_those_of_the_table_whatever_the_times(tmp_path: Path) -> None:
    rows = scan(tmp_path, "utterance,dialogue,turn,start_s,text\nz,d,7,1.0,1\ny,d,2,9.5,2\nx,d,,0.5,3\n")
    assert [(row.id, row.turn) for row in rows] == [("z", 7), ("y", 2), ("x", 0)]


def test_without_turns_a_dialogue_is_in_the_order_of_its_starts_if_all_are_known(tmp_path: Path) -> None:
    header = "utterance,dialogue,start_s,text\n"
    rows = scan(tmp_path, f"{header}z,d,9.5,1\ny,e,1,2\nx,d,10.0,3\nw,d,0.5,4\n")
    assert [(row.id, row.turn) for row in rows] == [("z", 1), ("y", 0), ("x", 2), ("w", 0)]
    rows = scan(tmp_path, f"{header}z,d,9.5,1\ny,e,1,2\nx,d,,3\nw,d,0.5,4\n")
    assert [(row.id, row.turn) for row in rows] == [("z", 0), ("y", 0), ("x", 1), ("w", 2)]


def test_a_transcript_may_span_lines_and_hold_commas(tmp_path: Path) -> None:
    text = '\ufeffutterance,text,start_s\n1,"Well,\n""no""",0\n2,x,late\n'
    assert errors(tmp_path, text) == ["utterances.csv:4: start_s = 'late' is not a number"]
    assert scan(tmp_path, text.replace("late", "1"))[0].text == 'Well,\n"no"'


def test_words_as_labels_are_told_once_with_the_line_that_makes_them_classes(tmp_path: Path) -> None:
    text = "utterance,text,label\n" + "".join(f"{i},x,{('bad', 'good', '')[i % 3]}\n" for i in range(9))
    first, line = errors(tmp_path, text)
    assert (
        first.startswith("utterances.csv:2: label holds words and no numbers") and line == 'classes = ["bad", "good"]'
    )


def test_everything_wrong_is_listed_at_once_by_line(tmp_path: Path) -> None:
    text = (
        "utterance,audio,video,audio_start_s,audio_end_s,audio_channel,split,turn,label\n"
        "a,../x.wav,,,,,train,0,1\n"
        "a,x.wav,,soon,,,train,0,1\n"
        ",x.wav,,,,,train,0,1\n"
        "d,/etc/passwd,up/../../x.mp4,,,,train,0,1\n"
        "e,x.wav,,2,1,,trian,0,1\n"
        "f,x.wav,,-1,inf,0.5,,-2,happy\n"
    )
    assert errors(tmp_path, text) == [
        "utterances.csv:2: audio = '../x.wav' is outside the root",
        "utterances.csv:3: utterance 'a' is already in utterances.csv:2",
        "utterances.csv:3: audio_start_s = 'soon' is not a number",
        "utterances.csv:4: no utterance id",
        "utterances.csv:5: video = 'up/../../x.mp4' is outside the root",
        "utterances.csv:5: audio = '/etc/passwd' is outside the root",
        "utterances.csv:6: audio_end_s = 1.0 is not after audio_start_s = 2.0",
        "utterances.csv:6: split = 'trian': did you mean train?",
        "utterances.csv:7: label = 'happy' is not a number; a classification needs its `classes` in the recipe",
        "utterances.csv:7: turn = '-2' is not a whole number from 0",
        "utterances.csv:7: audio_end_s = 'inf' is not a number",
        "utterances.csv:7: audio_start_s = -1.0 is negative",
        "utterances.csv:7: audio_channel = '0.5' is not a whole number from 0",
    ]


def test_a_link_inside_the_root_is_followed(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "media")
    assert scan(tmp_path, "utterance,audio\nu,link/x.wav\n")[0].audio == (Audio(path="link/x.wav"),)


def test_a_table_outside_the_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="outside"):
        Table(file="../utterances.csv").scan(tmp_path)


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("utterence,text", {}, "no column 'utterance': did you mean utterence?"),
        ("utterance,dialogue", {}, "none of the columns text, audio, video"),
        ("utterance,text,text", {}, "two columns 'text'"),
        ("utterance,audio,audio_start", {}, "column 'audio_start': times are in seconds, audio_start_s"),
        ("utterance,text,emotion", {"label": "emotoin"}, "no column 'emotoin': did you mean emotion?"),
        ("utterance,text", {"classes": ("a", "b")}, "no column 'label': known: text, utterance"),
    ],
)
def test_a_wrong_column_is_named(tmp_path: Path, header: str, options: Mapping[str, object], message: str) -> None:
    assert errors(tmp_path, f"{header}\n", **options) == [f"utterances.csv:1: {message}"]


@pytest.mark.parametrize("label", ["speaker", "text", "split", "start_s"])
def test_a_label_is_no_column_with_a_meaning_of_its_own(tmp_path: Path, label: str) -> None:
    found = errors(tmp_path, "utterance,text,speaker\nu,x,ann\n", label=label, classes=("ann",))
    assert len(found) == 1 and f"label = '{label}': that column has a meaning of its own" in found[0]


def test_blanks_around_the_name_of_a_column_are_told_not_made_an_annotation(tmp_path: Path) -> None:
    found = errors(tmp_path, "utterance,text, speaker,mood ,a word\nu,x,ann,low,1\n")
    assert [line.split(": ", 1)[1] for line in found] == [
        "column ' speaker': blanks around its name",
        "column 'mood ': blanks around its name",
    ]


def test_a_row_with_too_many_or_too_few_cells_is_named(tmp_path: Path) -> None:
    assert errors(tmp_path, "utterance,text\na,x,y\nb\n") == [
        "utterances.csv:2: 3 cells, 2 columns",
        "utterances.csv:3: 1 cells, 2 columns",
    ]


def test_parquet_and_csv_read_alike(tmp_path: Path) -> None:
    columns = {"utterance": [7, 8], "text": ["NA", None], "start_s": [0.5, None], "end_s": [1, 2], "label": [1.5, -2.0]}
    pq.write_table(pa.table(columns), tmp_path / "clips.parquet")
    rows = Table(file="clips.parquet").scan(tmp_path)
    assert rows == scan(tmp_path, "utterance,text,start_s,end_s,label\n7,NA,0.5,1,1.5\n8,,,2,-2\n")
    assert from_table(to_table(rows)) == rows


def test_a_wrong_cell_of_a_parquet_file_is_named_by_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"utterance": ["a", "b"], "text": ["x", "y"], "turn": [0, -1]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"^t\.parquet:row 2: turn = '-1' is not a whole number from 0$"):
        Table(file="t.parquet").scan(tmp_path)


def test_a_damaged_parquet_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="can't be read"):
        Table(file="t.parquet").scan(tmp_path)


@pytest.mark.parametrize(("file", "message"), [("absent.csv", "Expected layout"), ("t.xlsx", "neither")])
def test_a_missing_or_foreign_file_says_what_is_expected(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match=message):
        Table(file=file).scan(tmp_path)


def test_classes_of_the_recipe_make_a_classification(tmp_path: Path) -> None:
    table = Table(label="mood", classes=("bad", "good", "1"))
    rows = scan(tmp_path, "utterance,text,mood\na,x,good\nb,x,\nc,x,1\n", label=table.label, classes=table.classes)
    labels = table.protocol("label")
    assert (labels.task, labels.classes) == ("multiclass", ("bad", "good", "1"))
    assert [labels.of(row) for row in rows] == [1, None, 2]


def test_a_label_outside_the_classes_is_listed(tmp_path: Path) -> None:
    text = "utterance,text,label\na,x,goood\nb,x,bad\n"
    assert errors(tmp_path, text, classes=("bad", "good")) == ["utterances.csv:2: label = 'goood': did you mean good?"]


def test_without_classes_the_label_is_a_number(tmp_path: Path) -> None:
    rows = scan(tmp_path, "utterance,text,score\na,x,-2\nb,x,nan\n", label="score")
    labels = Table(label="score").protocol("label")
    assert (labels.task, labels.classes) == ("regression", ())
    assert [labels.of(row) for row in rows] == [-2.0, None]


def rows_of(groups: Sequence[str], key: str, each: int = 2) -> list[Utterance]:
    return [
        Utterance(id=f"{g}-{i}", dialogue=g if key == "dialogue" else f"{g}-d{i}", turn=i, **other(key, g))
        for g in groups
        for i in range(each)
    ]


def other(key: str, value: str) -> dict[str, str]:
    return {} if key == "dialogue" else {key: value}


@pytest.mark.parametrize("key", ["session", "speaker", "dialogue"])
@pytest.mark.parametrize("groups", [2, 5, 12])
def test_cross_validation_keeps_a_group_together_and_tests_each_row_once(key: str, groups: int) -> None:
    rows = rows_of([f"g{n}" for n in range(groups)], key)
    folds = Table().folds(rows, "cv")
    assert len(folds) == min(5, groups)
    assert sorted(name for fold in folds for name in fold.test) == sorted(row.id for row in rows)
    for fold in folds:
        tested = {name.partition("-")[0] for name in fold.test}
        assert not tested & {name.partition("-")[0] for name in (*fold.train, *fold.valid)}


def test_cross_validation_does_not_depend_on_the_order_of_rows() -> None:
    rows = rows_of([f"g{n}" for n in range(9)], "session")
    shuffled = random.Random(0).sample(rows, len(rows))
    parts = [[set(fold.test) for fold in Table().folds(order, "cv")] for order in (rows, shuffled)]
    assert parts[0] == parts[1]


def test_a_session_missing_in_one_row_groups_by_speaker() -> None:
    rows = [*rows_of(["s1", "s2"], "session"), *rows_of(["ann", "bob", "cy"], "speaker")]
    named = [Utterance(id=r.id, dialogue=r.dialogue, turn=0, session=r.session, speaker=r.speaker or "x") for r in rows]
    assert len(Table().folds(named, "cv")) == 4


def split_rows(splits: Sequence[str | None]) -> list[Utterance]:
    return [Utterance(id=f"u{i}", dialogue=f"d{i}", turn=0, split=split) for i, split in enumerate(splits)]


def test_official_fold_follows_the_split_column() -> None:
    (fold,) = Table().folds(split_rows(["train", "valid", "test", None]), "official")
    assert (fold.train, fold.valid, fold.test) == (("u0",), ("u1",), ("u2",))


def test_official_fold_validates_on_held_out_dialogues_where_no_row_is_valid() -> None:
    (fold,) = Table().folds(split_rows(["train"] * 20 + ["test"]), "official")
    assert (len(fold.train), len(fold.valid), fold.test) == (18, 2, ("u20",))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: Table().folds(split_rows(["train"]), "official"), "split"),
        (lambda: Table().folds(split_rows(["train"]), "cv"), "at least two"),
        (lambda: Table().folds([], "cvs"), "did you mean cv"),
        (lambda: Table().protocol("labels"), "did you mean label"),
    ],
)
def test_what_cannot_be_folded_or_labelled_says_why(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask()
