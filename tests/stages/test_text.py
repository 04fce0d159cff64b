"""How text is normalised and cut into words."""

from __future__ import annotations

import time

import pytest

from stages._text import Case, Tags, normalise, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I\N{RIGHT SINGLE QUOTATION MARK}m", "I'm"),
        ("I\x92m", "I'm"),
        ("\x93yes\x94\x85", '"yes"...'),
        ("\N{LEFT DOUBLE QUOTATION MARK}Fine\N{RIGHT DOUBLE QUOTATION MARK}", '"Fine"'),
        ("wait\N{EM DASH}what", "wait - what"),
        ("1990\N{EN DASH}95", "1990-95"),
        ("so\N{HORIZONTAL ELLIPSIS}", "so..."),
        ("  two\t\nlines\N{NO-BREAK SPACE} here ", "two lines here"),
        ("cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("\N{ZERO WIDTH NO-BREAK SPACE}a\N{SOFT HYPHEN}b\0", "ab"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_typography_and_white_space_become_plain(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("drop", "No. Stop it"),
        ("keep", "[LAUGHTER] No. [TALKING OVER]Stop it"),
        ("token", "[laughter] No. [talking_over] Stop it"),
    ],
)
def test_tags_are_dropped_kept_as_written_or_made_one_word(tags: Tags, expected: str) -> None:
    assert normalise("[LAUGHTER] No. [TALKING OVER]Stop it", tags=tags) == expected


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("keep", "I'M SO SAD. IS IT OVER? I"),
        ("lower", "i'm so sad. is it over? i"),
        ("truecase", "I'm so sad. Is it over? I"),
    ],
)
def test_capitals_are_kept_lowered_or_given_sentence_case(case: Case, expected: str) -> None:
    assert normalise("I'M SO SAD. IS IT OVER? I", case) == expected


def test_truecase_leaves_a_text_that_has_lower_case_letters() -> None:
    assert normalise("Oh MY God", "truecase") == "Oh MY God"


@pytest.mark.parametrize("tags", ["keep", "token"])
def test_truecase_starts_a_sentence_behind_a_tag(tags: Tags) -> None:
    assert normalise("[SIGH] OH NO", "truecase", tags).endswith("] Oh no")


def test_normalising_twice_changes_nothing_more() -> None:
    once = normalise("\x93OH\x94 \N{EM DASH} [TALKING OVER] NO\N{HORIZONTAL ELLIPSIS}", "truecase", "token")
    assert normalise(once, "truecase", "token") == once


def test_a_long_run_of_brackets_takes_no_time() -> None:
    began = time.perf_counter()
    normalise("[]" * 20_000, "truecase", "keep")
    assert time.perf_counter() - began < 2


def test_words_keep_contractions_tags_and_the_marks_that_carry_emotion() -> None:
    text = "Don't \"stop\", rock'n'roll: well-known... [talking_over] WHAT?! 3.5 'no'"
    assert tokens(text) == [
        *("Don't", "stop", "rock'n'roll", "well", "known", "...", "[talking_over]", "WHAT", "?", "!", "3", "5", "no")
    ]


@pytest.mark.parametrize(
    "text", ["हिन्दी में", "مَرحَبًا بِكُم", "ภาษาไทย นี้", "İstanbul’da".lower().replace("’", " "), "Việt Nam"], ids=range(5)
)
def test_marks_that_belong_to_letters_do_not_cut_words(text: str) -> None:
    assert tokens(normalise(text)) == normalise(text).split()


@pytest.mark.parametrize("text", ["", "-- , ;", "\N{FACE WITH TEARS OF JOY}"])
def test_a_text_without_words_has_no_tokens(text: str) -> None:
    assert tokens(text) == []
