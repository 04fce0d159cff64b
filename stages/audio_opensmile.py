"""openSMILE features: functionals of a whole utterance, or low-level descriptors at a fixed rate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import closest
from pipeline.media.audio import resample
from pipeline.reason import Reason
from pipeline.stage import Item, Modality, Spec, Stage, State, Track, Waveform
from stages._pool import Pool, centres, steps

LEVELS = {"functionals": "Functionals", "lld": "LowLevelDescriptors", "lld_de": "LowLevelDescriptors_Deltas"}
FRAME_RATE_HZ = 100.0
_DELTA_REACH = 2
_SMOOTHING_REACH = 2
_FULL_SCALE = 1 - 2**-15


@dataclass(frozen=True)
class FeatureSet:
    """The properties of an openSMILE feature set that are needed before it is loaded.

    f0: the descriptor that is 0 in unvoiced frames and only there. window_s: the longest analysis window; a shorter
    clip has no frame. deltas: whether the set has a level of deltas. smooths_zeros: whether its moving average mixes
    the zeros of unvoiced frames into the voiced frames beside them.
    """

    f0: str
    window_s: float
    deltas: bool = True
    smooths_zeros: bool = False


_GEMAPS = FeatureSet("F0semitoneFrom27.5Hz_sma3nz", 0.06, deltas=False)
FEATURE_SETS = {
    "ComParE_2016": FeatureSet("F0final_sma", 0.06),
    "GeMAPS": _GEMAPS,
    "GeMAPSv01b": _GEMAPS,
    "eGeMAPS": _GEMAPS,
    "eGeMAPSv01b": _GEMAPS,
    "eGeMAPSv02": _GEMAPS,
    "emobase": FeatureSet("F0_sma", 0.04, smooths_zeros=True),
    "IS09": FeatureSet("F0_sma", 0.025, smooths_zeros=True),
    "IS10": FeatureSet("F0final_sma", 0.07, smooths_zeros=True),
    "IS11": FeatureSet("F0final_sma", 0.07),
    "IS12": FeatureSet("F0final_sma", 0.07),
    "IS13": FeatureSet("F0final_sma", 0.06),
}


@dataclass(frozen=True)
class Extractor:
    """The openSMILE objects of a worker, which are used for every clip and by several threads.

    smile: computes the features. lld: computes the descriptors that tell voiced from unvoiced frames. descriptors: the
    names of the features. voiced_only: [D], True for a descriptor that is pooled over voiced frames only.
    """

    smile: Any
    lld: Any
    descriptors: tuple[str, ...]
    voiced_only: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class AudioOpensmile(Stage):
    """A standard feature set of openSMILE (Eyben et al. 2010), computed by `opensmile` without custom configurations.

    feature_set: a member of `opensmile.FeatureSet`. IS10, the 1582 functionals of the INTERSPEECH 2010 Paralinguistic
    Challenge, is HJCAG's (H8); the low-level descriptors of eGeMAPSv02 are MulG's (X13). level: "functionals" gives one
    step, [1, D], at the centre of the stretch. "lld", and "lld_de" (their deltas), give [T, 2 D + 1] on the shared grid
    of `rate_hz`: the mean (`_amean`) and the standard deviation (`_stddev`) of each descriptor, and `voiced_share`.
    sample_rate_hz: the rate to which soxr resamples the signal. openSMILE takes 16-bit samples, so what exceeds full
    scale is clipped.

    Descriptors of the voice (F0, jitter, shimmer, harmonics-to-noise ratio, and all `nz` ones, which openSMILE itself
    smooths over non-zero frames only) are pooled over voiced frames, and are 0 in a step without a voiced frame. All
    others are pooled over all frames. A frame does not count as voiced if its smoothing or delta window contains an
    unvoiced frame.

    Silence gives finite values. Reasons: too_short for a clip shorter than the longest analysis window of the set (25
    to 70 ms), non_finite.
    """

    version: ClassVar[int] = 2
    modality: ClassVar[Modality] = "audio"
    inputs: ClassVar[tuple[str, ...]] = ("audio",)
    libraries: ClassVar[tuple[str, ...]] = ("opensmile", "soxr", "soundfile", "av")
    imports: ClassVar[tuple[str, ...]] = ("opensmile",)

    feature_set: str = "IS10"
    level: Literal["functionals", "lld", "lld_de"] = "functionals"
    sample_rate_hz: int = 16000
    rate_hz: float | None = None

    def check(self) -> None:
        """Raises ValueError for an unknown set or level, a level that the set lacks, and a rate that does not fit."""
        _check_known("feature_set", self.feature_set, FEATURE_SETS)
        _check_known("level", self.level, LEVELS)
        if self.level == "lld_de" and not FEATURE_SETS[self.feature_set].deltas:
            raise ValueError(f"feature_set {self.feature_set} has no level lld_de")
        if self.sample_rate_hz < 8000:
            raise ValueError(f"sample_rate_hz must be at least 8000, is {self.sample_rate_hz}")
        self._check_rate()

    def load(self, device: str) -> Extractor:
        """Returns the openSMILE objects, which run on the CPU whatever `device` is."""
        smile = _smile(self.feature_set, self.level)
        lld = _smile(self.feature_set, "lld") if self.level == "lld_de" else smile
        names = tuple(smile.feature_names)
        return Extractor(smile, lld, names, np.array([_of_the_voice(name) for name in names]))

    def spec(self, loaded: Extractor) -> Spec:
        """The names are openSMILE's own; those of pooled descriptors end in `_amean` or `_stddev`."""
        names = loaded.descriptors
        if self.level != "functionals":
            pooled = [f"{name}_{statistic}" for statistic in ("amean", "stddev") for name in names]
            names = (*pooled, "voiced_share")
        return Spec(dim=len(names), names=names)

    def transform(self, loaded: Extractor, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Returns a track of float32 for each waveform: [1, D] or [T, 2 D + 1]."""
        return [self._track(loaded, item["audio"]) for item in batch]

    def _check_rate(self) -> None:
        if self.level == "functionals" and self.rate_hz is not None:
            raise ValueError("rate_hz must be left out for functionals, which describe the whole utterance")
        if self.level != "functionals" and self.rate_hz is None:
            raise ValueError(f"level {self.level} needs rate_hz, the steps per second to which frames are pooled")
        if self.rate_hz is not None and not 0 < self.rate_hz <= FRAME_RATE_HZ:
            raise ValueError(f"rate_hz must be above 0 and at most {FRAME_RATE_HZ:g}, is {self.rate_hz:g}")

    def _track(self, loaded: Extractor, wave: Waveform) -> Track:
        samples = resample(wave, self.sample_rate_hz)
        if len(samples) < math.floor(FEATURE_SETS[self.feature_set].window_s * self.sample_rate_hz + 0.5):
            return Track.failed(Reason.TOO_SHORT)
        if not np.isfinite(samples).all():
            return Track.failed(Reason.NON_FINITE)
        samples = np.clip(samples, -1.0, _FULL_SCALE)
        duration_s = len(wave.samples) / wave.rate_hz
        if self.rate_hz is None:
            values, time_s = loaded.smile.process(samples, self.sample_rate_hz)[2], np.array([duration_s / 2])
        else:
            time_s = centres(steps(duration_s, self.rate_hz), self.rate_hz)
            values = self._pooled(loaded, samples, len(time_s), self.rate_hz)
        return Track.of(values, time_s) if np.isfinite(values).all() else Track.failed(Reason.NON_FINITE)

    def _pooled(self, loaded: Extractor, samples: NDArray[np.float32], count: int, rate_hz: float) -> NDArray[Any]:
        """[count, 2 D + 1], pooled from the frames' values [F, D]."""
        starts, ends, values = loaded.smile.process(samples, self.sample_rate_hz)
        pool = Pool.of((starts.total_seconds() + ends.total_seconds()).to_numpy() / 2, count, rate_hz)
        voiced = self._voiced(loaded, samples, values)
        weight = voiced[:, None] | ~loaded.voiced_only
        parts = (pool.mean(values, weight), pool.stddev(values, weight), pool.mean(voiced[:, None]))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _voiced(self, loaded: Extractor, samples: NDArray[np.float32], values: NDArray[Any]) -> NDArray[np.bool_]:
        """[F], True for a frame that is voiced and has only voiced frames in its smoothing and delta windows."""
        known = FEATURE_SETS[self.feature_set]
        reach = _SMOOTHING_REACH * known.smooths_zeros + _DELTA_REACH * (self.level == "lld_de")
        lld = values if loaded.lld is loaded.smile else loaded.lld.process(samples, self.sample_rate_hz)[2]
        voiced = np.zeros(len(values) + 2 * reach, bool)
        f0 = lld[: len(values), loaded.lld.feature_names.index(known.f0)]
        voiced[reach : reach + len(f0)] = f0 > 0
        return np.asarray(np.lib.stride_tricks.sliding_window_view(voiced, 2 * reach + 1).all(axis=1))


def _check_known(field: str, name: str, names: dict[str, Any]) -> None:
    if name not in names:
        raise ValueError(f"no {field} {name!r}: {closest(name, names)}")


def _of_the_voice(descriptor: str) -> bool:
    return descriptor.endswith("nz") or any(part in descriptor for part in ("F0", "jitter", "shimmer", "HNR"))


def _smile(feature_set: str, level: str) -> Any:
    import opensmile

    with warnings.catch_warnings():  # the recipe names this version of GeMAPS, as papers do
        warnings.filterwarnings("ignore", message="Feature set .* is deprecated", category=UserWarning)
        return opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel[LEVELS[level]])
