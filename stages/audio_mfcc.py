"""Mel-frequency cepstral coefficients (MFCC) and their deltas at a fixed rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.media.audio import resample
from pipeline.reason import Reason
from pipeline.stage import Item, Modality, Spec, Stage, State, Track, Waveform
from stages._pool import Pool, centres, steps

_HZ_PER_MEL = 200 / 3
_LINEAR_MELS = 15
_MELS_PER_NEPER = 27 / math.log(6.4)


@dataclass(frozen=True, kw_only=True)
class AudioMfcc(Stage):
    """[T, D], librosa's MFCC (Slaney's mel scale, power spectrum in dB floored 80 dB below the clip's peak, DCT-II).

    D is n_mfcc (deltas + 1): the coefficients from the 0th up, then their first `deltas` derivatives; MulG uses 13 and
    two (X13). A derivative is a Savitzky-Golay filter over `delta_width` frames, whose ends are held, so that a clip
    may have any number of frames. A frame is a Hann window of `window_s`, zero-padded to the next power of two; one
    starts every `hop_s` at `sample_rate_hz`. Frames are averaged to the steps of the shared grid of `rate_hz`, so T is
    the same as that of `audio_opensmile` at this rate.

    Silence gives finite values. Reasons: too_short for a clip shorter than one window, non_finite.
    """

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "audio"
    inputs: ClassVar[tuple[str, ...]] = ("audio",)
    libraries: ClassVar[tuple[str, ...]] = ("librosa", "soxr", "soundfile", "av")
    imports: ClassVar[tuple[str, ...]] = ("librosa.core.spectrum", "librosa.filters", "scipy.fft", "scipy.signal")

    n_mfcc: int = 13
    deltas: int = 2
    delta_width: int = 9
    n_mels: int = 40
    window_s: float = 0.025
    hop_s: float = 0.010
    sample_rate_hz: int = 16000
    rate_hz: float = 12.5

    def check(self) -> None:
        """Raises ValueError for parameters out of range, and for more mel bands than the window can resolve."""
        rules = {
            "n_mfcc must be from 1 to n_mels": 1 <= self.n_mfcc <= self.n_mels,
            "deltas must be 0, 1 or 2": self.deltas in (0, 1, 2),
            "delta_width must be odd and at least 3": self.delta_width >= 3 and self.delta_width % 2 == 1,
            "sample_rate_hz must be at least 8000": self.sample_rate_hz >= 8000,
            "hop_s must be at most window_s": self.hop_s <= self.window_s,
            "hop_s must be at least one sample": self.hop_s * self.sample_rate_hz >= 1,
            "rate_hz must be above 0 and at most 1 / hop_s": 0 < self.rate_hz * self.hop_s <= 1,
        }
        broken = [rule for rule, kept in rules.items() if not kept]
        if broken:
            raise ValueError("; ".join(broken))
        if 2 * self._band_hz <= self.sample_rate_hz / self._n_fft:
            raise ValueError(f"n_mels = {self.n_mels} leaves mel bands empty at window_s = {self.window_s:g}")
        if not self.deltas:
            self.refuse(("delta_width",), "nothing is derived with deltas = 0")

    def spec(self, loaded: None) -> Spec:
        """The names are `mfcc_0`, ..., then `mfcc_0_delta`, ..., then `mfcc_0_delta2`, ..."""
        orders = ("", "_delta", "_delta2")[: self.deltas + 1]
        names = tuple(f"mfcc_{k}{order}" for order in orders for k in range(self.n_mfcc))
        return Spec(dim=len(names), names=names, tolerance=1e-3)

    def transform(self, loaded: None, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Returns a track of float32 [T, D] for each waveform."""
        return [self._track(item["audio"]) for item in batch]

    @property
    def _window(self) -> int:
        return round(self.window_s * self.sample_rate_hz)

    @property
    def _hop(self) -> int:
        return round(self.hop_s * self.sample_rate_hz)

    @property
    def _n_fft(self) -> int:
        return 1 << (self._window - 1).bit_length()

    @property
    def _band_hz(self) -> float:
        """The distance between neighbouring mel bands at the low end, where they are narrowest."""
        top_hz = self.sample_rate_hz / 2
        mels = _LINEAR_MELS + _MELS_PER_NEPER * math.log(top_hz / (_LINEAR_MELS * _HZ_PER_MEL))
        return mels / (self.n_mels + 1) * _HZ_PER_MEL

    def _track(self, wave: Waveform) -> Track:
        samples = resample(wave, self.sample_rate_hz)
        if len(samples) < self._window:
            return Track.failed(Reason.TOO_SHORT)
        if not np.isfinite(samples).all():
            return Track.failed(Reason.NON_FINITE)
        time_s = centres(steps(len(wave.samples) / wave.rate_hz, self.rate_hz), self.rate_hz)
        frames = self._frames(samples)
        if not np.isfinite(frames).all():
            return Track.failed(Reason.NON_FINITE)
        pool = Pool.of(np.arange(len(frames)) * self._hop / self.sample_rate_hz, len(time_s), self.rate_hz)
        return Track.of(pool.mean(frames).astype(np.float32), time_s)

    def _frames(self, samples: NDArray[np.float32]) -> NDArray[Any]:
        """[F, D], one frame every `hop_s`. Frame k is centred at k hops; zeros pad the clip on both sides.

        The steps are those of `librosa.feature.mfcc`; importing `librosa.feature` would take longer than a hundred
        clips.
        """
        import librosa
        from scipy.fft import dct

        count = 1 + (len(samples) - 1) // self._hop
        padded = np.pad(samples, (0, max(0, self._n_fft - len(samples))))
        with np.errstate(over="ignore", invalid="ignore"):  # huge samples give a reason, not a warning
            spectrum = librosa.stft(y=padded, n_fft=self._n_fft, win_length=self._window, hop_length=self._hop)
            power = np.abs(spectrum) ** 2.0  # [1 + n_fft / 2, F]
            bands = _mel_filters(self.sample_rate_hz, self._n_fft, self.n_mels)
            mel = np.einsum("ft,mf->mt", power, bands, optimize=True)
            mfcc = dct(librosa.power_to_db(mel), axis=0, type=2, norm="ortho")[: self.n_mfcc, :count]
        orders = [mfcc, *(self._delta(mfcc, order) for order in range(1, self.deltas + 1))]
        return np.concatenate(orders).T

    def _delta(self, mfcc: NDArray[Any], order: int) -> NDArray[Any]:
        from scipy.signal import savgol_filter

        delta: NDArray[Any] = savgol_filter(mfcc, self.delta_width, polyorder=order, deriv=order, mode="nearest")
        return delta


@cache
def _mel_filters(rate_hz: int, n_fft: int, n_mels: int) -> NDArray[np.float32]:
    """librosa's triangular filters, [n_mels, 1 + n_fft / 2]."""
    from librosa.filters import mel

    filters: NDArray[np.float32] = mel(sr=rate_hz, n_fft=n_fft, n_mels=n_mels)
    return filters
