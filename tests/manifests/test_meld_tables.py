"""The MELD reader on the real tables of its release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from manifests._meld import FOLDERS, KNOWN, TABLES
from manifests.meld import EMOTIONS, Meld
from pipeline.dialogue import Dialogues
from pipeline.utterance import Utterance, in_order
from tests.manifests.meld_files import path

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


def test_real_dialogues_are_in_the_order_of_their_utterance_ids_also_where_start_times_disagree(
    real: list[Utterance],
) -> None:
    dialogues: dict[str, list[Utterance]] = {}
    for row in in_order(real):
        dialogues.setdefault(row.dialogue, []).append(row)
    numbers = {name: [int(row.id.rpartition("utt")[2]) for row in rows] for name, rows in dialogues.items()}
    assert all(found == sorted(found) for found in numbers.values())
    times = {name: [row.start_s for row in rows] for name, rows in dialogues.items()}
    disagree = [name for name, found in times.items() if found != sorted(found)]
    assert len(disagree) == 31
    for row in real:
        before = Dialogues(dialogues[row.dialogue]).before(row.id, 3)
        assert [turn.turn for turn in before] == [n for n in numbers[row.dialogue] if n < row.turn][-3:]


def test_real_folds_by_dialogue_are_of_nearly_equal_size(real: list[Utterance]) -> None:
    sizes = [len(fold.test) for fold in Meld().folds(real, "cv")]
    assert len(sizes) == 5 and max(sizes) - min(sizes) <= 2


@pytest.mark.slow
def test_the_real_tables_are_scanned_with_every_clip_in_place(kit: Path, tmp_path: Path) -> None:
    rows = Meld().scan(kit / "meld")
    for name in TABLES.values():
        (tmp_path / name).write_bytes((kit / "meld" / name).read_bytes())
    for folder in FOLDERS.values():
        (tmp_path / "MELD.Raw" / folder).mkdir(parents=True)
    for row in rows:
        (tmp_path / "MELD.Raw" / path(row)).touch()
    again = Meld().scan(tmp_path)
    assert [replace(row, audio=(), video=()) for row in again] == [replace(row, audio=(), video=()) for row in rows]
    assert {path(row).rpartition("/")[0] for row in again} == {f"MELD.Raw/{folder}" for folder in FOLDERS.values()}
