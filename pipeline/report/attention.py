"""The attention maps of a trained model: of single utterances, and their mean over many.

Shapes: T valid steps of a target, S valid steps of a source, G parts of an utterance, N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import InputError
from pipeline.model import Batch, Model
from pipeline.report.attention_pictures import (
    FOLDER,
    Heat,
    Picture,
    Side,
    file_name,
    write_heats,
    write_index,
    write_shares,
)
from pipeline.score.calibration import confidence
from pipeline.score.metrics import decide
from pipeline.score.predictions import Predictions, by_class, mean_gates
from pipeline.stage import Modality, Target
from pipeline.train.evaluate import Evaluation
from pipeline.train.predict import predicted
from pipeline.views.dataset import Dataset
from pipeline.views.step_marks import StepMarks
from pipeline.views.view import Rows

BATCH = 16
"""The rows whose maps are in memory at once."""
PARTS = 12
"""The parts of equal length that an utterance is cut into for a mean map."""

Maps = Mapping[str, NDArray[np.float64]]
"""`source->target` -> weights [T, S], whose rows have the sum 1; without pairs of which one side has no valid step."""


class RowMaps(NamedTuple):
    """The maps of one row. steps: modality -> [T], the numbers of the valid steps in the view."""

    row: int
    maps: Maps
    steps: Mapping[str, NDArray[np.int64]]


def attention(model: Model, dataset: Dataset, rows: Rows) -> Iterator[RowMaps]:
    """The attention of each of these rows, in any order; no row of a model without attention between modalities.

    The model is on the CPU.
    """
    model = model.eval()
    model.maps = True
    try:
        for batch in dataset.batches(rows, BATCH):
            with torch.inference_mode():
                maps = predicted(model, batch, "cpu").attention
            if maps is None:
                return
            yield from (_row(batch, maps, place) for place in range(len(batch.rows)))
    finally:
        model.maps = False


def _row(batch: Batch, maps: Mapping[str, Tensor], place: int) -> RowMaps:
    found, steps = {}, {}
    for pair, weights in maps.items():
        source, target = pair.split("->")
        for modality, count in ((target, weights.shape[1]), (source, weights.shape[2])):
            valid = batch.masks[modality][place].expand(count)  # one step stands for all (X6)
            steps[modality] = valid.nonzero().flatten().numpy()
        shown = weights[place].double().numpy()[np.ix_(steps[target], steps[source])]
        if shown.size:
            found[pair] = shown
    return RowMaps(int(batch.rows[place]), found, steps)


def in_parts(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [T, S] as [G, G]: the mean over the steps in a part of the target, the sum over those of the source."""
    targets, sources = (_overlaps(steps) for steps in weights.shape)
    return np.asarray(PARTS * targets @ weights @ (sources * weights.shape[1]).T)


def _overlaps(steps: int) -> NDArray[np.float64]:
    """[G, steps]: the share of an utterance that is both in a part and in a step."""
    parts, edges = np.linspace(0, 1, PARTS + 1), np.linspace(0, 1, steps + 1)
    starts, ends = np.maximum.outer(parts[:-1], edges[:-1]), np.minimum.outer(parts[1:], edges[1:])
    return np.asarray(np.clip(ends - starts, 0, None))


