"""Fitted states on disk: one safetensors file with arrays and texts. No pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pipeline.errors import InputError
from pipeline.stage import State

TEXT = "text:"
LARGEST_HEADER = 1 << 22
"""In bytes; it names each tensor and its shape, of which the largest encoder has some thousand."""


def save_state(state: State, path: Path) -> None:
    """Writes the tensors and texts of a state; the same state gives the same bytes.

    Texts are stored as tensors of bytes, since the metadata in a safetensors header has no fixed order.
    """
    text = {TEXT + name: np.frombuffer(value.encode(), np.uint8) for name, value in state.text.items()}
    tensors = {name: np.array(value, order="C") for name, value in state.tensors.items()}
    save_file(dict(sorted((tensors | text).items())), path)


def load_state(path: Path) -> State:
    """Reads a file of `save_state`. The state's log is not in it, but in the record.

    The file may come from another machine: InputError is raised for one that is no state.
    """
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > LARGEST_HEADER:
        raise InputError(f"{path} is no fitted state: its header would have {header:,} bytes")
    try:
        arrays = load_file(path)
        names = [name for name in arrays if name.startswith(TEXT)]
        text = {name.removeprefix(TEXT): arrays.pop(name).tobytes().decode() for name in names}
    except (SafetensorError, KeyError, ValueError, TypeError) as error:  # other types of numbers than numpy has
        raise InputError(f"{path} is no fitted state: {type(error).__name__}: {error}") from error
    return State(arrays, text)
