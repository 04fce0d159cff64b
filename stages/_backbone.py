"""Convolutional networks of torchvision as feature extractors. B images or clips, D features, T frames of a clip."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torchvision.models import get_model, get_model_weights

from pipeline.errors import InputError, closest
from pipeline.stage import State

_FILES = (".safetensors", ".pth", ".pt")

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
"""Mean and deviation of red, green and blue that torchvision's weights were trained with, of 1."""


def build(name: str, weights: str, seed: int) -> nn.Module:
    """torchvision's model `name` with its classifier taken off, so that it ends in pooled features.

    weights: the name of one of torchvision's sets, a path that ends in .safetensors, .pth or .pt, or "random", drawn
    from `seed`; the caller's random state stays as it is. Raises InputError where the weights cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = get_model(name, weights=None)
    model.fc = nn.Identity()
    if weights != "random":
        _load(model, _read(name, weights), weights)
    return model.eval()


def _read(name: str, weights: str) -> Mapping[str, Tensor]:
    if Path(weights).suffix in _FILES:
        return _read_file(Path(weights).expanduser())
    known = {entry.name: entry for entry in get_model_weights(name)}
    if weights not in known:
        raise InputError(f"{name} has no weights {weights!r}: {closest(weights, [*known, 'random'])}")
    try:
        state: Mapping[str, Tensor] = known[weights].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"no weights {weights} of {name}: {error}\nFetch them with `make weights`, or name a local file: "
            f'weights = "/path/to/{name}.safetensors" (or .pth)'
        ) from error
    return state


def _read_file(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"no weights in {path}: {error}") from error
    return state


def _load(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """A classifier in `state` is left unread. Raises InputError where the rest is not this model's."""
    try:
        model.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")})
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(f"the weights in {source} are of another model: {error}") from error


@dataclass
class Extractor:
    """A network in evaluation mode, its batch norms folded into its convolutions, on its device.

    scale: mean and deviation of red, green and blue. layout: how pixels lie in memory, for images or clips.
    size: images or clips at once; fewer come last. `bf16` computes in bfloat16.
    """

    model: nn.Module
    device: str
    precision: str
    scale: tuple[tuple[float, ...], tuple[float, ...]]
    layout: torch.memory_format
    size: int
    _fused: nn.Module = field(init=False)
    _state: State | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._fused = self._ready()

    def use(self, state: State | None) -> None:
        """Takes the network's weights from a fitted state, unless it has them already."""
        if state is not None and state is not self._state:
            self.model.load_state_dict({name: torch.tensor(value) for name, value in state.tensors.items()})
            self._fused, self._state = self._ready(), state

    def features(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """uint8 images [H, W, 3] or clips [T, H, W, 3], all of one shape, to [B, D]; they are read as it goes."""
        with torch.inference_mode(), exact():
            parts = [self._forward(chunk) for chunk in _chunks(images, self.size)]
        return np.concatenate(parts)

    def _ready(self) -> nn.Module:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        return fuse(self.model).to(self.device, dtype).to(memory_format=self.layout)

    def _forward(self, chunk: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        pixels = to_device(chunk, self.device)
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        output: Tensor = self._fused(normalised(pixels, self.scale).to(dtype).contiguous(memory_format=self.layout))
        found: NDArray[np.float32] = output.float().cpu().numpy()
        return found


def to_device(chunk: Sequence[NDArray[np.uint8]], device: str) -> Tensor:
    """Stacks images or clips and moves them, pixels last, still uint8; copies beside computing on CUDA."""
    pixels = torch.from_numpy(np.stack(chunk))
    if not device.startswith("cuda"):
        return pixels.to(device)
    return pixels.pin_memory().to(device, non_blocking=True)


def normalised(pixels: Tensor, scale: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """uint8 [B, ..., 3] to float32 [B, 3, ...], less the mean and divided by the deviation of each colour."""
    mean, deviation = (torch.tensor(values, device=pixels.device) for values in scale)
    return ((pixels.float() / 255 - mean) / deviation).movedim(-1, 1)


@contextmanager
def exact() -> Iterator[None]:
    """Within it float32 means float32, also in convolutions on CUDA, which otherwise round to TF32."""
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.mkldnn)
    before = [backend.conv.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.conv.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.conv.fp32_precision = precision


def _chunks(images: Iterable[NDArray[np.uint8]], size: int) -> Iterator[list[NDArray[np.uint8]]]:
    rest = iter(images)
    while chunk := list(islice(rest, size)):
        yield chunk


def split(features: NDArray[np.float32], counts: Sequence[int]) -> list[NDArray[np.float32]]:
    """[B, D] back into one [count, D] for each item."""
    return np.split(features, np.cumsum(counts)[:-1])
