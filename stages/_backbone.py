"""Networks of torchvision and timm as feature extractors.

Shapes: B images or clips, D features, T frames of a clip.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
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
from torchvision import models
from torchvision.models import get_model, get_model_weights, list_models

from pipeline.backends.fitting import Fitting
from pipeline.backends.network import Network
from pipeline.cache.weights import check_torch_cache, local
from pipeline.errors import InputError, closest
from pipeline.stage import State
from pipeline.written_path import written_path

Scale = tuple[tuple[float, ...], tuple[float, ...]]

TIMM = "timm/"
_FILES = (".safetensors", ".pth", ".pt")
_HEADS = ("fc", "classifier", "heads", "head")
_LAST = (nn.Linear, nn.Conv2d, nn.Conv3d)
_SCALING = ("googlenet", "inception_v3")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of red, green and blue, full scale at 1, for weights of which no record states them."""


def build(name: str, weights: str, seed: int, kind: str = "images") -> nn.Module:
    """The network `name` in evaluation mode, without the last layer of its classifier, so that it ends in features.

    name: a torchvision model for `kind`, "images" or "clips", or `timm/<name>`, with or without a tag. weights: the
    name of a set that torchvision publishes, a path that ends in .safetensors, .pth or .pt, or "random" for weights
    drawn from `seed`; the caller's random state stays as it is. Raises InputError for an unknown name and for weights
    that can't be read.
    """
    weights = local(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, last = _of_timm(name, weights) if name.startswith(TIMM) else _of_torchvision(name, weights, kind)
    if Path(weights).suffix in _FILES:
        _load(model, _read_file(written_path(weights)), weights, last)
    return model.eval()


def scale_of(name: str, weights: str) -> Scale:
    """The mean and deviation of red, green and blue, full scale at 1, that the weights were trained with.

    Raises InputError if the network is timm's and only a tag would tell.
    """
    if name.startswith(TIMM):
        return _scale_of_timm(name.removeprefix(TIMM), weights)
    published = {entry.name: entry for entry in get_model_weights(name)}
    if (entry := published.get(weights) or next(iter(published.values()), None)) is None:
        return IMAGENET
    transform = entry.transforms()
    return tuple(transform.mean), tuple(transform.std)


def width(model: nn.Module, shape: Sequence[int], name: str) -> int:
    """D, the width of the network's output for images or clips of `shape`. Raises InputError if it can't take them."""
    try:
        with torch.inference_mode():
            output = model(torch.zeros(1, 3, *shape, device=next(model.parameters()).device))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise InputError(f"{name} takes no input of {' x '.join(map(str, shape))}: {error}") from error
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise InputError(f"{name} does not end in one vector for each input")
    return int(output.shape[1])


def _of_torchvision(name: str, weights: str, kind: str) -> tuple[nn.Module, Sequence[str]]:
    """The network, and the name of the last layer that it had. Weights from a file are not read yet."""
    known = list_models(module=models if kind == "images" else models.video)
    if name not in known:
        raise InputError(f"torchvision has no network {name!r} for {kind}: {closest(name, known)}")
    extra: dict[str, Any] = {"init_weights": False} if name in _SCALING else {}
    model: Any = get_model(name, weights=None, **extra)
    last = _without_last(model)
    if weights != "random" and Path(weights).suffix not in _FILES:
        _load(model, _read(name, weights), weights, [last])
    if name in _SCALING:
        model.transform_input = weights != "random"  # its weights learned another scale, to which it converts
    return model, [last]


def _without_last(model: nn.Module) -> str:
    """Removes the last layer of the classifier, whatever its name, and returns the name."""
    head = next(name for name in _HEADS if hasattr(model, name))
    layers = [name for name, layer in getattr(model, head).named_modules() if isinstance(layer, _LAST)]
    path = f"{head}.{layers[-1]}".rstrip(".")
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Identity())
    return path


def _read(name: str, weights: str) -> Mapping[str, Tensor]:
    published = {entry.name: entry for entry in get_model_weights(name)}
    if weights not in published:
        raise InputError(f"{name} has no weights {weights!r}: {closest(weights, [*published, 'random'])}")
    try:
        state: Mapping[str, Tensor] = published[weights].get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
        check_torch_cache(Path(torch.hub.get_dir()) / "checkpoints" / Path(published[weights].url).name)
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"no weights {weights} of {name}: {error}\nFetch them with `make weights`, or name a local file: "
            f'weights = "/path/to/{name}.safetensors" (or .pth)'
        ) from error
    return state


def _of_timm(name: str, weights: str) -> tuple[nn.Module, Sequence[str]]:
    """The network, and the names of the last layers that it would have. Weights from a file are not read yet."""
    import timm

    own = name.removeprefix(TIMM)
    if not timm.is_model(own):
        raise InputError(
            f"timm has no network {own!r}: {closest(own, get_close_matches(own, timm.list_models(), 9, 0))}"
        )
    bare, _, tag = own.partition(".")
    if tag and tag not in _tags(bare):
        raise InputError(f"{TIMM}{bare} has no weights {tag!r}: {closest(tag, _tags(bare))}")
    if weights != "random" and Path(weights).suffix not in _FILES:
        raise InputError(
            f"{name}: weights of timm are named by path, not {weights!r}, which the hub may change: take "
            f'model.safetensors of that network and set from https://huggingface.co/timm; weights = "/path/to/it"'
        )
    model: Any = timm.create_model(own, pretrained=False, num_classes=0)
    last = model.pretrained_cfg.get("classifier") or ()
    return model, [last] if isinstance(last, str) else last


