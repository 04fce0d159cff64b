"""Predictions of the rows of a part: as a Parquet file, and the mean shares of a gate among them.

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

from pipeline.cache.atomic import replacing
from pipeline.reader import Label, Task
from pipeline.stage import Target
from pipeline.train.metrics import decide

FILE = "predictions.parquet"
GATE = "gate_"

_LABEL: Mapping[Task, pa.DataType] = {
    "multiclass": pa.int64(),
    "multilabel": pa.list_(pa.int64()),
    "regression": pa.float64(),
}


class Part(NamedTuple):
    """ids [N], logits [N, outputs], labels [N], gates modality -> [N], nan where no modality is valid."""

    ids: Sequence[str]
    logits: NDArray[Any]
    labels: Sequence[Label]
    gates: Mapping[str, NDArray[np.float64]]

    def where(self, mask: NDArray[np.bool_]) -> Part:
        """The rows where mask [N] is True."""
        kept = np.flatnonzero(mask).tolist()
        gates = {modality: share[kept] for modality, share in self.gates.items()}
        return Part([self.ids[i] for i in kept], self.logits[kept], [self.labels[i] for i in kept], gates)


def write(path: Path, fold: str, target: Target, parts: Mapping[str, Part]) -> None:
    """Writes utterance, fold, split, logits, label, prediction, and gate_<modality> of a model with gates."""
    tables = [_table(part, fold, split, target) for split, part in parts.items()]
    with replacing(path) as partial:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), partial)


def read(path: Path, split: str) -> Part:
    """The rows of one split."""
    found = pq.read_table(path, filters=[("split", "==", split)])
    labels = [tuple(label) if isinstance(label, list) else label for label in found["label"].to_pylist()]
    gates = {name.removeprefix(GATE): _numbers(found[name]) for name in found.column_names if name.startswith(GATE)}
    return Part(found["utterance"].to_pylist(), np.array(found["logits"].to_pylist()), labels, gates)


def mean_gates(part: Part, target: Target) -> dict[str, dict[str, float]]:
    """class -> modality -> mean share among the rows of that class, and among all; classes without rows left out."""
    truth = np.asarray(part.labels)
    groups = {"all": np.ones(len(truth), bool)}
    if target.task == "multiclass":
        groups |= {name: truth == i for i, name in enumerate(target.classes)}
    if target.task == "multilabel":
        groups |= {name: truth[:, i] == 1 for i, name in enumerate(target.classes)}
    known = {name: [share[rows & ~np.isnan(share)] for share in part.gates.values()] for name, rows in groups.items()}
    return {
        name: {modality: float(share.mean()) for modality, share in zip(part.gates, shares, strict=True)}
        for name, shares in known.items()
        if shares and len(shares[0])
    }


def _table(part: Part, fold: str, split: str, target: Target) -> pa.Table:
    size, label = len(part.ids), _label(target)
    columns = {
        "utterance": pa.array(part.ids, pa.string()),
        "fold": pa.array([fold] * size, pa.string()),
        "split": pa.array([split] * size, pa.string()),
        "logits": pa.array(part.logits.astype(np.float64).tolist(), pa.list_(pa.float64())),
        "label": pa.array(part.labels, label),
        "prediction": pa.array(decide(part.logits, target).tolist(), label),
    }
    gates = {f"{GATE}{m}": pa.array(share, pa.float64(), from_pandas=True) for m, share in part.gates.items()}
    return pa.table({**columns, **gates})


def _label(target: Target) -> pa.DataType:
    return pa.list_(_LABEL["regression"]) if target.several else _LABEL[target.task]


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in column.to_pylist()])
