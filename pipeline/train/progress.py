"""What people see while models train: a bar of epochs for each model, with its newest losses.

Every fold writes its epochs to its own folder as it trains, on whatever worker; the driver reads them there.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Sequence
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
    """A fold that is to be trained.

    folder: where its epochs are written. run: where they are once it is done. epochs: how many there may be at most.
    """

    model: str
    folder: Path
    run: Path
    epochs: int

    def rows(self) -> list[dict[str, float]]:
        """The epochs that are done; none before the first, or while the file is half written."""
        for folder in (self.folder, self.run):
            with suppress(OSError, TypeError, ValueError), (folder / EPOCHS).open(newline="") as file:
                return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        return []

    def newest(self) -> tuple[int, str]:
        """How many epochs are done, and the losses of the last one in words; 0 before the first."""
        rows = self.rows()
        if not rows:
            return 0, ""
        return len(rows), f"train {rows[-1]['train_loss']:.3f} valid {rows[-1]['valid_loss']:.3f}"


class EpochBars:
    """A bar for each model, over the epochs of all its folds: a context manager that looks at their folders.

    A fold that stops before its last epoch fills its part of the bar. watch: is called with each fold that is not done,
    at every look.
    """

    def __init__(self, trainings: Sequence[Training], watch: Callable[[Training], None] | None = None) -> None:
        self._bars, self._open, self._watch_one = Bars(), dict.fromkeys(trainings), watch
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
                if self._watch_one:
                    self._watch_one(training)
                reached[training.model] += min(count, training.epochs)
                losses[training.model] = said or losses.get(training.model, "")
            for model, count in reached.items():
                if self._shown.get(model) != count:
                    self._bars.reach(model, count, losses.get(model, ""))
                    self._shown[model] = count

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.look()
