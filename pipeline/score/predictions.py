"""Predictions of a model: as a Parquet file, and the mean shares of its gates.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.cache.atomic import replacing
from pipeline.reader import Label, Task
from pipeline.score.metrics import decide
from pipeline.stage import Target

FILE = "predictions.parquet"
GATE = "gate_"

_LABEL: Mapping[Task, pa.DataType] = {
    "multiclass": pa.int64(),
    "multilabel": pa.list_(pa.int64()),
    "regression": pa.float64(),
}


class Predictions(NamedTuple):
    """Predictions of the rows of one split.

    ids: [N]. logits: [N, outputs]. labels: [N]. gates: modality -> [N], the mean share of the modality, nan for a row
    without any valid modality.
    """

    ids: Sequence[str]
    logits: NDArray[Any]
    labels: Sequence[Label]
    gates: Mapping[str, NDArray[np.float64]]

    def where(self, mask: NDArray[np.bool_]) -> Predictions:
        """The rows where mask [N] is True."""
        kept = np.flatnonzero(mask).tolist()
        gates = {modality: share[kept] for modality, share in self.gates.items()}
        return Predictions([self.ids[i] for i in kept], self.logits[kept], [self.labels[i] for i in kept], gates)


def write(path: Path, fold: str, target: Target, splits: Mapping[str, Predictions]) -> None:
    """Writes the columns utterance, fold, split, logits, label, prediction, and gate_<modality> if there are gates."""
    tables = [_table(predictions, fold, split, target) for split, predictions in splits.items()]
    with replacing(path) as partial:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), partial)


def read(path: Path, split: str) -> Predictions:
    """The rows of one split."""
    table = pq.read_table(path, filters=[("split", "==", split)])
    labels = [tuple(label) if isinstance(label, list) else label for label in table["label"].to_pylist()]
    gates = {name.removeprefix(GATE): _numbers(table[name]) for name in table.column_names if name.startswith(GATE)}
    return Predictions(table["utterance"].to_pylist(), np.array(table["logits"].to_pylist()), labels, gates)


def mean_gates(predictions: Predictions, target: Target) -> dict[str, dict[str, float]]:
    """class -> modality -> mean share among the rows of that class, or of `all`; a class without rows has no entry."""
    shares, groups = predictions.gates.values(), by_class(predictions.labels, target)
    known = {name: [share[rows & ~np.isnan(share)] for share in shares] for name, rows in groups.items()}
    return {
        name: {modality: float(share.mean()) for modality, share in zip(predictions.gates, of_class, strict=True)}
        for name, of_class in known.items()
        if of_class and len(of_class[0])
    }


def probabilities(logits: NDArray[Any], target: Target) -> NDArray[np.float64]:
    """[N, names]: the probability of each class, of each label of several, or the predicted numbers."""
    logits = np.asarray(logits, float)
    if target.task == "multiclass":
        return np.asarray(softmax(logits, axis=-1))
    if target.task == "multilabel":
        return np.asarray(softmax(logits.reshape(len(logits), -1, 2), axis=-1)[..., 1])
    return logits.reshape(len(logits), -1)


def by_class(labels: Sequence[Label], target: Target) -> dict[str, NDArray[np.bool_]]:
    """Which of N rows are of each class, class -> [N], and which are of any: all of them, as `all`."""
    truth = np.asarray(labels)
    groups = {"all": np.ones(len(truth), bool)}
    if target.task == "multiclass":
        groups |= {name: truth == i for i, name in enumerate(target.classes)}
    if target.task == "multilabel":
        groups |= {name: truth[:, i] == 1 for i, name in enumerate(target.classes)}
    return groups


def _table(predictions: Predictions, fold: str, split: str, target: Target) -> pa.Table:
    size, label = len(predictions.ids), _label(target)
    columns = {
        "utterance": pa.array(predictions.ids, pa.string()),
        "fold": pa.array([fold] * size, pa.string()),
        "split": pa.array([split] * size, pa.string()),
        "logits": pa.array(predictions.logits.astype(np.float64).tolist(), pa.list_(pa.float64())),
        "label": pa.array(predictions.labels, label),
        "prediction": pa.array(decide(predictions.logits, target).tolist(), label),
    }
    gates = {f"{GATE}{m}": pa.array(share, pa.float64(), from_pandas=True) for m, share in predictions.gates.items()}
    return pa.table({**columns, **gates})


def _label(target: Target) -> pa.DataType:
    return pa.list_(_LABEL["regression"]) if target.several else _LABEL[target.task]


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in column.to_pylist()])
