"""Speech encoders of `audio_wavlm`: read or made, and run on one clip at a time.

Shapes: N samples, T steps, H the encoder's width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoModel, PreTrainedModel, Wav2Vec2FeatureExtractor, WavLMConfig

from pipeline.backends.network import Network
from pipeline.errors import InputError
from stages._backbone import exact
from stages._hub import Precision, Source

_UNUSED = "masked_spec_embed"  # replaces masked steps in training; many checkpoints lack it


class Parts(NamedTuple):
    """A model in evaluation mode, the feature extractor that prepares its input, and its name in messages."""

    model: PreTrainedModel
    prepare: Wav2Vec2FeatureExtractor
    name: str


def read(name: str, revision: str) -> Parts:
    """Reads a directory or a hub id in float32. Raises InputError for missing weights and for another kind of model."""
    source = Source(name, revision, "preprocessor_config.json")
    prepare, model = source.read(AutoFeatureExtractor), source.weights(_UNUSED)
    if not isinstance(prepare, Wav2Vec2FeatureExtractor) or not hasattr(model.config, "conv_kernel"):
        raise InputError(f"{name} is a {model.config.model_type}, no encoder of raw sound as WavLM is")
    if getattr(model, "adapter", None) is not None:
        model.adapter = None  # an adapter shortens the output for a decoder
    return Parts(model.eval(), prepare, name)


def make(hidden: int, layers: int, heads: int, seed: int) -> Parts:
    """A WavLM with random weights drawn from `seed`; the caller's random state stays as it is."""
    config = WavLMConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        conv_dim=(hidden,) * 7,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModel.from_config(config)
    return Parts(model.eval(), Wav2Vec2FeatureExtractor(do_normalize=True), "the random encoder")


@dataclass(frozen=True)
class Encoder:
    """A model on its device.

    layer: the index of the hidden states that are used, from 0. window: how many samples one step sees. stride: how
    many samples are between the starts of two steps.
    """

    parts: Parts
    layer: int
    window: int
    stride: int

    @classmethod
    def of(cls, parts: Parts, layer: int, device: str, precision: Precision) -> Encoder:
        """The encoder of `parts`; `layer` may count from the end. Raises InputError if there is no such layer."""
        config = parts.model.config
        count = config.num_hidden_layers + 1
        if not -count <= layer < count:
            raise InputError(f"{parts.name} has {count} hidden states: layer is {-count} to {count - 1}, not {layer}")
        window, stride = 1, 1
        for kernel, hop in zip(config.conv_kernel, config.conv_stride, strict=True):
            window, stride = window + (kernel - 1) * stride, stride * hop
        parts.model.to(device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        return cls(parts, layer % count, window, stride)

    def checked(self, rate_hz: float | None) -> Encoder:
        """This encoder. Raises InputError if it gives fewer steps per second than `rate_hz`."""
        own_hz = self.sample_rate_hz / self.stride
        if rate_hz is not None and rate_hz > own_hz:
            raise InputError(
                f"{self.parts.name} gives {own_hz:g} steps a second: rate_hz is at most that, not {rate_hz:g}"
            )
        return self

    @property
    def dim(self) -> int:
        """H."""
        return int(self.parts.model.config.hidden_size)

    @property
    def sample_rate_hz(self) -> int:
        """The sampling rate that the model was trained at."""
        return int(self.parts.prepare.sampling_rate)

    def times(self, count: int) -> NDArray[np.float64]:
        """The centres of the first `count` steps in seconds, [T]."""
        return np.asarray((np.arange(count) * self.stride + self.window / 2) / self.sample_rate_hz, np.float64)

    def states(self, samples: NDArray[np.float32], chunk_s: float) -> NDArray[np.float32]:
        """float32 [N] at `sample_rate_hz`, N >= `window` -> [T, H], computed in parts of at most about `chunk_s`."""
        prepared = self.parts.prepare(samples, sampling_rate=self.sample_rate_hz, return_tensors="np")
        wave: NDArray[np.float32] = prepared["input_values"][0]
        with torch.inference_mode(), exact():
            return np.concatenate([self._forward(wave[part]) for part in self._cut(len(wave), chunk_s)])

    def _cut(self, samples: int, chunk_s: float) -> Iterator[slice]:
        """Yields parts of equal numbers of steps. A part overlaps the next one as far as its last step sees."""
        steps = (samples - self.window) // self.stride + 1
        most = max(1, math.floor(chunk_s * self.sample_rate_hz / self.stride))
        edges = np.linspace(0, steps, math.ceil(steps / most) + 1).round().astype(int).tolist()
        for first, end in zip(edges, edges[1:], strict=False):
            yield slice(first * self.stride, None if end == steps else (end - 1) * self.stride + self.window)

    def _forward(self, wave: NDArray[Any]) -> NDArray[np.float32]:
        model = self.parts.model
        values = torch.from_numpy(wave)[None].to(model.device, model.dtype)  # [1, N]
        states: NDArray[np.float32] = self._network(values)[0].float().cpu().numpy()
        return states

    @cached_property
    def _network(self) -> Network:
        return Network(_Layer(self.parts.model, self.layer))


class _Layer(nn.Module):
    """Samples [1, N] to the hidden states [1, T, H] of one layer."""

    def __init__(self, model: PreTrainedModel, layer: int) -> None:
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, values: Tensor) -> Tensor:
        hidden: Tensor = self.model(values, output_hidden_states=True).hidden_states[self.layer]
        return hidden
