"""Tables of clips whose stages cost next to nothing: what rules of the cache are counted on, by the hundred rows."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from pipeline.cache import shards
from tests.small import Small

RATE_HZ = 8000
WORDS = 40

HEAD = """
[dataset]
reader   = "table"
labels   = "label"
label    = "mood"
classes  = ["low", "high"]
protocol = "official"
"""
WORDS_SET = """
[features.words.text]
stage = "text_word2vec"
vectors = "$PLACE/words.txt"
align = { mode = "pad", length = 8 }
"""
LEARNED_SET = """
[features.learned.text]
stage = "text_word2vec"
size = 4
epochs = 1
min_count = 1
align = { mode = "pad", length = 8 }
"""
SOUND_SET = """
[features.sound]
audio = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, sample_rate_hz = 8000, n_mels = 20, align = { mode = "pad" } }
"""


@dataclass
class Clips(Small):
    """A table that is written anew, as `lines` then are, whenever it is opened; `$PLACE` in a recipe is `place`."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    place: Path = Path()

    def session(self, **options: Any) -> Any:
        """A session over the lines as they now stand."""
        self.root.mkdir(exist_ok=True)
        with (self.root / "utterances.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(self.lines[0]))
            table.writeheader()
            table.writerows(self.lines)
        return super().session(**options)

    def line(self, name: str) -> dict[str, Any]:
        """The line of an utterance, to be edited."""
        return next(line for line in self.lines if line["utterance"] == name)

    def tables(self) -> list[pa.Table]:
        """Every shard that the recipe asks for, as it is stored."""
        catalogue = self.session().catalogue
        return [shards.open_table(catalogue.store.open(r.final(shard))) for r in catalogue for shard in r.shards]


def of(folder: Path, lines: list[dict[str, Any]], sets: str) -> Clips:
    """A corpus of `lines` below `folder`, with a home of its own and a recipe of these feature sets."""
    recipe = HEAD + sets.replace("$PLACE", str(folder))
    return Clips(folder / "corpus", folder / "home", folder / "clips.toml", recipe, lines=lines, place=folder)


def talk(folder: Path, dialogues: int = 50, turns: int = 8, sets: str = WORDS_SET) -> Clips:
    """Dialogues in which no two utterances say the same; six of ten train, two validate, two test."""
    write_vectors(folder / "words.txt")
    splits = ["train"] * 6 + ["valid"] * 2 + ["test"] * 2
    return of(folder, [_said(d, t, splits[d % 10]) for d in range(dialogues) for t in range(turns)], sets)


def _said(dialogue: int, turn: int, split: str) -> dict[str, Any]:
    return {
        "utterance": f"d{dialogue:02}_{turn:03}",
        "dialogue": f"d{dialogue:02}",
        "turn": 10 * turn,
        "speaker": f"s{dialogue % 10}",
        "split": split,
        "mood": ("low", "high")[(dialogue + turn) % 2],
        "text": sentence(dialogue, turn),
    }


def sentence(*numbers: int) -> str:
    """Words of the vectors, others for other numbers; the last one is in no vectors."""
    return " ".join([*(f"w{chr(97 + n % WORDS // 26)}{chr(97 + n % 26)}" for n in numbers), "so", *map(_name, numbers)])


def _name(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def write_vectors(path: Path, seed: int = 0) -> None:
    """A word2vec text file of `WORDS` words and "so", four numbers each."""
    words = [f"w{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(WORDS)] + ["so"]
    values = np.random.default_rng(seed).normal(size=(len(words), 4)).round(4)
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(words, values, strict=True)]
    path.write_text("\n".join([f"{len(words)} 4", *lines]) + "\n")


def sounds(folder: Path) -> Clips:
    """Sixteen utterances with a file each, and eight stretches of one long file."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    lines = [_heard(n, {"audio": f"{n:02}.wav"}) for n in range(16)]
    for n in range(16):
        write_sound(corpus / f"{n:02}.wav", 0.3, n)
    write_sound(corpus / "long.wav", 4.0, 99)
    cuts = [{"audio": "long.wav", "audio_start_s": n / 2, "audio_end_s": n / 2 + 0.4} for n in range(8)]
    return of(folder, lines + [_heard(16 + n, cut) for n, cut in enumerate(cuts)], SOUND_SET)


def _heard(number: int, where: Mapping[str, Any]) -> dict[str, Any]:
    line = {
        "utterance": f"u{number:02}",
        "dialogue": f"d{number // 4}",
        "turn": number % 4,
        "split": "train",
        "mood": "",
    }
    return line | {"audio": "", "audio_start_s": "", "audio_end_s": ""} | where


def write_sound(path: Path, seconds: float, seed: int) -> None:
    """Noise of its own for each seed."""
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
