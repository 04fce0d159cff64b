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
from pipeline.remark import Kind, Remark
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


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of a passage, and the number of its oldest turns that are not among them."""

    passage: Passage
    tokens: Encoding
    left_out: int = 0

    @property
    def ids(self) -> list[int]:
        """The number of each token, [T]."""
        return self.tokens.ids

    @property
    def own(self) -> NDArray[np.bool_]:
        """True for the first token, which represents the whole passage, and for the tokens of its text itself, [T]."""
        tokens = np.array(self.tokens.special_tokens_mask) == 0
        if self.passage.before is not None:
            ends = np.array([end for _, end in self.tokens.offsets])
            tokens = np.array([segment == 1 for segment in self.tokens.sequence_ids])
            tokens &= (ends > len(self.passage.name)) | (not self.passage.name)
        tokens[:1] = True
        return tokens

    @property
    def words(self) -> list[str]:
        """Of each own token the whole word, or "" if it goes on with the word before; the first token by its name."""
        said: list[str] = [self.tokens.tokens[0]]
        last = None
        for token in np.flatnonzero(self.own)[1:]:
            word = self.tokens.word_ids[token]
            said.append("" if word == last else self._word(word))
            last = word
        return said

    def _word(self, word: int) -> str:
        span = self.tokens.word_to_chars(word)
        return self.passage.text[slice(*span)].strip() if span else ""

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """On the end of the utterance, if it was cut off, and on the turns that were left out."""
        lost = sum(over.special_tokens_mask.count(0) for over in self.tokens.overflowing)
        cut = Remark(Kind.TEXT_CUT, lost, int(self.own[1:].sum()) + lost)
        left = Remark(Kind.TURNS_LEFT_OUT, self.left_out, len(self.passage.before or ()))
        return tuple(remark for remark in (cut, left) if remark.part)


def encode(tokenizer: Tokenizer, passage: Passage) -> Encoded:
    """The tokens of a passage, with special ones at the ends of its segments.

    The oldest turns are left out until the others fit; an utterance that is too long alone is truncated at its end.
    """
    if passage.before is None:
        return Encoded(passage, tokenizer.encode(passage.text))
    for first in range(len(passage.before)):
        tokens = tokenizer.encode(" ".join(passage.before[first:]), passage.written)
        if not tokens.overflowing:
            return Encoded(passage, tokens, first)
    return Encoded(passage, tokenizer.encode("", passage.written), len(passage.before))


def _name(turn: Turn) -> str:
    speaker = normalise(turn.speaker or "", tags="keep")
    return f"{speaker.upper()}: " if speaker else ""
