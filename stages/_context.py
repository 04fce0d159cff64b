"""Utterances with the turns before them, as a text encoder reads them.

Source: EmoBERTa (Kim and Vossen 2021, arXiv:2108.12009), with past turns only:

    <s>JOEY: Hey. MONICA: Why?</s></s>JOEY: Because.</s>

The turns before are the first segment, oldest first, and the utterance is the second. Each begins with its speaker's
name in capitals. An utterance without a turn before it has an empty first segment. Of turns that are too long together,
the oldest are left out whole. EmoBERTa writes common first names for the actors of IEMOCAP; here they are named as in
the corpus. The segments are separated by the tokenizer's own special tokens, and all tokens are of one type.

This module needs no torch, so that a recipe can be checked without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.dialogue import Turn
from stages._text import normalise

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


@dataclass(frozen=True, slots=True)
class Passage:
    """A text, "" for none. name: what is written before it. before: the earlier turns in order, None for no context."""

    text: str
    name: str = ""
    before: tuple[str, ...] | None = None

    @classmethod
    def of(cls, turns: Sequence[Turn], normalised: Callable[[str], str]) -> Passage:
        """The last of the turns with the others before it, each by its speaker; turns without a text are left out."""
        *before, own = turns
        said = [(_name(turn), normalised(turn.text)) for turn in before]
        return cls(normalised(own.text), _name(own), tuple(f"{name}{text}" for name, text in said if text))

    @property
    def written(self) -> str:
        """The text after its speaker's name."""
        return f"{self.name}{self.text}"


def encode(tokenizer: Tokenizer, passage: Passage) -> Encoding:
    """The tokens of a passage, with special ones at the ends of its segments.

    The oldest turns are left out until the others fit; an utterance that is too long alone is truncated at its end.
    """
    if passage.before is None:
        return tokenizer.encode(passage.text)
    for first in range(len(passage.before)):
        encoding = tokenizer.encode(" ".join(passage.before[first:]), passage.written)
        if not encoding.overflowing:
            return encoding
    return tokenizer.encode("", passage.written)


def own(encoding: Encoding, passage: Passage) -> NDArray[np.bool_]:
    """True for the first token, which represents the whole passage, and for the tokens of its text itself, [T]."""
    tokens = np.array(encoding.special_tokens_mask) == 0
    if passage.before is not None:
        ends = np.array([end for _, end in encoding.offsets])
        tokens = np.array([segment == 1 for segment in encoding.sequence_ids])
        tokens &= (ends > len(passage.name)) | (not passage.name)
    tokens[:1] = True
    return tokens


def lost(encoding: Encoding) -> int:
    """How many tokens of the utterance itself were cut off at its end; turns that were left out are not counted."""
    return sum(over.special_tokens_mask.count(0) for over in encoding.overflowing)


def _name(turn: Turn) -> str:
    speaker = normalise(turn.speaker or "", tags="keep")
    return f"{speaker.upper()}: " if speaker else ""
