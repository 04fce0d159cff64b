"""Fitted states on disk: one safetensors file, arrays as tensors and text as bytes. No pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from pipeline.stage import State

TEXT = "text:"


def save_state(state: State, path: Path) -> None:
    """Writes tensors and text. Text goes in as bytes, since the order of a safetensors header's own metadata is not
    fixed: the same state gives the same file."""
    text = {TEXT + name: np.frombuffer(value.encode(), np.uint8) for name, value in state.text.items()}
    tensors = {name: np.array(value, order="C") for name, value in state.tensors.items()}
    save_file(dict(sorted((tensors | text).items())), path)


def load_state(path: Path) -> State:
    """Reads what `save_state` wrote; the log stays with the record."""
    found = load_file(path)
    text = {name.removeprefix(TEXT): value.tobytes().decode() for name, value in found.items() if name.startswith(TEXT)}
    return State({name: value for name, value in found.items() if not name.startswith(TEXT)}, text)
