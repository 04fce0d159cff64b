"""Losses of models in training as TensorBoard reads them, a curve for each fold of each run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import MachineError
from pipeline.score.metrics import scalars
from pipeline.train.fold_result import FoldResult
from pipeline.train.progress import Training

CURVES = ("train_loss", "valid_loss", "learning_rate")


class TensorBoard:
    """Event files below a folder: `<run>/<fold>`, with the losses and the learning rate of each epoch, and the scores
    on validation in the end.

    Raises MachineError if TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MachineError(f"--log tensorboard: pip install tensorboard ({error})") from error
        self._make, self.folder = SummaryWriter, folder
        self._writers: dict[Training, Any] = {}
        self._written: dict[Training, int] = {}

    def note(self, training: Training) -> None:
        """Writes the epochs that have ended since the last call."""
        rows, done = training.rows(), self._written.get(training, 0)
        for row in rows[done:]:
            self._add(training, {name: row[name] for name in CURVES}, row["epoch"])
        self._written[training] = max(done, len(rows))

    def end(self, training: Training, result: FoldResult) -> None:
        """Writes what is left of the epochs of a fold that is done, and its scores on validation."""
        self.note(training)
        shown = {f"valid/{name}": value for name, value in scalars(result.valid).items() if value is not None}
        self._add(training, shown, result.best_epoch)
        self._writers.pop(training).close()

    def _add(self, training: Training, values: Mapping[str, float], epoch: float) -> None:
        if training not in self._writers:
            place = self.folder / training.run.parent.name / training.run.name
            self._writers[training] = self._make(str(place))
        for name, value in values.items():
            self._writers[training].add_scalar(name, value, int(epoch))
        self._writers[training].flush()
