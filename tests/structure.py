"""Sets of features with a known structure: what has to be made of the modalities together, and what adding them gives.

Each set is drawn from a seed, and knows for every row the exact posterior of the label: given what one modality shows,
and given all of them. So the best that adding log probabilities can reach is known for the very rows that are tested.

Shapes: N rows, T steps, D features of a modality, K classes. `shown` is what the first features of each step show;
noise is added to them, too little to hide it, and `MORE` features are noise alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from pipeline.corpus.recipe import Align
from pipeline.model import MODALITIES
from pipeline.reader import Fold
from pipeline.stage import Target, Track
from pipeline.train.train_fold import TrainRequest
from pipeline.views.view import write_column

Array = NDArray[Any]

MORE, NOISE = 2, 0.15
ROWS = 2400
"""Half of the rows are for training, a sixth for validation, a third for the test."""
NEVER = -30.0
"""The log posterior of a class that is impossible."""


@dataclass(frozen=True)
class StructureSet:
    """One set. tracks: modality -> a track of each row. align: modality -> how it is brought to its length.

    labels: [N]. alone: modality -> [N, K], the log posterior given this modality. together: [N, K], given all.
    """

    tracks: Mapping[str, list[Track]]
    align: Mapping[str, Align]
    labels: Array
    alone: Mapping[str, Array]
    together: Array

    @property
    def classes(self) -> int:
        return self.together.shape[1]

    @property
    def target(self) -> Target:
        return Target("multiclass", tuple("abcdefgh"[: self.classes]))

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"u{row:05}" for row in range(len(self.labels)))

    @property
    def fold(self) -> Fold:
        first, second = len(self.ids) // 2, len(self.ids) * 2 // 3
        return Fold("made", self.ids[:first], self.ids[first:second], self.ids[second:])

    def best(self, log_posteriors: Array) -> float:
        """The accuracy on the test rows of whoever takes the likeliest class; of several, each counts its share."""
        test = slice(len(self.labels) * 2 // 3, None)
        scores, labels = log_posteriors[test], self.labels[test]
        likeliest = scores >= scores.max(axis=1, keepdims=True) - 1e-6  # [N, K]
        return float((likeliest[np.arange(len(labels)), labels] / likeliest.sum(axis=1)).mean())

    def additive(self) -> float:
        """The accuracy on the test rows of the sum of the modalities' exact log posteriors: late fusion at its best."""
        return self.best(np.sum(list(self.alone.values()), axis=0))

    def write(self, directory: Path) -> dict[str, Path]:
        """Writes the columns of a view: modality -> its directory."""
        for m, tracks in self.tracks.items():
            write_column(directory / m, enumerate(tracks), len(tracks), self.align[m], tracks[0].values.shape[1])
        return {m: directory / m for m in self.tracks}

    def request(self, columns: Mapping[str, Path], **more: Any) -> TrainRequest:
        """The request to train on this set; `more` names at least the model, its run and the digest."""
        given: dict[str, Any] = dict(
            config={},
            training={},
            ids=self.ids,
            columns=columns,
            labels=dict(zip(self.ids, self.labels.tolist(), strict=True)),
            target=self.target,
            fold=self.fold,
            speakers={},
            seed=0,
            device="cpu",
        )
        return TrainRequest(**{**given, **more})


# --- what the sets share ---------------------------------------------------------------------------------------


def _balanced(rng: np.random.Generator, rows: int, classes: int) -> Array:
    """Labels [N], of each class as many as of any other, one more at most."""
    return rng.permutation(np.arange(rows) % classes)


