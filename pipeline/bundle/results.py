"""Predictions of clips as a table: a row for each utterance, with its clip, stretch, text, label and probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.bundle.clips import Clip
from pipeline.bundle.predict import Predicted
from pipeline.cache.atomic import replacing
from pipeline.score.metrics import decide
from pipeline.score.predictions import probabilities
from pipeline.stage import Target

FILE = "predictions.parquet"
PROBABILITY = "p_"
"""Begins the name of a column with the probability of a class."""


@dataclass(frozen=True)
class Written:
    """The table of predictions, and the file that holds it. columns: class or number -> its column."""

    table: pa.Table
    file: Path
    columns: Mapping[str, str]


def write_results(folder: Path, clips: Sequence[Clip], predicted: Predicted) -> Written:
    """Writes the table of `result_table` as a Parquet file in a folder, in place of one of an earlier call."""
    table = result_table(clips, predicted)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / FILE) as beside:
        pq.write_table(table, beside)
    return Written(table, folder / FILE, columns_of(predicted.target))


def columns_of(target: Target) -> dict[str, str]:
    """What is predicted, the classes or the numbers of a regression, and the column of each."""
    begin = "" if target.task == "regression" else PROBABILITY
    return {name: f"{begin}{name}" for name in target.classes or ("score",)}


def result_table(clips: Sequence[Clip], predicted: Predicted) -> pa.Table:
    """The columns clip, start_s, end_s, text; `label` and a `p_<class>` for each class, or a column for each number of
    a regression; reason. Where no modality could be read there are nulls, and `reason` says why.
    """
    rows, target = predicted.rows, predicted.target
    given = probabilities(predicted.predictions.logits, target)
    usable = predicted.usable.tolist()
    columns: dict[str, Any] = {
        "clip": [clips[int(row.dialogue)].name for row in rows],
        "start_s": pa.array([row.start_s for row in rows], pa.float64()),
        "end_s": pa.array([row.end_s for row in rows], pa.float64()),
        "text": pa.array([row.text for row in rows], pa.string()),
    }
    if target.task != "regression":
        columns["label"] = pa.array(_masked(_labels(predicted), usable), pa.string())
    for number, name in enumerate(columns_of(target).values()):
        columns[name] = pa.array(_masked(given[:, number].tolist(), usable), pa.float64())
    columns["reason"] = [_reason(row.id, predicted.reasons) for row in rows]
    return pa.table(columns)


def _labels(predicted: Predicted) -> list[str]:
    target, guesses = predicted.target, decide(predicted.predictions.logits, predicted.target)
    if target.task == "multiclass":
        return [target.classes[int(guess)] for guess in guesses]
    return [", ".join(name for name, on in zip(target.classes, row, strict=True) if on) for row in guesses]


def _masked(cells: Sequence[Any], usable: Sequence[bool]) -> list[Any]:
    return [cell if known else None for cell, known in zip(cells, usable, strict=True)]


def _reason(utterance: str, reasons: Mapping[str, Mapping[str, str]]) -> str:
    """Why each modality without features has none, such as `visual: decode_error`; "" if all have them."""
    return "; ".join(
        f"{modality}: {found[utterance]}" for modality, found in sorted(reasons.items()) if utterance in found
    )
