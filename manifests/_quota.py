"""Decides which emotion each modality of the synthetic corpus shows: exact shares, filled by quota, not by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

EMOTIONS = ("hap", "sad", "neu", "ang", "exc", "fru")
MODALITIES = ("text", "audio", "visual")
SESSIONS = (1, 2, 3, 4, 5)
RELIABILITY = 0.65

_MISLED = (1 - RELIABILITY) / (len(EMOTIONS) - 1)


@dataclass(frozen=True, kw_only=True)
class Cue:
    """The true emotion of an utterance, and the one that each modality shows."""

    emotion: str
    shown: Mapping[str, str]


def generator(seed: int, name: str) -> np.random.Generator:
    """A generator that depends on both arguments and on no call before."""
    return np.random.default_rng([seed, *name.encode()])


def quota(per_cell: int, variant: int) -> tuple[int, int, int, int]:
    """The numbers of `per_cell` utterances in which all modalities are right, each pair, each single one, and none.

    Every modality is right in exactly round(.65 per_cell) of them. Of the quotas with this property, variant 0 is the
    nearest to independence and variant 1 the next: for 20 they are (5, 3, 2, 0) and (6, 3, 1, 2).
    """
    right = round(RELIABILITY * per_cell)
    p, q = RELIABILITY, 1 - RELIABILITY
    ideal = [per_cell * share for share in (p**3, p * p * q, p * q * q, q**3)]

    def distance(counts: tuple[int, int, int, int]) -> float:
        return sum(w * (n - i) ** 2 for w, n, i in zip((1, 3, 3, 1), counts, ideal, strict=True))

    pairs = product(range(right + 1), repeat=2)
    quotas = [(right - 2 * two - one, two, one, per_cell - right - two - 2 * one) for two, one in pairs]
    ranked = sorted((counts for counts in quotas if min(counts) >= 0), key=distance)
    return ranked[min(variant, len(ranked) - 1)]


def cues(per_cell: int, seed: int) -> dict[int, list[Cue]]:
    """By session, `per_cell` utterances of each emotion, in random order."""
    decks = {(m, e): _deck(m, e, per_cell, seed) for m in MODALITIES for e in EMOTIONS}
    sessions = {}
    for session in SESSIONS:
        rng = generator(seed, f"session {session}")
        cells = [_cell(session, i, per_cell, decks, rng) for i in range(len(EMOTIONS))]
        rows = [cue for cell in cells for cue in cell]
        sessions[session] = [rows[i] for i in rng.permutation(len(rows))]
    return sessions


def vote_accuracy(rows: Sequence[Cue]) -> float:
    """The accuracy of the best guess from the three cues; a tie counts by its expectation. Needs at least one row."""
    return sum(_vote(row) for row in rows) / len(rows)


def _vote(row: Cue) -> float:
    shown = [row.shown[m] for m in MODALITIES]
    support = {e: RELIABILITY ** shown.count(e) * _MISLED ** (len(shown) - shown.count(e)) for e in EMOTIONS}
    best = [e for e in EMOTIONS if support[e] == max(support.values())]
    return float(row.emotion in best) / len(best)


def _deck(modality: str, emotion: str, per_cell: int, seed: int) -> list[str]:
    """The wrong emotions that a modality shows over all sessions, each of the five equally often."""
    rng = generator(seed, f"{modality} {emotion}")
    others = [e for e in EMOTIONS if e != emotion]
    wrong = len(SESSIONS) * (per_cell - round(RELIABILITY * per_cell))
    blocks = [[others[i] for i in rng.permutation(len(others))] for _ in range(-(-wrong // len(others)))]
    return [e for block in blocks for e in block][:wrong]


def _cell(
    session: int, index: int, per_cell: int, decks: dict[tuple[str, str], list[str]], rng: np.random.Generator
) -> list[Cue]:
    emotion = EMOTIONS[index]
    right = _patterns(quota(per_cell, (session + index) % 2))
    rows: list[dict[str, str]] = [{} for _ in right]
    for place, modality in enumerate(MODALITIES):
        deck = decks[modality, emotion]
        share = len(deck) // len(SESSIONS)
        wrong = iter(rng.permutation(deck[(session - 1) * share : session * share]).tolist())
        for row, pattern in zip(rows, right, strict=True):
            row[modality] = emotion if pattern[place] else next(wrong)
    return [Cue(emotion=emotion, shown=row) for row in rows]


def _patterns(counts: tuple[int, int, int, int]) -> list[tuple[bool, ...]]:
    """For each utterance of a cell, whether each modality is right."""
    by_right = dict(zip((3, 2, 1, 0), counts, strict=True))
    return [pattern for pattern in product((True, False), repeat=3) for _ in range(by_right[sum(pattern)])]