def _signs(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(0, 2, shape) * 2 - 1


def _log(posteriors: Array) -> Array:
    return np.log(np.maximum(posteriors, np.exp(NEVER)))


def _nothing(rows: int, classes: int) -> Array:
    """The log posterior [N, K] of whoever sees nothing."""
    return np.full((rows, classes), -np.log(classes))


def _tracks(rng: np.random.Generator, shown: Array) -> list[Track]:
    """Tracks whose first features are `shown`, [N, T, D - MORE]."""
    beside = np.zeros((*shown.shape[:2], MORE))
    values = np.concatenate([shown, beside], axis=2)
    return [Track.of(row) for row in (values + rng.standard_normal(values.shape) * NOISE).astype(np.float32)]


def _made(rng: np.random.Generator, shown: Mapping[str, Array], labels: Array, **log_posteriors: Any) -> StructureSet:
    """A set whose modalities have as many steps as are `shown`: modality -> [N, T, d]; others have noise."""
    steps = next(iter(shown.values())).shape[1]
    of = {m: shown.get(m, np.zeros((len(labels), steps, 0))) for m in MODALITIES}
    align = dict.fromkeys(MODALITIES, Align("pad", steps))
    return StructureSet({m: _tracks(rng, of[m]) for m in MODALITIES}, align, labels, **log_posteriors)


def _every_step(vectors: Array, steps: int) -> Array:
    """Vectors [N, d] -> [N, T, d], the same at each step."""
    return np.repeat(vectors[:, None], steps, axis=1)


# --- the sets --------------------------------------------------------------------------------------------------


def xor(seed: int, rows: int = ROWS, steps: int = 4) -> StructureSet:
    """Text and audio each show a sign, at every step the same, and the label says whether the two are equal."""
    rng = np.random.default_rng(seed)
    labels, text = _balanced(rng, rows, 2), _signs(rng, rows)
    audio = np.where(labels == 1, text, -text)
    shown = {"text": _every_step(text[:, None], steps), "audio": _every_step(audio[:, None], steps)}
    alone = dict.fromkeys(MODALITIES, _nothing(rows, 2))
    return _made(rng, shown, labels, alone=alone, together=_log(np.eye(2)[labels]))


def _voting(seed: int, rows: int, steps: int, told_by: Mapping[str, str], right: float = 0.95) -> StructureSet:
    """Each modality votes for one of four classes: for the true one with probability `right` if it is reliable, as in
    half of the rows, and at random if not. told_by: modality -> the modality that shows a sign of its reliability."""
    rng, k = np.random.default_rng(seed), 4
    labels = _balanced(rng, rows, k)
    reliable = {m: rng.random(rows) < 0.5 for m in MODALITIES}
    knows = {m: reliable[m] & (rng.random(rows) < (right * k - 1) / (k - 1)) for m in MODALITIES}
    votes = {m: np.where(knows[m], labels, rng.integers(0, k, rows)) for m in MODALITIES}
    signs = {told_by[m]: np.where(reliable[m], 1.0, -1.0)[:, None] for m in MODALITIES}
    shown = {m: _every_step(np.concatenate([np.eye(k)[votes[m]], signs[m]], axis=1), steps) for m in MODALITIES}
    told = {m: _of_vote(votes[m], np.where(reliable[m], right, 1 / k)) for m in MODALITIES}
    untold = {m: _of_vote(votes[m], np.full(rows, (right + 1 / k) / 2)) for m in MODALITIES}
    alone = {m: (told if told_by[m] == m else untold)[m] for m in MODALITIES}
    return _made(rng, shown, labels, alone=alone, together=np.sum(list(told.values()), axis=0))


def _of_vote(votes: Array, right: Array) -> Array:
    """The log posterior [N, 4] given votes [N] that are true with probability right [N]."""
    return _log(np.where(np.eye(4)[votes] == 1, right[:, None], (1 - right[:, None]) / 3))


def own_reliability(seed: int, rows: int = ROWS, steps: int = 4) -> StructureSet:
    """Three votes for one of four classes, of which each shows whether it is reliable: adding them is the best."""
    return _voting(seed, rows, steps, {m: m for m in MODALITIES})


def told_reliability(seed: int, rows: int = ROWS, steps: int = 4) -> StructureSet:
    """Three votes for one of four classes, of which another modality shows whether it is reliable."""
    return _voting(seed, rows, steps, {"text": "audio", "audio": "visual", "visual": "text"})


def pointer(seed: int, rows: int = ROWS, steps: int = 4) -> StructureSet:
    """Text shows a key and one of four classes at each step, audio the key of the step whose class is the label."""
    rng, k = np.random.default_rng(seed), 4
    labels, classes = _balanced(rng, rows, k), rng.integers(0, k, (rows, steps))
    keys = rng.permuted(np.tile(np.arange(steps), (rows, 1)), axis=1)  # [N, T]
    wanted, every = rng.integers(0, steps, rows), np.arange(rows)
    classes[every, wanted] = labels
    text = np.concatenate([np.eye(steps)[keys], np.eye(k)[classes]], axis=2)
    audio = _every_step(np.eye(steps)[keys[every, wanted]], steps)
    counted = np.eye(k)[classes].mean(axis=1)  # [N, K]
    alone = {m: _log(counted) if m == "text" else _nothing(rows, k) for m in MODALITIES}
    return _made(rng, {"text": text, "audio": audio}, labels, alone=alone, together=_log(np.eye(k)[labels]))


def lagged(seed: int, lag: int, rows: int = ROWS, steps: int = 8, agree: float = 0.9) -> StructureSet:
    """Text shows a random sign at each step, and audio shows it `lag` steps later: as it was with probability `agree`
    if the label is 1, turned with that probability if it is 0. Audio's first signs are random."""
    rng = np.random.default_rng(seed)
    labels, text = _balanced(rng, rows, 2), _signs(rng, rows, steps)
    as_labelled = np.where(rng.random((rows, steps)) < agree, 1, -1)
    turned = (labels * 2 - 1)[:, None] * as_labelled
    audio = _signs(rng, rows, steps)
    audio[:, lag:] = text[:, : steps - lag] * turned[:, lag:]
    odds = turned[:, lag:].sum(axis=1) * np.log(agree / (1 - agree))  # [N]
    together = log_softmax(np.stack([np.zeros(rows), odds], axis=1), axis=1)
    alone = dict.fromkeys(MODALITIES, _nothing(rows, 2))
    return _made(rng, {"text": text[..., None], "audio": audio[..., None]}, labels, alone=alone, together=together)


def dilution(seed: int, rows: int = ROWS // 2, tokens: tuple[int, int] = (4, 14), steps: int = 30) -> StructureSet:
    """Most of what is known of four classes is in text, which is valid at few of 30 steps; audio is one vector that
    stands for all of them, and visual has all of them. Adding the modalities is the best that can be done."""
    rng, k = np.random.default_rng(seed), 4
    labels, means = _balanced(rng, rows, k), np.eye(k)
    count = {"text": rng.integers(tokens[0], tokens[1] + 1, rows), "audio": np.ones(rows, int)}
    count["visual"] = np.full(rows, steps)
    tracks, alone = {}, {}
    for m, strength in (("text", 2.2), ("audio", 0.6), ("visual", 0.6)):
        row = strength * means[labels] + rng.standard_normal((rows, k))
        values = rng.standard_normal((rows, count[m].max(), k + MORE))
        values[..., :k] += row[:, None]
        tracks[m] = [Track.of(v[:n].astype(np.float32)) for v, n in zip(values, count[m], strict=True)]
        mean = np.array([v[:n, :k].mean(axis=0) for v, n in zip(values, count[m], strict=True)])  # [N, K]
        distance = np.square(mean[:, None] - strength * means).sum(axis=2)  # [N, K]
        alone[m] = log_softmax(-distance / (2 * (1 + 1 / count[m][:, None])), axis=1)
    align = {m: Align("broadcast" if m == "audio" else "pad", steps) for m in MODALITIES}
    return StructureSet(tracks, align, labels, alone, np.sum(list(alone.values()), axis=0))


Make = Callable[[int], StructureSet]
"""Draws a set from a seed."""

SETS: Mapping[str, Make] = {
    "XOR": xor,
    "reliability that shows in itself": own_reliability,
    "reliability that another modality shows": told_reliability,
    "pointer by content": pointer,
    "lag 0": lambda seed: lagged(seed, 0),
    "lag 2": lambda seed: lagged(seed, 2),
    "dilution by length": dilution,
}
"""By name, the makers of the sets."""