def mean_maps(parts: Iterable[Maps]) -> Maps:
    """The mean of maps [G, G] over utterances, each pair over those that have it."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for maps in parts:
        for pair, weights in maps.items():
            found.setdefault(pair, []).append(weights)
    return {pair: np.mean(weights, axis=0) for pair, weights in found.items()}


def wrongness(predictions: Predictions, target: Target) -> NDArray[np.float64]:
    """How surely each row is wrong, [N]: the confidence in a wrong prediction, of a regression the error; 0 if right.

    A row of a multilabel target, or of several numbers, is as wrong as its worst one.
    """
    guess, truth = decide(predictions.logits, target), np.asarray(predictions.labels)
    if target.task == "regression":
        wrong = np.abs(guess - truth)
    else:
        wrong = np.where(guess == truth, 0.0, confidence(predictions.logits, target))
    return np.asarray(wrong.reshape(len(truth), -1).max(axis=1), float)


# --- pictures --------------------------------------------------------------------------------------------------


def draw(evaluation: Evaluation, utterances: Sequence[str], wrong: int) -> list[Picture]:
    """Draws a run's attention and gates on a part of its corpus into the folder `maps` of the run.

    The maps of these utterances, or of the `wrong` ones that are most surely wrong; the mean maps of all rows and by
    class; the mean shares of the gates by class. Raises InputError for an utterance that is not in the part, and for a
    model with neither attention between modalities nor gates.
    """
    drawing = _Drawing(evaluation, pooled(evaluation.kept), evaluation.run.folder / FOLDER)
    pictures = [*drawing.attention(drawing.chosen(utterances, wrong)), *drawing.gates()]
    if not pictures:
        name = evaluation.run.name
        raise InputError(f"{name} has neither attention between modalities nor gates: there is nothing to draw")
    write_index(drawing.folder, evaluation.part, pictures)
    return pictures


@dataclass(frozen=True)
class _Drawing:
    """The pictures of a part of a run's corpus. rows: the predictions of its rows, of all folds."""

    evaluation: Evaluation
    rows: Predictions
    folder: Path

    @property
    def where(self) -> str:
        return f"{self.evaluation.part} rows of {self.evaluation.run.name}"

    def stem(self, name: str) -> Path:
        return self.folder / f"{self.evaluation.part}-{file_name(name)}"

    def chosen(self, utterances: Sequence[str], wrong: int) -> list[str]:
        if absent := [name for name in utterances if name not in self.rows.ids]:
            raise InputError(f"{', '.join(absent)}: not among the {self.where}; --split names another part")
        how_wrong = wrongness(self.rows, self.evaluation.run.target)
        surest = [self.rows.ids[i] for i in np.argsort(-how_wrong, kind="stable") if how_wrong[i] > 0]
        return list(utterances) or list(dict.fromkeys(surest))[:wrong]

    def attention(self, chosen: Sequence[str]) -> Iterator[Picture]:
        """The pictures of the chosen utterances, each by the first fold that has it, then those of the means."""
        parts: dict[str, Maps] = {}
        drawn: dict[str, Picture] = {}
        for result in self.evaluation.run.folds:
            model, dataset = self.evaluation.opened(result)
            new = [name for name in self.evaluation.ids(result) if name not in parts]
            rows = dataset.view.rows(new)
            marks = self.evaluation.marks(result, [name for name in chosen if name in new])
            for found in attention(model, dataset, rows[dataset.usable[rows]]):
                name = dataset.view.ids[found.row]
                parts[name] = {pair: in_parts(weights) for pair, weights in found.maps.items()}
                if name in chosen and found.maps:
                    drawn[name] = self._utterance(name, found, {m: of.get(name) for m, of in marks.items()})
        yield from (drawn[name] for name in chosen if name in drawn)
        if parts:
            yield from self._means(parts)

    def _utterance(self, name: str, found: RowMaps, marks: Mapping[Modality, StepMarks | None]) -> Picture:
        of = {str(modality): mark for modality, mark in marks.items()}
        sides = {m: side(m, steps, of.get(m)) for m, steps in found.steps.items()}
        heats = [_heat(pair, weights, sides) for pair, weights in found.maps.items()]
        told = said(self.rows, self.rows.ids.index(name), self.evaluation.run.target)
        caption = f"{name}, {told}. Down: steps of the target; across: steps of the source, of the {self.where}"
        return write_heats(self.stem(name), caption, heats, columns=min(len(heats), 3), side_in=3.4)

    def _means(self, parts: Mapping[str, Maps]) -> Iterator[Picture]:
        """The mean over all rows, then that over the rows of each class."""
        truth = dict(zip(self.rows.ids, self.rows.labels, strict=True))
        groups = by_class([truth[name] for name in parts], self.evaluation.run.target)
        maps = {group: mean_maps(compress(parts.values(), rows)) for group, rows in groups.items()}
        everyone = maps.pop("all")
        caption = f"Mean attention of the {self.where}. Down: parts of the target; across: parts of the source"
        heats = [_mean_heat(pair, weights) for pair, weights in everyone.items()]
        yield write_heats(self.stem("mean"), caption, heats, columns=2, side_in=1.8, inline=True)
        heats = [_mean_heat(pair, weights, f"{group}: ") for group, of in maps.items() for pair, weights in of.items()]
        if heats:
            caption = f"Mean attention by class, of the {self.where}"
            yield write_heats(self.stem("by-class"), caption, heats, columns=len(everyone), side_in=2.3)

    def gates(self) -> Iterator[Picture]:
        if shares := mean_gates(self.rows, self.evaluation.run.target):
            caption = f"Mean share of each modality in the gate by class, of the {self.where}"
            yield write_shares(self.stem("gates"), caption, shares)


