"""What people see while models train: a bar of epochs for each model, with its newest losses.

Every fold writes its epochs to its own folder as it trains, on whatever worker; the driver reads them there.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.console import Bars
from pipeline.train.loop import EPOCHS

EVERY_S = 1.0
"""Seconds between two looks at the folders."""


@dataclass(frozen=True)
class Training:
    """A fold that is to be trained. folder: where its epochs are written. epochs: how many there may be at most."""

    model: str
    folder: Path
    epochs: int

    def newest(self) -> tuple[int, str]:
        """How many epochs are done, and the losses of the last one in words; 0 before the first."""
        with suppress(OSError, KeyError, ValueError), (self.folder / EPOCHS).open(newline="") as file:
            rows = list(csv.DictReader(file))
            if rows:
                train, valid = (float(rows[-1][name]) for name in ("train_loss", "valid_loss"))
                return len(rows), f"train {train:.3f} valid {valid:.3f}"
        return 0, ""


class EpochBars:
    """A bar for each model, over the epochs of all its folds: a context manager that looks at their folders.

    A fold that stops before its last epoch fills its part of the bar.
    """

    def __init__(self, trainings: Sequence[Training]) -> None:
        self._bars, self._open = Bars(), dict.fromkeys(trainings)
        self._done = {training.model: 0 for training in trainings}
        self._shown: dict[str, int] = {}
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._bars.__enter__()
        for training in self._open:
            self._bars.grow(training.model, "epochs", training.epochs)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._bars.__exit__(*error)

    def end(self, training: Training) -> None:
        """Notes that a fold is done."""
        with self._lock:
            self._open.pop(training, None)
            self._done[training.model] += training.epochs
        self.look()

    def look(self) -> None:
        """Reads how far each fold is, and shows it."""
        with self._lock:
            reached, losses = dict(self._done), dict[str, str]()
            for training in self._open:
                count, said = training.newest()
                reached[training.model] += min(count, training.epochs)
                losses[training.model] = said or losses.get(training.model, "")
            for model, count in reached.items():
                if self._shown.get(model) != count:
                    self._bars.reach(model, count, losses.get(model, ""))
                    self._shown[model] = count

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.look()
