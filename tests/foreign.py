"""Files of features as other tools write them, made here with a planted signal, for the tests of import and export."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTHS = {"text": 768, "audio": 5, "vision": 20}
"""The widths of MMSA's `unaligned_50.pkl` of CMU-MOSI."""


def mmsa_part(count: int, seed: int, first: int, steps: Mapping[str, int], widths: Mapping[str, int]) -> dict[str, Any]:
    """A part of MMSA's dict, unaligned: the sentiment is planted in the mean of the steps of all three modalities."""
    rng = np.random.default_rng(seed)
    sentiment = rng.uniform(-3, 3, count).astype(np.float32)
    part: dict[str, Any] = {
        "id": [f"video{(first + n) // 4:03}$_${n % 4}" for n in range(count)],
        "raw_text": np.array([f"said number {n}" for n in range(count)]),
        "regression_labels": sentiment,
        "classification_labels": (np.sign(sentiment) + 1).astype(np.int64),
        "annotations": ["Positive" if value > 0 else "Negative" for value in sentiment],
    }
    for name, width in widths.items():
        direction = np.random.default_rng(len(name)).normal(size=width)  # the same in every part
        lengths = rng.integers(2, steps[name] + 1, count)
        values = rng.normal(size=(count, steps[name], width)).astype(np.float32)
        values += 0.5 * sentiment[:, None, None] * direction[None, None].astype(np.float32) / np.sqrt(width)
        for row, length in zip(values, lengths, strict=True):
            row[length:] = 0
        part[name] = values
        if name == "text":
            mask = np.arange(steps[name]) < lengths[:, None]
            part["text_bert"] = np.stack([np.where(mask, 7, 0), mask, np.zeros_like(mask)], axis=1).astype(np.float32)
        else:
            part[f"{name}_lengths"] = lengths.tolist()
    part["audio"][0, 0, 0] = -np.inf  # as COVAREP's features have it
    return part


def mmsa_unaligned(
    path: Path,
    counts: Mapping[str, int],
    steps: Mapping[str, int] | None = None,
    widths: Mapping[str, int] = WIDTHS,
    protocol: int = 4,
) -> dict[str, Any]:
    """Writes a file like MMSA's `unaligned_50.pkl`, and returns what is in it."""
    steps = steps or {"text": 6, "audio": 12, "vision": 9}
    data = {}
    for seed, (name, count) in enumerate(counts.items()):
        data[name] = mmsa_part(count, seed, 10_000 * seed, steps, widths)
    path.write_bytes(pickle.dumps(data, protocol))
    return data


def steps_of(part: Mapping[str, Any], name: str, row: int) -> NDArray[np.float32]:
    """The steps of a row of a part without padding, as a reader written from MMSA's description has them."""
    length = int(part["text_bert"][row, 1].sum()) if name == "text" else part[f"{name}_lengths"][row]
    values = part[name][row, :length].copy()
    values[values == -np.inf] = 0
    return np.asarray(values)
