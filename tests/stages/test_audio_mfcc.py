"""MFCC: on the grid of openSMILE's descriptors, for clips of any length."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.reason import Reason
from pipeline.stage import Item, Track, Waveform
from stages.audio_mfcc import AudioMfcc
from stages.audio_opensmile import AudioOpensmile

RNG = np.random.default_rng(0)


def noise(count: int) -> NDArray[np.float32]:
    return RNG.normal(0, 0.1, count).astype(np.float32)


def track(stage: AudioMfcc, samples: NDArray[np.float32], rate_hz: int = 16000) -> Track:
    stage.check()
    return stage.transform(None, None, [Item("u", {"audio": Waveform(samples, rate_hz)})])[0]


def test_thirteen_coefficients_and_two_deltas_stand_at_the_centres_of_the_grid() -> None:
    result = track(AudioMfcc(), noise(32000))
    assert result.values is not None and result.values.shape == (25, 39)
    assert result.time_s is not None and np.allclose(result.time_s, (np.arange(25) + 0.5) / 12.5)


def test_each_step_is_the_mean_of_librosas_frames() -> None:
    samples = noise(16000)
    frames = librosa.feature.mfcc(y=samples, sr=16000, n_mfcc=13, n_mels=40, n_fft=512, win_length=400, hop_length=160)
    result = track(AudioMfcc(), samples).values
    assert result is not None
    assert np.allclose(result[5, :13], frames[:, 40:48].mean(axis=1), atol=1e-4)
    slope = librosa.feature.delta(frames, width=9)
    assert np.allclose(result[5, 13:26], slope[:, 40:48].mean(axis=1), atol=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 0.1, 1e4])
def test_frames_are_librosas_to_the_last_bit(scale: float) -> None:
    samples = noise(16000) * np.float32(scale)
    frames = librosa.feature.mfcc(y=samples, sr=16000, n_mfcc=13, n_mels=40, n_fft=512, win_length=400, hop_length=160)
    frames = frames[:, :100]  # the last is centred at the end of the clip
    deltas = [librosa.feature.delta(frames, width=9, order=order, mode="nearest") for order in (1, 2)]
    result = track(AudioMfcc(rate_hz=100.0), samples).values  # a step for each frame
    assert np.array_equal(result, np.concatenate([frames, *deltas]).T)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
@pytest.mark.parametrize("seconds", [0.075, 0.119, 0.121, 0.36, 1.0, 2.7183])
def test_it_can_be_concatenated_with_opensmiles_descriptors_step_by_step(seconds: float, rate_hz: int) -> None:
    samples = noise(round(seconds * rate_hz))
    lld = AudioOpensmile(feature_set="eGeMAPSv02", level="lld", rate_hz=12.5)
    (other,) = lld.transform(lld.load("cpu"), None, [Item("u", {"audio": Waveform(samples, rate_hz)})])
    result = track(AudioMfcc(), samples, rate_hz)
    assert result.time_s is not None and other.time_s is not None
    assert np.array_equal(result.time_s, other.time_s)


@pytest.mark.parametrize("count", [400, 401, 511, 512, 700, 1500])
def test_a_clip_of_few_frames_has_deltas_too(count: int) -> None:
    result = track(AudioMfcc(), noise(count)).values
    assert result is not None and np.isfinite(result).all()


def test_a_clip_shorter_than_a_window_is_too_short() -> None:
    assert track(AudioMfcc(), noise(399)).reason is Reason.TOO_SHORT
    assert track(AudioMfcc(), noise(0)).reason is Reason.TOO_SHORT


def test_silence_gives_finite_values() -> None:
    result = track(AudioMfcc(), np.zeros(16000, np.float32)).values
    assert result is not None and np.isfinite(result).all() and result[:, 0].max() < -100


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_samples_that_are_not_finite_or_too_large_are_a_reason(bad: float) -> None:
    samples = noise(16000)
    samples[8000] = bad
    assert track(AudioMfcc(), samples).reason is Reason.NON_FINITE


def test_dimensions_are_named_by_coefficient_and_derivative() -> None:
    spec = AudioMfcc(n_mfcc=2).spec(None)
    assert spec.names == ("mfcc_0", "mfcc_1", "mfcc_0_delta", "mfcc_1_delta", "mfcc_0_delta2", "mfcc_1_delta2")
    assert AudioMfcc(n_mfcc=2, deltas=0).spec(None).names == ("mfcc_0", "mfcc_1")


@pytest.mark.parametrize(
    "change",
    [
        {"n_mfcc": 12},
        {"deltas": 1},
        {"delta_width": 5},
        {"n_mels": 30},
        {"window_s": 0.032},
        {"hop_s": 0.005},
        {"sample_rate_hz": 8000},
        {"rate_hz": 10.0},
    ],
)
def test_every_parameter_changes_the_values(change: dict[str, Any]) -> None:
    samples = noise(16000)
    result, other = track(AudioMfcc(), samples).values, track(AudioMfcc(**change), samples).values
    assert result is not None and other is not None
    assert result.shape != other.shape or not np.allclose(result, other, atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_mfcc": 41}, "n_mfcc"),
        ({"deltas": 3}, "deltas"),
        ({"delta_width": 4}, "delta_width"),
        ({"hop_s": 0.03}, "hop_s"),
        ({"hop_s": 1e-5}, "at least one sample"),
        ({"rate_hz": 101.0}, "rate_hz"),
        ({"sample_rate_hz": 4000}, "sample_rate_hz"),
        ({"n_mels": 256}, "bands empty"),
        ({"deltas": 0, "delta_width": 5}, "delta_width: nothing is derived"),
    ],
)
def test_parameters_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AudioMfcc(**fields).check()


@pytest.mark.parametrize("fields", [{"n_mels": 128}, {"sample_rate_hz": 8000}, {"sample_rate_hz": 48000}])
def test_parameters_that_pass_leave_no_mel_band_empty(fields: dict[str, Any]) -> None:
    assert track(AudioMfcc(**fields), noise(16000)).reason is None