def pooled(tables: Sequence[Predictions]) -> Predictions:
    """The predictions of several folds as those of one."""
    gates = {m: np.concatenate([table.gates[m] for table in tables]) for m in tables[0].gates}
    ids, labels = [i for table in tables for i in table.ids], [label for table in tables for label in table.labels]
    return Predictions(ids, np.concatenate([table.logits for table in tables]), labels, gates)


def said(rows: Predictions, row: int, target: Target) -> str:
    """What a row is, and what is predicted; of classes also how surely."""
    guess, truth = decide(rows.logits[row : row + 1], target)[0], rows.labels[row]
    told = f"is {_answer(truth, target)}, predicted {_answer(guess, target)}"
    sure = f" with {confidence(rows.logits[row : row + 1], target)[0]:.0%}" if target.task == "multiclass" else ""
    return told + sure


def _answer(answer: Any, target: Target) -> str:
    if target.task == "regression":
        return ", ".join(f"{number:.2f}" for number in np.ravel(answer))
    if target.task == "multiclass":
        return target.classes[int(answer)]
    return " and ".join(compress(target.classes, answer)) or "none"


def side(modality: str, steps: NDArray[np.int64], marks: StepMarks | None) -> Side:
    """One side of a map: its valid steps by word or by second, or else by number."""
    count = 0 if len(steps) == 0 else int(steps.max()) + 1
    if marks is not None and marks.words is not None and len(marks.words) >= count:
        return Side(f"{modality}, words", [marks.words[i] for i in steps])
    if marks is not None and marks.times_s is not None and len(marks.times_s) >= count:
        return Side(f"{modality}, s", [f"{marks.times_s[i]:.2f}" for i in steps])
    return Side(f"{modality}, step", [str(i + 1) for i in steps])


def _heat(pair: str, weights: NDArray[np.float64], sides: Mapping[str, Side], before: str = "") -> Heat:
    source, target = pair.split("->")
    return whole_words(Heat(f"{before}{source} → {target}", weights, sides[target], sides[source]))


def whole_words(heat: Heat) -> Heat:
    """A map whose steps without a label are joined to the one before: the mean of a target's, the sum of a source's."""
    (target, down), (source, across) = _joined(heat.target), _joined(heat.source)
    counts = np.diff([*down, len(heat.weights)])
    weights = np.add.reduceat(np.add.reduceat(heat.weights, across, axis=1), down, axis=0) / counts[:, None]
    return Heat(heat.title, weights, target, source)


def _joined(side: Side) -> tuple[Side, list[int]]:
    """A side with the steps alone that have a label, and their numbers; the first step always counts."""
    first = [i for i, label in enumerate(side.labels) if label or i == 0]
    return Side(side.name, [side.labels[i] for i in first]), first


def _mean_heat(pair: str, weights: NDArray[np.float64], before: str = "") -> Heat:
    ends = [f"{(part + 1) / PARTS:.0%}" for part in range(PARTS)]
    return _heat(pair, weights, {m: Side(m, ends) for m in pair.split("->")}, before)
