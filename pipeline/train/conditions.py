"""The conditions of an evaluation: modalities that some or all rows lack, and noise in the sound.

Shapes: N rows of a dataset, R rows that are evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cache import keys
from pipeline.errors import InputError, closest
from pipeline.model import MODALITIES
from pipeline.utterance import Noise, NoisyAudio, Utterance
from pipeline.views.dataset import Dataset
from pipeline.views.view import Rows

EACH = "each"
"""Stands for every modality in turn."""
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aiff")
"""The endings of the files that are noise, in a folder of sounds."""
SEED = 0


@dataclass(frozen=True)
class Condition:
    """What rows lack when a trained model predicts them; by default nothing.

    hidden: modality -> the share of the rows having it that it is hidden from. noise_db: the signal-to-noise ratio of
    the sound, None without noise. sounds: the folder of the sounds that are the noise, "" for white noise.
    """

    hidden: Mapping[str, float]
    noise_db: float | None = None
    sounds: str = ""

    @property
    def text(self) -> str:
        """The condition in words, which is also its name in a file."""
        if self.noise_db is not None:
            kind = f"sounds of {Path(self.sounds).name}" if self.sounds else "white noise"
            return f"{kind} at {self.noise_db:g} dB"
        named = [m if share == 1 else f"{m} in {share:.0%} of rows" for m, share in self.hidden.items()]
        return f"without {' and '.join(named)}" if named else "everything kept"

    def hides(self, dataset: Dataset, rows: Rows) -> dict[str, NDArray[np.bool_]]:
        """modality -> [N], True for each row [R] that it is hidden from. Of two shares the larger hides the same rows
        and more."""
        hidden = {}
        for modality, share in self.hidden.items():
            having = rows[dataset.masks[modality].any(dim=1).numpy()[rows]]
            order = np.random.default_rng([SEED, MODALITIES.index(modality)]).permutation(having)
            hidden[modality] = np.zeros(len(dataset.view.ids), bool)
            hidden[modality][order[: round(share * len(order))]] = True
        return hidden


KEPT = Condition({})
"""Nothing is hidden, and nothing is added."""


def asked(
    known: Sequence[str], hidden: Iterable[str], kept: Sequence[str], ratios_db: Iterable[float], sounds: str
) -> list[Condition]:
    """Everything kept, then each condition that is asked for, once; see `without`, `only` and `noises`."""
    found = [KEPT, *without(hidden, known), *only(kept, known), *noises(ratios_db, sounds, known)]
    return list({condition.text: condition for condition in found}.values())


def without(texts: Iterable[str], known: Sequence[str]) -> list[Condition]:
    """The conditions of `--without`: `audio`, `audio=0.3`, or `each` and `each=0.3` for every known modality in turn.

    Raises InputError for another modality, and for a share that is not above 0 and at most 1.
    """
    found = []
    for text in texts:
        name, _, share = text.partition("=")
        for modality in known if name == EACH else [_known(name, known)]:
            found.append(Condition({modality: _share(text, share) if share else 1.0}))
    return found


def only(names: Sequence[str], known: Sequence[str]) -> list[Condition]:
    """The condition of `--modalities`, none without names: the other known modalities are hidden.

    Raises InputError for an unknown modality, and if no other is left to hide.
    """
    kept = {_known(name, known) for name in names}
    hidden = {modality: 1.0 for modality in known if modality not in kept}
    if names and not hidden:
        raise InputError(f"--modalities names all that this model reads: {', '.join(known)}")
    return [Condition(hidden)] if names else []


def noises(ratios_db: Iterable[float], sounds: str, known: Sequence[str]) -> list[Condition]:
    """The conditions of `--noise-db`. sounds: a folder, "" for white noise.

    Raises InputError for a model without audio, and for sounds without a ratio.
    """
    made = [Condition({}, ratio, str(Path(sounds).absolute()) if sounds else "") for ratio in ratios_db]
    if made:
        _known("audio", known)
    if sounds and not made:
        raise InputError("--noise needs the ratio at which it is mixed in: add --noise-db 10")
    return made


def with_noise(rows: Iterable[Utterance], ids: Iterable[str], condition: Condition) -> tuple[Utterance, ...]:
    """The rows, with the condition's noise in the sound of those whose id is among `ids`.

    The noise of a row is the same at every ratio. Raises InputError for a folder without sounds.
    """
    changed, sounds = set(ids), _sounds(condition.sounds) if condition.sounds else []
    return tuple(_noisy(row, condition, sounds) if row.id in changed else row for row in rows)


def _noisy(row: Utterance, condition: Condition, sounds: Sequence[tuple[str, str]]) -> Utterance:
    assert condition.noise_db is not None
    seed = int(keys.digest("noise", SEED, row.id)[:12], 16)
    path, digest = sounds[seed % len(sounds)] if sounds else ("", "")
    noise = Noise(snr_db=condition.noise_db, seed=seed, sound=path, digest=digest)
    parts = (NoisyAudio(**asdict(part), noise=noise) for part in row.audio)
    return replace(row, audio=tuple(parts))


def _sounds(folder: str) -> list[tuple[str, str]]:
    """The path and the digest of each sound in a folder, in the order of their digests."""
    paths = [path for path in Path(folder).glob("*") if path.suffix.lower() in SOUNDS]
    if not paths:
        raise InputError(f"{folder} holds no sound: {', '.join(SOUNDS)}")
    return sorted(((str(path), keys.file_digest(path)) for path in paths), key=lambda sound: sound[1])


def _known(modality: str, known: Sequence[str]) -> str:
    if modality not in known:
        raise InputError(f"this model reads no {modality!r}: {closest(modality, known)}")
    return modality


def _share(text: str, share: str) -> float:
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise InputError(f"--without {text}: the share of the rows must be above 0 and at most 1")
    return value
