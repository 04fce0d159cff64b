"""The name of a run: its model, and whatever decides its result that the recipe's file does not say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.cache import keys


class RunName(NamedTuple):
    """A run of a model under a protocol. changes: the settings that `--set` gave, such as `gated=false`."""

    model: str
    protocol: str
    changes: tuple[str, ...]
    seed: int

    @classmethod
    def of(cls, model: str, features: str, protocol: str, changes: Sequence[str], seed: int) -> RunName:
        """Keeps those of a session's changes that decide this model's results: its own settings without their table,
        and those of its feature set and of the dataset. Of two changes of one setting the last counts."""
        own = (f"train.{model}.", f"features.{features}.", "dataset.")
        last = {change.partition("=")[0].strip(): change for change in changes}
        deciding = [change for name, change in last.items() if name.startswith(own)]
        return cls(model, protocol, tuple(sorted(change.removeprefix(own[0]) for change in deciding)), seed)

    @property
    def text(self) -> str:
        """The name that people read: `hjcag`, or `hjcag (gated=false, seed 7)`. The recipe's own run has seed 0."""
        differs = [*self.changes, *([f"seed {self.seed}"] if self.seed else [])]
        return f"{self.model} ({', '.join(differs)})" if differs else self.model

    @property
    def stem(self) -> str:
        """The name of the file that says which run of this name is the newest."""
        differs = self.changes or self.seed
        return f"{self.model}-{self.protocol}{f'-{keys.digest(self.changes, self.seed)[:8]}' if differs else ''}"