def _tags(name: str) -> list[str]:
    """The tags of the weights that timm publishes for its network `name`."""
    import timm

    return [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{name}.*")]


def _scale_of_timm(name: str, weights: str) -> Scale:
    import timm

    names = [name] if "." in name or weights == "random" else [f"{name}.{tag}" for tag in _tags(name)]
    configs = [timm.get_pretrained_cfg(tagged) for tagged in names]
    scales = {(tuple(config.mean), tuple(config.std)) for config in configs if config}
    if len(scales) > 1:
        raise InputError(
            f"{TIMM}{name}: its published weights differ in how colours are scaled: say which {weights} are, "
            f'backbone = "{TIMM}{name}.<tag>" with one of the tags {", ".join(_tags(name))}'
        )
    return next(iter(scales), IMAGENET)


def _read_file(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"no weights in {path}: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        inside = isinstance(state, Mapping) and "state_dict" in state
        way = ': save what is in its ["state_dict"] by itself' if inside else ""
        raise InputError(f"no weights in {path}: it is no state dict, which is tensors by their names{way}")
    return state


def _load(model: nn.Module, state: Mapping[str, Tensor], source: str, last: Sequence[str]) -> None:
    """Loads all weights but those of the layers `last`. Raises InputError if they are those of another model."""
    unread = tuple(f"{name}." for name in last)
    kept = OrderedDict((_renamed(name), value) for name, value in state.items() if not name.startswith(unread))
    versions = getattr(state, "_metadata", {"": {"version": getattr(model, "_version", None)}})
    kept._metadata = versions  # type: ignore[attr-defined]
    try:
        model.load_state_dict(kept)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"the weights in {source} are of another model: {error}") from error


def _renamed(name: str) -> str:
    """The present name of a weight: torchvision renamed those of DenseNets after it published them."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)


def _fused(model: nn.Module) -> nn.Module:
    """The model with its batch norms folded into its convolutions; the model itself if it can't be traced."""
    try:
        folded: nn.Module = fuse(model)
    except Exception:  # tracing runs the network's own code, which may raise anything
        return model
    return folded


@dataclass
class Extractor:
    """A network in evaluation mode on its device; its batch norms are folded into its convolutions where possible.

    dim: D. precision: "bf16" computes in bfloat16. scale: the mean and deviation of red, green and blue. layout: the
    order of pixels in memory, for images or for clips. size: the largest number of images or clips of one forward pass,
    which is halved if the device refuses memory.
    """

    model: nn.Module
    dim: int
    device: str
    precision: str
    scale: Scale
    layout: torch.memory_format
    size: int
    _folded: Network = field(init=False)
    _state: State | None = field(init=False, default=None)
    _at_once: Fitting = field(init=False)

    def __post_init__(self) -> None:
        self._folded, self._at_once = self._ready(), Fitting(self.size)

    def use(self, state: State | None) -> None:
        """Loads the weights of a fitted state, unless they are loaded already."""
        if state is not None and state is not self._state:
            self.model.load_state_dict({name: torch.tensor(value) for name, value in state.tensors.items()})
            self._folded, self._state = self._ready(), state

    def features(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """uint8 images [H, W, 3] or clips [T, H, W, 3], all of one shape -> [B, D]. They are read chunk by chunk."""
        with torch.inference_mode(), exact():
            parts = list(self._at_once(self._forward, images))
        return np.concatenate(parts)

    def _ready(self) -> Network:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        model = _fused(self.model).to(self.device, dtype)
        rank = 4 if self.layout is torch.channels_last else 5
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.ndim == rank:
                tensor.data = tensor.data.contiguous(memory_format=self.layout)
        return Network(model)

    def _forward(self, chunk: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        pixels = normalised(to_device(chunk, self.device), self.scale).to(dtype)
        features: NDArray[np.float32] = self._folded(pixels.contiguous(memory_format=self.layout)).float().cpu().numpy()
        return features


def to_device(chunk: Sequence[NDArray[np.uint8]], device: str) -> Tensor:
    """Stacks images or clips, uint8 with channels last, and moves them to the device, on CUDA without waiting."""
    pixels = torch.from_numpy(np.stack(chunk))
    if not device.startswith("cuda"):
        return pixels.to(device)
    return pixels.pin_memory().to(device, non_blocking=True)


def normalised(pixels: Tensor, scale: Scale) -> Tensor:
    """uint8 [B, ..., 3] to float32 [B, 3, ...], with each colour less its mean and divided by its deviation."""
    mean, deviation = (torch.tensor(values, device=pixels.device) for values in scale)
    return ((pixels.float() / 255 - mean) / deviation).movedim(-1, 1)


@contextmanager
def exact() -> Iterator[None]:
    """A context in which convolutions compute in float32, also on CUDA, where they otherwise round to TF32."""
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.mkldnn)
    before = [backend.conv.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.conv.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.conv.fp32_precision = precision


def split(features: NDArray[np.float32], counts: Sequence[int]) -> list[NDArray[np.float32]]:
    """Splits features [B, D] into one [count, D] for each of `counts`."""
    return np.split(features, np.cumsum(counts)[:-1])
