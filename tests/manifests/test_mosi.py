"""The MOSI reader: the raw release and MMSA's copy, where they may stand, labels, folds, and what is refused."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from manifests._sentiment import published, release_folders, rounded
from manifests.mosi import Mosi
from pipeline.corpus import manifest
from pipeline.corpus.recipe_file import read_recipe
from pipeline.errors import InputError
from pipeline.utterance import Audio, Utterance, Video

RECIPE = Path(__file__).parents[2] / "manifests" / "mosi.toml"
TRAIN, VALID, TEST = "03bSnISJMiM", "_dI--eQ6qVU", "f_pcplsH_V0"
COLUMNS = ("video_id", "clip_id", "text", "label", "label_T", "label_A", "label_V", "annotation", "mode")
OTHER_ORDER = ("video_id", "clip_id", "text", "label", "annotation", "mode", "label_T", "label_A", "label_V")
Segments = Sequence[tuple[str, float, float, float]]
ONE: Mapping[str, Segments] = {TRAIN: [("ANYHOW IT WAS REALLY GOOD", 0.3, 4.34, 2.4)]}


def write_raw(root: Path, videos: Mapping[str, Segments] = ONE, raw: str = "Raw", labels: str = "Labels") -> Path:
    """Segments of each video as (text, start, end, label), numbered from 1; media are not written."""
    folder = root / raw / "Transcript/Segmented"
    folder.mkdir(parents=True)
    rows = []
    for video, segments in videos.items():
        said = [f"{n}_DELIM_{text}\n" for n, (text, *_) in enumerate(segments, start=1)]
        (folder / f"{video}.annotprocessed").write_text("".join(said))
        rows += [f"{start},{end},{video},{n},{label}\n" for n, (_, start, end, label) in enumerate(segments, start=1)]
    (root / labels).mkdir(parents=True)
    (root / labels / "OpinionLevelSentiment.csv").write_text("".join(rows))
    return root


def clip(video: str = TRAIN, number: str = "0001", mode: str = "train", **cells: str) -> dict[str, str]:
    row = {
        "video_id": video,
        "clip_id": number,
        "text": "A LOT OF SAD PARTS",
        "label": "-0.5",
        "annotation": "Negative",
    }
    return dict.fromkeys(COLUMNS, "") | row | {"mode": mode} | cells


def write_mmsa(root: Path, rows: Sequence[Mapping[str, str]] = (), columns: Sequence[str] = COLUMNS) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "label.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows or [clip()])
    return root


def scan(root: Path) -> dict[str, Utterance]:
    return {row.id: row for row in Mosi().scan(root)}


def problems(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        Mosi().scan(root)
    return str(caught.value)


# --- the raw release -------------------------------------------------------------------------------------------


def test_a_segment_joins_its_line_its_files_and_its_label(tmp_path: Path) -> None:
    assert Mosi().scan(write_raw(tmp_path)) == [
        Utterance(
            id="03bSnISJMiM_1",
            dialogue=TRAIN,
            turn=1,
            text="ANYHOW IT WAS REALLY GOOD",
            audio=Audio(path="Raw/Audio/WAV_16000/Segmented/03bSnISJMiM_1.wav"),
            video=Video(path="Raw/Video/Segmented/03bSnISJMiM_1.mp4"),
            start_s=0.3,
            end_s=4.34,
            split="train",
            labels={"sentiment": 2.4},
        )
    ]


def test_segments_are_cut_by_file_not_by_the_interval_of_the_label_which_does_not_fit_it(tmp_path: Path) -> None:
    row = scan(write_raw(tmp_path))["03bSnISJMiM_1"]
    assert row.audio and (row.audio.start_s, row.audio.end_s) == (None, None)
    assert row.video and (row.video.start_s, row.video.end_s) == (None, None)
    assert (row.start_s, row.end_s) == (0.3, 4.34)


def test_stereo_files_are_mixed_not_read_from_one_channel(tmp_path: Path) -> None:
    row = scan(write_raw(tmp_path))["03bSnISJMiM_1"]
    assert row.audio and row.audio.channel is None


@pytest.mark.parametrize("video", ["_dI--eQ6qVU", "f_pcplsH_V0", "-3g5yACwYnA", "a_b_"])
def test_a_video_may_hold_or_begin_with_underscores_and_dashes(tmp_path: Path, video: str) -> None:
    (row,) = Mosi().scan(write_raw(tmp_path, {video: [("WELL", 0.0, 1.0, 1.0)]}))
    assert (row.id, row.dialogue, row.id.rsplit("_", 1)) == (f"{video}_1", video, [video, "1"])
    assert row.audio and row.audio.path.endswith(f"/{video}_1.wav")


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
    assert row.video and row.video.path == str(Path(raw) / "Video/Segmented/03bSnISJMiM_1.mp4")


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


# --- MMSA's copy -----------------------------------------------------------------------------------------------


def test_a_row_of_the_copy_is_a_clip_with_its_own_sound(tmp_path: Path) -> None:
    assert Mosi().scan(write_mmsa(tmp_path)) == [
        Utterance(
            id="03bSnISJMiM_0001",
            dialogue=TRAIN,
            turn=1,
            text="A LOT OF SAD PARTS",
            audio=Audio(path="Raw/03bSnISJMiM/0001.mp4"),
            video=Video(path="Raw/03bSnISJMiM/0001.mp4"),
            split="train",
            labels={"sentiment": -0.5, "annotation": "Negative"},
        )
    ]


def test_columns_are_found_by_name_whatever_their_order(tmp_path: Path) -> None:
    orders = [COLUMNS, OTHER_ORDER, tuple(reversed(COLUMNS))]
    rows = [Mosi().scan(write_mmsa(tmp_path / str(n) / "MOSI", columns=order)) for n, order in enumerate(orders)]
    assert rows[0] == rows[1] == rows[2]


def test_a_clips_leading_zeros_are_part_of_its_name(tmp_path: Path) -> None:
    rows = scan(write_mmsa(tmp_path, [clip(number="0001"), clip(number="1"), clip(number="10")]))
    assert {name: row.turn for name, row in rows.items()} == {f"{TRAIN}_0001": 1, f"{TRAIN}_1": 1, f"{TRAIN}_10": 10}
    assert [row.video.path for row in rows.values() if row.video][0] == "Raw/03bSnISJMiM/0001.mp4"


@pytest.mark.parametrize("text", ["NA", "null", "nan", "N/A", "123", "a, b\nc"])
def test_a_text_is_never_taken_for_an_unknown_value_or_a_number(tmp_path: Path, text: str) -> None:
    (row,) = Mosi().scan(write_mmsa(tmp_path, [clip(text=text)]))
    assert row.text == text


@pytest.mark.parametrize(("mode", "split"), [("train", "train"), ("valid", "valid"), ("validation", "valid")])
def test_the_mode_is_the_split_and_validation_is_valid(tmp_path: Path, mode: str, split: str) -> None:
    (row,) = Mosi().scan(write_mmsa(tmp_path, [clip("somebody", mode=mode)]))
    assert row.split == split


def test_labels_of_single_modalities_are_kept_where_they_are_filled(tmp_path: Path) -> None:
    full = clip(number="2", label_T="0.2", label_A="-1", label_V="0")
    blank, filled = Mosi().scan(write_mmsa(tmp_path, [clip(), full]))
    assert not {"label_T", "label_A", "label_V"} & set(blank.labels)
    assert (filled.labels["label_T"], filled.labels["label_A"], filled.labels["label_V"]) == (0.2, -1.0, 0.0)


def test_a_mode_other_than_the_published_part_of_the_video_is_refused(tmp_path: Path) -> None:
    rows = [clip(TRAIN, mode="test"), clip(TEST, mode="test"), clip("new", mode="train"), clip("new", "2", "valid")]
    message = problems(write_mmsa(tmp_path, rows))
    assert [line.split(": ")[0] for line in message.splitlines()] == ["label.csv:2", "label.csv:5"]


def test_a_headerless_table_is_told_which_columns_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text("video_0001,0001,text,0.5,,,,Positive,train\n")
    assert "label.csv:1: no column 'video_id'" in problems(tmp_path)


def test_every_malformed_row_of_the_copy_is_listed(tmp_path: Path) -> None:
    wrong = [{"label": "4"}, {"label": "good"}, {"clip_id": "x"}, {"video_id": ".."}, {"mode": "dev"}, {"mode": ""}]
    rows = [clip("v", str(n)) | cells for n, cells in enumerate([*wrong, {"clip_id": "../1"}])]
    message = problems(write_mmsa(tmp_path, rows))
    assert {line.split(": ")[0] for line in message.splitlines()} == {f"label.csv:{n}" for n in range(2, 9)}


# --- where it stands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["MOSI", "CMU_MOSI", "CMU-MOSI", "mosi", "cmu mosi"])
def test_either_layout_may_stand_in_a_folder_called_after_the_corpus(tmp_path: Path, folder: str) -> None:
    for name, write in (("raw", write_raw), ("copy", write_mmsa)):
        write(tmp_path / name / folder)
        (row,) = Mosi().scan(tmp_path / name)
        assert row.video and row.video.path.startswith(f"{folder}/Raw/")


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


# --- labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentiment", "sign", "below", "seven"),
    [
        (-3.0, 0, 0, 0),
        (-2.5, 0, 0, 1),
        (-0.5, 0, 0, 3),
        (-0.2, 0, 0, 3),
        (0.0, None, 1, 3),
        (0.5, 1, 1, 3),
        (0.6, 1, 1, 4),
        (1.5, 1, 1, 5),
        (2.5, 1, 1, 5),
        (2.6, 1, 1, 6),
    ],
)
def test_protocols_are_made_from_the_sentiment(sentiment: float, sign: int | None, below: int, seven: int) -> None:
    row = Utterance(id="u", dialogue="d", turn=0, labels={"sentiment": sentiment})
    expected = {"sentiment": sentiment, "sentiment2": sign, "sentiment2_nonneg": below, "sentiment7": seven}
    assert {name: Mosi().protocol(name).of(row) for name in Mosi.labels} == expected


def test_seven_classes_are_rounded_as_numpy_rounds() -> None:
    values = np.linspace(-3, 3, 121)
    assert [rounded(float(value)) for value in values] == np.round(values).astype(int).tolist()


def test_no_protocol_keeps_a_row_without_sentiment() -> None:
    row = Utterance(id="u", dialogue="d", turn=0)
    assert {labels.of(row) for labels in Mosi.labels.values()} == {None}


# --- folds -----------------------------------------------------------------------------------------------------


def test_the_published_folds_are_52_10_and_31_videos_and_disjoint() -> None:
    lines = (RECIPE.parent / "mosi_folds.csv").read_text().splitlines()
    assert Counter(published("mosi").values()) == {"train": 52, "valid": 10, "test": 31}
    assert len(lines) == 1 + len(published("mosi")) == 94
    assert (published("mosi")[TRAIN], published("mosi")[VALID], published("mosi")[TEST]) == ("train", "valid", "test")


def spread(videos: Sequence[str]) -> dict[str, Segments]:
    return {video: [("A", 0.0, 1.0, 1.0), ("B", 1.0, 2.0, -1.0)] for video in videos}


def test_official_folds_are_those_of_the_videos_and_others_are_in_none(tmp_path: Path) -> None:
    rows = Mosi().scan(write_raw(tmp_path, spread([TRAIN, VALID, TEST, "stranger"])))
    (fold,) = Mosi().folds(rows, "official")
    assert fold.train == (f"{TRAIN}_1", f"{TRAIN}_2")
    assert fold.valid == (f"{VALID}_1", f"{VALID}_2")
    assert fold.test == (f"{TEST}_1", f"{TEST}_2")
    assert "stranger_1" in {row.id for row in rows}


def test_official_folds_of_the_copy_follow_its_modes(tmp_path: Path) -> None:
    modes = ["train", "validation", "test", "train"]
    rows = Mosi().scan(write_mmsa(tmp_path, [clip(f"v{n}", mode=mode) for n, mode in enumerate(modes)]))
    (fold,) = Mosi().folds(rows, "official")
    assert (fold.train, fold.valid, fold.test) == (("v0_0001", "v3_0001"), ("v1_0001",), ("v2_0001",))


def test_an_official_split_without_a_part_names_it(tmp_path: Path) -> None:
    rows = Mosi().scan(write_raw(tmp_path, spread([TRAIN])))
    with pytest.raises(InputError, match="none of valid, test"):
        Mosi().folds(rows, "official")


def test_cross_validation_has_five_folds_of_whole_videos(tmp_path: Path) -> None:
    rows = Mosi().scan(write_raw(tmp_path, spread(sorted(published("mosi"))[:20])))
    folds = Mosi().folds(rows, "cv")
    tested = [{name.rsplit("_", 1)[0] for name in fold.test} for fold in folds]
    assert [len(videos) for videos in tested] == [4] * 5 and len(set.union(*tested)) == 20


# --- the whole -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_raw, write_mmsa])
def test_either_layout_makes_a_manifest(tmp_path: Path, write: object) -> None:
    assert callable(write)
    found = manifest.build(Mosi(), write(tmp_path / "root"), tmp_path / "memory")
    assert [row.audio.digest for row in found.rows if row.audio] == ["missing"]


def test_the_recipe_is_read_and_has_the_papers_values(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPE, root=str(tmp_path), memory=tmp_path / "memory", home=tmp_path / "home")
    mulg = recipe.train["mulg"]
    assert (mulg["epochs"], mulg["batch_size"], mulg["embed_dropout"], mulg["out_dropout"]) == (100, 128, 0.2, 0.1)
    assert {name: view.align.length for name, view in recipe.features["hjcag"].items()} == dict.fromkeys(
        ("text", "audio", "visual"), 30
    )
