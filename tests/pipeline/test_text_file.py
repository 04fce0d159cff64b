"""Text that is not in the encoding it should be in is refused with its line; nothing is replaced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.text_file import decode

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"))


@given(words, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]))
def test_text_in_the_encoding_that_is_named_is_read_as_it_was_written(text, encoding):
    assert decode(text.encode(encoding), "a file", encoding) == text


@given(st.binary())
def test_any_bytes_are_read_or_refused_and_never_replaced(data):
    try:
        assert decode(data, "a file").encode() in (data, data[3:])
    except InputError as error:
        assert str(error).startswith("a file:")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"one\ntwo caf\xe9\n", "a file:2: not utf-8; it is likely cp1252"),
        (b"it\x92s fine, isn\x92t it\n", "a file:1: not utf-8; it is likely cp1252"),
        ("好\n很好".encode("gb18030"), "a file:1: not utf-8; it is likely gb18030"),
        ("ok".encode("utf-16-be"), "a file:1: not utf-8; it is likely utf-16-be"),
    ],
)
def test_a_refusal_names_the_first_line_and_the_likely_encoding(data, message):
    with pytest.raises(InputError, match=message):
        decode(data, "a file")


def test_a_damaged_file_of_the_encoding_that_is_named_is_called_damaged():
    with pytest.raises(InputError, match="damaged"):
        decode(b"\xff\xfea", "a file", "utf-16")


def test_half_of_a_character_is_refused_with_its_line():
    with pytest.raises(InputError, match=r"a file:2: '.ud83d' is half of a character"):
        decode(b"whole\n\\ud83d", "a file", "unicode_escape")
