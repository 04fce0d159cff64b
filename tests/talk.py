"""A small corpus of dialogues, transcripts alone, and a recipe whose stages read different contexts of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import RobertaConfig

from pipeline.corpus.recipe import distinct_names
from tests.encoders import saved
from tests.small import Small

SPLITS = {"a": "train", "b": "train", "c": "valid", "d": "test"}
TURNS = 7
WORDS = ("so happy", "no", "this is sad", "happy day", "gloomy", "the end", "of it all", "a sad day")
RECIPE = """
[dataset]
reader   = "table"
labels   = "label"
classes  = ["glad", "sad"]
protocol = "official"
"""
FROZEN = """
[features.{name}.text]
stage = "text_roberta"
model = "{model}"
max_tokens = 36
align = {{ mode = "pad", length = 4 }}
{more}
"""
LEARNED = """
[features.learned.text]
stage = "text_roberta"
init = "random"
hidden = 8
layers = 1
heads = 2
vocab_size = 300
max_tokens = 48
epochs = 1
context = 2
align = { mode = "pad", length = 4 }
"""


@dataclass
class Talk:
    """Dialogues of seven turns, written to a table, and extracted in this process."""

    small: Small
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def write(cls, folder: Path, dialogues: Mapping[str, str] = SPLITS, turns: int = TURNS) -> Talk:
        """A corpus in an empty folder; two frozen stages read its text, one alone and one after two turns."""
        model = saved(folder / "model", RobertaConfig)
        sets = {"alone": "", "after": "context = 2", "nameless": "context = 2\nspeakers = false"}
        recipe = RECIPE + "".join(FROZEN.format(name=n, model=model, more=more) for n, more in sets.items())
        (folder / "corpus").mkdir()
        talk = cls(Small(folder / "corpus", folder / "home", folder / "talk.toml", recipe))
        for name, split in dialogues.items():
            for turn in range(turns):
                talk.add(f"{name}{turn}", name, turn, split)
        talk.save()
        return talk

    def add(self, utterance: str, dialogue: str, turn: int, split: str) -> None:
        """Adds an utterance with words of its own."""
        text = f"{WORDS[turn % len(WORDS)]} {dialogue} {turn}"
        speaker, label = ("Ann", "Bob", "Cy")[turn % 3], ("glad", "sad")[turn % 2]
        cells = {"dialogue": dialogue, "turn": turn, "split": split, "speaker": speaker, "text": text, "label": label}
        self.rows[utterance] = {"utterance": utterance, **cells}

    def save(self) -> None:
        """Writes the table as the rows now are."""
        with (self.small.root / "utterances.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, next(iter(self.rows.values())))
            table.writeheader()
            table.writerows(self.rows.values())

    def change(self, utterance: str, **cells: Any) -> None:
        """Changes cells of a row."""
        self.rows[utterance] |= cells
        self.save()

    def extract(self) -> dict[str, int]:
        """Rows computed, by the feature set that asks for them, zeros left out."""
        computed = self.small.extract()
        recipe = self.small.session().corpus.recipe
        labels = {name: part for name, sets in recipe.features.items() for part in sets["text"].parts}
        names = distinct_names(labels.values())
        found = {name: computed.get(names[node], 0) for name, node in labels.items()}
        assert sum(found.values()) == sum(computed.values())
        return {name: count for name, count in found.items() if count}
