"""Fitted states on disk: one safetensors file with arrays and texts. No pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from pipeline.stage import State

TEXT = "text:"


def save_state(state: State, path: Path) -> None:
    """Writes the tensors and texts of a state; the same state gives the same bytes.

    Texts are stored as tensors of bytes, since the metadata in a safetensors header has no fixed order.
    """
    text = {TEXT + name: np.frombuffer(value.encode(), np.uint8) for name, value in state.text.items()}
    tensors = {name: np.array(value, order="C") for name, value in state.tensors.items()}
    save_file(dict(sorted((tensors | text).items())), path)


def load_state(path: Path) -> State:
    """Reads a file of `save_state`. The state's log is not in it, but in the record."""
    arrays = load_file(path)
    names = [name for name in arrays if name.startswith(TEXT)]
    text = {name.removeprefix(TEXT): arrays.pop(name).tobytes().decode() for name in names}
    return State(arrays, text)
