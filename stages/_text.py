r"""Normalises transcripts (decision X14) and cuts them into words.

`normalise` always repairs typography. Bytes of Windows-1252 that were read as Latin-1 (\x92 for an apostrophe) become
the characters they stand for; curly quotes, primes and dashes become ASCII, and an ellipsis three dots; decomposed
accents are composed; invisible characters are dropped; runs of white space become single blanks.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

import regex

Case = Literal["keep", "lower", "truecase"]
Tags = Literal["drop", "keep", "token"]

_STRAIGHT = {"‘’‚‛′`´": "'", "“”„‟″«»": '"', "‐‑‒–−": "-", "—―": " - ", "…": "...", "\u200b\u2060\ufeff\xad\0": ""}
_TYPOGRAPHY = {ord(char): plain for chars, plain in _STRAIGHT.items() for char in chars}
_CP1252 = {code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}
_TAG = re.compile(r"\[([^\[\]]+)\]")
_SENTENCE_START = re.compile(r"(?:^|[.?!]\s+)(?:\[[^\[\]]*\]|[^\w\[])*\w")
_FIRST_PERSON = re.compile(r"\bi\b")
_WORD = regex.compile(
    r"[^\W_]+"
)  # unlike re's, its \w has the marks that Hindi, Thai or vowelled Arabic write letters with
_TOKEN = regex.compile(r"\[\w+\]|[^\W_]+(?:'[^\W_]+)*|\.{3}|[?!]")


def normalise(text: str, case: Case = "keep", tags: Tags = "drop") -> str:
    """Repairs typography, then handles tags such as `[LAUGHTER]`, then case. May return the empty string.

    tags: `drop` removes them; `keep` leaves them in the text as written; `token` turns each into one word in lower case
    with its brackets (`[TALKING OVER]` becomes `[talking_over]`), whatever `case` is. case: `truecase` is a simple rule
    for corpora in capitals: a text without a lower-case letter gets sentence case (only the first letter of each
    sentence and the word I are capitals; names lose theirs), and any other text stays as it is.
    """
    text = _straighten(text)
    text = _cased(_TAG.sub(" ", text) if tags == "drop" else text, case)
    return " ".join((_TAG.sub(_tag_token, text) if tags == "token" else text).split())


def tokens(text: str) -> list[str]:
    """The words of a normalised text, in order.

    A word is a run of letters, with the marks that belong to them, and digits. A contraction (`don't`) is one word, a
    hyphenated word several. A tag in brackets (`[laughter]`), `?`, `!` and `...` are words too, since they carry
    emotion; other punctuation is dropped.
    """
    return _TOKEN.findall(text)


def _straighten(text: str) -> str:
    return unicodedata.normalize("NFC", text.translate(_CP1252).translate(_TYPOGRAPHY))


def _tag_token(tag: re.Match[str]) -> str:
    return f" [{'_'.join(_WORD.findall(tag[1].lower()))}] "


def _cased(text: str, case: Case) -> str:
    if case == "lower":
        return text.lower()
    return _sentence_case(text.lower()) if case == "truecase" and text.upper() == text else text


def _sentence_case(text: str) -> str:
    return _FIRST_PERSON.sub("I", _SENTENCE_START.sub(lambda start: start[0].upper(), text))
