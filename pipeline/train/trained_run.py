"""A finished run, found again by its folder or its name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, closest
from pipeline.stage import Target
from pipeline.train.fold_result import FoldResult, read_result
from pipeline.train.model_file import CARD

FILE = "run.json"
_KNOWN = {"name", "dataset", "opened", "manifest", "columns", "protocol", "folds"}


@dataclass(frozen=True)
class TrainedRun:
    """A finished run. answer: see `train_models.answer`. folds: the result of each fold."""

    folder: Path
    answer: Mapping[str, Any]
    folds: Sequence[FoldResult]

    @property
    def name(self) -> str:
        """What the run is called, with its dataset."""
        return f"{self.answer['name']} of {self.answer['dataset']}"

    @property
    def target(self) -> Target:
        """What its models predict."""
        target = self.folds[0].target
        return Target(target["task"], tuple(target["classes"]))

    def card(self, fold: FoldResult) -> dict[str, Any]:
        """The card of a fold's model, see `model_file`."""
        card: dict[str, Any] = json.loads((self.folder / fold.fold / CARD).read_text())
        return card

    def columns(self, fold: FoldResult) -> Mapping[str, str]:
        """modality -> the name of the column that a fold's model learned from, in `views`."""
        columns: Mapping[str, str] = self.answer["columns"][self.folds.index(fold)]
        return columns


def find(runs: Path, name: str) -> TrainedRun:
    """The run of a folder, or the newest one of a name: `hjcag`, `hjcag (gated=false)`, or how its folder begins.

    runs: the folder of all runs. Raises InputError if there is none, and if its files are damaged or of an older
    version.
    """
    if (Path(name) / FILE).is_file():
        return _read(Path(name) / FILE)
    newest = sorted(runs.glob("*/*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    called = {path: _called(path) for path in newest}
    for path in newest:
        if name in called[path]:
            return _read(path)
    folders = [path for path in runs.glob(f"*/{name}*/{FILE}") if name and "/" not in name and "*" not in name]
    if len(folders) == 1:
        return _read(folders[0])
    if folders:
        raise InputError(f"several runs begin so: {', '.join(sorted(path.parent.name for path in folders))}")
    names = {text for texts in called.values() for text in texts[:1]}
    raise InputError(f"no run {name!r} in {runs}: {closest(name, names)}")


def listed(folder: Path) -> Iterator[Mapping[str, Any]]:
    """The answer of the newest run of each name, of those of one dataset. folder: its folder in `runs`.

    Other files, and runs of an older version, are left out.
    """
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError, AttributeError):
            answer: dict[str, Any] = json.loads(path.read_text())
            if answer.keys() >= _KNOWN:
                yield answer


def _called(path: Path) -> tuple[str, ...]:
    """The names of a run: that which people read, that of its folder, and that of the file."""
    try:
        answer = json.loads(path.read_text())
        return str(answer["name"]), Path(answer["run"]).name, path.stem
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _read(path: Path) -> TrainedRun:
    again = "train the model again, which is quick if its folds are there"
    try:
        answer = json.loads(path.read_text())
        folder = path.parent if path.name == FILE else path.parent / Path(answer["run"]).name
        known = answer.keys() >= _KNOWN
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} holds no run: {error!r}") from error
    if not known:
        raise InputError(f"{path} is of an older version: {again}")
    folds = [(fold["fold"], read_result(folder / fold["fold"])) for fold in answer["folds"]]
    if lost := [fold for fold, result in folds if result is None]:
        raise InputError(f"{folder}: the model or the predictions of {', '.join(lost)} are damaged or gone: {again}")
    return TrainedRun(folder, answer, [result for _, result in folds if result is not None])
