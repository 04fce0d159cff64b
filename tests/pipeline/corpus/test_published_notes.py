"""What a reader notes of single clips is shown, and no row is left out for it."""

from __future__ import annotations

from pipeline.corpus.published import note_line, notes
from pipeline.report.corpus_section import NOTES_SHOWN, notes_sheet
from pipeline.utterance import Utterance


def row(number: int, **labels: str | float) -> Utterance:
    return Utterance(id=f"u{number}", dialogue="d", turn=number, labels=labels)


ROWS = [row(0, emotion="joy"), row(1, windowed_s=304.9), row(2, known="no moov atom, MELD#39"), row(3, known="a, b")]


def test_clips_used_in_part_and_clips_with_known_faults_are_told_each_with_its_words() -> None:
    assert list(notes(ROWS)) == [
        ("u1", "used in part, annotated 304.9 s"),
        ("u2", "no moov atom, MELD#39"),
        ("u3", "a, b"),
    ]
    assert note_line(ROWS).startswith("3 clips have notes, 1 are used in part")


def test_a_corpus_without_remarks_says_nothing() -> None:
    assert note_line(ROWS[:1]) == "" and notes_sheet(ROWS[:1]) is None


def test_a_long_list_is_cut_and_says_by_how_much() -> None:
    found = notes_sheet([row(number, known="odd") for number in range(NOTES_SHOWN + 7)])
    assert found is not None and len(found.rows) == NOTES_SHOWN and found.note.startswith("7 more")
