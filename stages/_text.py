r"""Text as the stages of text see it: normalised (decision X14) and cut into words.

`normalise` always repairs typography: bytes of Windows-1252 that were read as Latin-1 (\x92 for an apostrophe) become
what they meant; curly quotes, primes and dashes become their ASCII form, an ellipsis three dots; composed and
decomposed accents become composed; invisible characters are dropped; white space is folded to single blanks.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Case = Literal["keep", "lower", "truecase"]
Tags = Literal["drop", "keep", "token"]

_STRAIGHT = {"‘’‚‛′`´": "'", "“”„‟″«»": '"', "‐‑‒–−": "-", "—―": " - ", "…": "...", "\u200b\u2060\ufeff\xad\0": ""}
_TYPOGRAPHY = {ord(char): plain for chars, plain in _STRAIGHT.items() for char in chars}
_CP1252 = {code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}
_TAG = re.compile(r"\[([^\[\]]+)\]")
_SENTENCE_START = re.compile(r"(?:^|[.?!]\s+)(?:\[[^\[\]]*\]|[^\w\[])*\w")
_FIRST_PERSON = re.compile(r"\bi\b")
_WORD = re.compile(r"[^\W_]+")
_TOKEN = re.compile(r"\[\w+\]|[^\W_]+(?:'[^\W_]+)*|\.{3}|[?!]")


def normalise(text: str, case: Case = "keep", tags: Tags = "drop") -> str:
    """Repairs typography, then treats tags such as `[LAUGHTER]`, then case. May return the empty string.

    tags: `drop` removes them; `keep` leaves them as written, a part of the text like any other; `token` makes each one
    word in lower case with its brackets (`[TALKING OVER]` becomes `[talking_over]`), whatever `case` does to the rest.
    case: `truecase` is for corpora in capitals and simple: a text without a lower-case letter gets sentence case (lower
    case but for the first letter of each sentence and the word I; names are lost), any other is left as it is.
    """
    text = _straighten(text)
    text = _cased(_TAG.sub(" ", text) if tags == "drop" else text, case)
    return " ".join((_TAG.sub(_tag_token, text) if tags == "token" else text).split())


def tokens(text: str) -> list[str]:
    """The words of a normalised text, in order, contractions in one piece (`don't`), hyphenated words in their parts.

    A run of letters and digits is a word; so are a tag in brackets (`[laughter]`), `?`, `!` and `...`, which carry
    emotion. Other punctuation is dropped.
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
