"""Hidden states of a speech encoder that reads raw sound: WavLM, HuBERT, wav2vec 2.0 and their kin in `transformers`.

WavLM is Chen et al. 2022, HuBERT Hsu et al. 2021, wav2vec 2.0 Baevski et al. 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.weights import check_revision
from pipeline.media.audio import resample
from pipeline.reason import Reason
from pipeline.stage import SOURCE, Item, Modality, Spec, Stage, State, Track, Waveform
from stages._pool import Pool, centres, steps

if TYPE_CHECKING:
    from stages._wavlm import Encoder

PUBLISHED = ("facebook/wav2vec2-base-960h", "22aad52d435eb6dbaf354bdad9b0da84ce7d6156")
"""The model that stands for an empty `model`, and the commit of the hub that it is pinned to; it has safetensors."""

_SIZES = ("hidden", "layers", "heads", "seed")
_POSITION_GROUPS = 16


@dataclass(frozen=True, kw_only=True)
class AudioWavlm(Stage):
    """[T, H], one layer's hidden states of an encoder of raw sound.

    init: `pretrained` reads `model`, a local directory or a hub id with its `revision`, a commit; those of `PUBLISHED`
    need not be given. Only safetensors are read. `random` makes a WavLM of `hidden` (H), `layers` and `heads`, drawn
    from `seed`, and needs no download. The sound is brought to the rate of the model's preprocessor configuration, and
    to mean 0 and deviation 1 over the clip where that asks for it; `random` is at 16 kHz and asks.
    layer: an index into the hidden states: 0 is what enters the first transformer layer, 1 what leaves it; negative
    ones count from the end, -1 is what leaves the last.
    pool: `none` gives the encoder's own steps, 20 ms apart and 25 long in all published ones; `grid` their means on the
    shared grid of `rate_hz`; `mean` one step, [1, H], at the centre of the stretch.
    chunk_s: about the longest stretch that is encoded at once. A longer clip is cut into equal parts, which do not see
    each other but leave no step out: a layer's attention of WavLM-base takes 0.4 GB for a minute, 11 GB for five.
    precision: `bf16` runs the encoder in bfloat16: near float32, but far outside its tolerance.

    Each clip is encoded alone: padding would enter the values, since the first convolution of the base models is
    normalised over the time of all that it is given. Reasons: too_short for a clip shorter than one step, non_finite.
    """

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "audio"
    inputs: ClassVar[tuple[str, ...]] = ("audio",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "soxr", "soundfile", "av")
    gpu: ClassVar[bool] = True

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
        """Spells out the published model and its revision, so that they stand in the key."""
        if self.init == "pretrained" and self.model in ("", PUBLISHED[0]):
            object.__setattr__(self, "model", PUBLISHED[0])
            object.__setattr__(self, "revision", self.revision or PUBLISHED[1])

    def check(self) -> None:
        """Raises ValueError where a parameter has no effect beside another, or makes no encoder or no steps."""
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
        """The encoder. Raises InputError where it cannot be read, lacks the layer, or is slower than `rate_hz`."""
        from stages._wavlm import Encoder, make, read

        if self.init == "random":
            parts = make(self.hidden, self.layers, self.heads, self.seed)
        else:
            parts = read(self.model, self.revision)
        return Encoder.of(parts, self.layer, device, self.precision).giving(self.rate_hz)

    def spec(self, loaded: Encoder) -> Spec:
        """H is the encoder's; its states have no names."""
        return Spec(dim=loaded.dim, tolerance=1e-4 if self.precision == "float32" else 0.1)

    def transform(self, loaded: Encoder, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """One track of float32 for each waveform, one after the other."""
        return [self._track(loaded, item["audio"]) for item in batch]

    def _track(self, loaded: Encoder, wave: Waveform) -> Track:
        samples = resample(wave, loaded.sample_rate_hz)
        if len(samples) < loaded.window:
            return Track.failed(Reason.TOO_SHORT)
        with np.errstate(over="ignore", invalid="ignore"):  # absurdly large samples end in a reason, not in a warning
            power = np.dot(samples, samples)
        if not np.isfinite(power):
            return Track.failed(Reason.NON_FINITE)
        states = loaded.states(samples, self.chunk_s)
        if not np.isfinite(states).all():
            return Track.failed(Reason.NON_FINITE)
        return self._pooled(states, loaded.times(len(states)), len(wave.samples) / wave.rate_hz)

    def _pooled(self, states: NDArray[np.float32], time_s: NDArray[Any], duration_s: float) -> Track:
        """states: [F, H] with their centres `time_s` [F], of a clip of that many seconds."""
        if self.pool == "mean":
            return Track.of(states.mean(0, np.float64, keepdims=True).astype(np.float32), np.array([duration_s / 2]))
        if self.rate_hz is None:
            return Track.of(states, time_s)
        grid = centres(steps(duration_s, self.rate_hz), self.rate_hz)
        return Track.of(Pool.of(time_s, len(grid), self.rate_hz).mean(states).astype(np.float32), grid)
