"""Hidden states of a speech encoder that reads raw audio: WavLM, HuBERT, wav2vec 2.0 and their kin in `transformers`.

Sources: WavLM, Chen et al. 2022; HuBERT, Hsu et al. 2021; wav2vec 2.0, Baevski et al. 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.weights import check_revision, hub_source
from pipeline.media.audio import resample
from pipeline.reason import Reason
from pipeline.stage import SOURCE, Item, Modality, Spec, Stage, State, Track, Waveform
from stages._pool import Pool, centres, steps

if TYPE_CHECKING:
    from stages._wavlm import Encoder

PUBLISHED = ("facebook/wav2vec2-base-960h", "22aad52d435eb6dbaf354bdad9b0da84ce7d6156")
"""The default model, which has safetensors, and the commit of the hub that it is pinned to."""

_SIZES = ("hidden", "layers", "heads", "seed")
_POSITION_GROUPS = 16


@dataclass(frozen=True, kw_only=True)
class AudioWavlm(Stage):
    """[T, H], the hidden states of one layer of an encoder of raw audio.

    init: `pretrained` reads `model`, a local directory or a hub id, with its `revision`, a commit; the default is
    `PUBLISHED`. Only safetensors are read. `random` makes a WavLM of `hidden` (H), `layers` and `heads`, drawn from
    `seed`, and needs no download. The audio is resampled to the rate in the model's preprocessor configuration, and
    standardised over the clip if that asks for it; `random` uses 16 kHz, standardised.
    layer: an index into the hidden states: 0 is the input of the first transformer layer, 1 its output; negative
    indices count from the end, so -1 is the output of the last layer.
    pool: `none` gives the encoder's own steps, in all published models 20 ms apart and 25 ms long; `grid` averages them
    to the shared grid of `rate_hz`; `mean` gives one step, [1, H], at the centre of the stretch.
    chunk_s: about the longest stretch that is encoded at once. A longer clip is cut into equal parts that do not see
    each other; no step is left out. A layer's attention of WavLM-base takes 0.4 GB for one minute, 11 GB for five.
    precision: `bf16` runs the encoder in bfloat16, which differs from float32 by far more than its tolerance.

    Each clip is encoded alone, because padding would change its values: the first convolution of the base models is
    normalised over all of its input. Reasons: too_short for a clip shorter than one step, non_finite.
    """

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "audio"
    inputs: ClassVar[tuple[str, ...]] = ("audio",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "soxr", "soundfile", "av")
    gpu: ClassVar[bool] = True
    imports: ClassVar[tuple[str, ...]] = ("stages._wavlm",)

    model: str = field(default="", metadata=SOURCE)
    revision: str = ""
    init: Literal["pretrained", "random"] = "pretrained"
    layer: int = -1
    pool: Literal["none", "grid", "mean"] = "none"
    rate_hz: float | None = None
    chunk_s: float = 30.0
    precision: Literal["float32", "bf16"] = "float32"
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Writes out the default model and its revision, so that the key holds them."""
        if self.init == "pretrained" and self.model in ("", PUBLISHED[0]):
            object.__setattr__(self, "model", PUBLISHED[0])
            object.__setattr__(self, "revision", self.revision or PUBLISHED[1])

    def sources(self) -> dict[str, str]:
        """The model at its revision."""
        return {} if self.init == "random" else {"model": hub_source(self.model, self.revision)}

    def check(self) -> None:
        """Raises ValueError for parameters that have no effect beside others, or give no encoder or no steps."""
        if self.init == "random":
            self._check_random()
        else:
            self._check_published()
        if (self.pool == "grid") != (self.rate_hz is not None):
            raise ValueError('rate_hz, the steps per second, belongs to pool = "grid", which needs it')
        if self.rate_hz is not None and not self.rate_hz > 0:
            raise ValueError(f"rate_hz must be above 0, is {self.rate_hz:g}")
        if not self.chunk_s >= 1:
            raise ValueError(f"chunk_s must be at least 1, is {self.chunk_s:g}")

    def _check_random(self) -> None:
        if self.model or self.revision:
            raise ValueError('init = "random" reads no weights: leave model and revision out')
        if min(self.layers, self.heads, self.hidden) < 1 or self.hidden % self.heads or self.hidden % _POSITION_GROUPS:
            raise ValueError(
                f"layers and heads are at least 1, hidden is a multiple of heads and of {_POSITION_GROUPS}"
            )

    def _check_published(self) -> None:
        self.refuse(_SIZES, 'only for init = "random", a published model has its own')
        check_revision(self.model, self.revision)

    def load(self, device: str) -> Encoder:
        """Returns the encoder. Raises InputError if it can't be read, lacks the layer, or is slower than `rate_hz`."""
        from stages._wavlm import Encoder, make, read

        if self.init == "random":
            parts = make(self.hidden, self.layers, self.heads, self.seed)
        else:
            parts = read(self.model, self.revision)
        return Encoder.of(parts, self.layer, device, self.precision).checked(self.rate_hz)

    def spec(self, loaded: Encoder) -> Spec:
        """D is H, the encoder's width; the dimensions have no names."""
        return Spec(dim=loaded.dim, tolerance=1e-4 if self.precision == "float32" else 0.1)

    def transform(self, loaded: Encoder, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Returns a track of float32 for each waveform, encoded one after the other."""
        return [self._track(loaded, item["audio"]) for item in batch]

    def _track(self, loaded: Encoder, wave: Waveform) -> Track:
        samples = resample(wave, loaded.sample_rate_hz)
        if len(samples) < loaded.window:
            return Track.failed(Reason.TOO_SHORT)
        with np.errstate(over="ignore", invalid="ignore"):  # huge samples give a reason, not a warning
            power = np.dot(samples, samples)
        if not np.isfinite(power):
            return Track.failed(Reason.NON_FINITE)
        states = loaded.states(samples, self.chunk_s)
        if not np.isfinite(states).all():
            return Track.failed(Reason.NON_FINITE)
        return self._pooled(states, loaded.times(len(states)), len(wave.samples) / wave.rate_hz)

    def _pooled(self, states: NDArray[np.float32], time_s: NDArray[Any], duration_s: float) -> Track:
        """The track of a clip from its states [F, H] and their centres `time_s` [F]."""
        if self.pool == "mean":
            return Track.of(states.mean(0, np.float64, keepdims=True).astype(np.float32), np.array([duration_s / 2]))
        if self.rate_hz is None:
            return Track.of(states, time_s)
        grid = centres(steps(duration_s, self.rate_hz), self.rate_hz)
        return Track.of(Pool.of(time_s, len(grid), self.rate_hz).mean(states).astype(np.float32), grid)
