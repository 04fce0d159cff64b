"""openSMILE features: equal to openSMILE's own, pooled over voiced frames, with a reason where there are none."""

from __future__ import annotations

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import opensmile
import pytest
from numpy.typing import NDArray

from pipeline.media.audio import resample
from pipeline.reason import Reason
from pipeline.stage import Item, Track, Waveform
from stages.audio_opensmile import FEATURE_SETS, LEVELS, AudioOpensmile

LLD = AudioOpensmile(feature_set="eGeMAPSv02", level="lld", rate_hz=12.5)


def voice(seconds: float, rate_hz: int = 16000, hz: float = 150.0) -> NDArray[np.float32]:
    """A sum of harmonics with a little noise, which openSMILE takes for a voice."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    harmonics = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 15))
    noise = np.random.default_rng(0).normal(0, 0.003, len(time))
    return np.asarray(0.2 * harmonics + noise, np.float32)


def track(stage: AudioOpensmile, samples: NDArray[np.float32], rate_hz: int = 16000) -> Track:
    stage.check()
    return stage.transform(stage.load("cpu"), None, [Item("u", {"audio": Waveform(samples, rate_hz)})])[0]


def values(stage: AudioOpensmile, samples: NDArray[np.float32], rate_hz: int = 16000) -> dict[str, NDArray[Any]]:
    """Columns by name."""
    result = track(stage, samples, rate_hz).values
    assert result is not None
    return dict(zip(stage.spec(stage.load("cpu")).names, result.T, strict=True))


def direct(feature_set: str, level: str, samples: NDArray[np.float32], rate_hz: int = 16000) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        smile = opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel[LEVELS[level]])
        return np.asarray(smile.process_signal(samples, rate_hz).to_numpy())


@pytest.mark.parametrize(("feature_set", "dim"), [("IS10", 1582), ("eGeMAPSv02", 88), ("IS13", 6373)])
def test_functionals_equal_those_of_opensmile(feature_set: str, dim: int) -> None:
    result = track(AudioOpensmile(feature_set=feature_set), voice(1.0))
    assert result.values is not None and result.values.shape == (1, dim)
    assert np.array_equal(result.values, direct(feature_set, "functionals", voice(1.0)))
    assert result.time_s is not None and result.time_s.tolist() == [0.5]


def test_the_signal_is_brought_to_the_stages_own_rate() -> None:
    wave = Waveform(voice(1.0, 44100), 44100)
    result = track(AudioOpensmile(), wave.samples, 44100).values
    assert result is not None
    assert np.array_equal(result, direct("IS10", "functionals", resample(wave, 16000)))


def test_samples_beyond_full_scale_are_clipped_and_never_wrap_around() -> None:
    loud = 1.5 * np.sin(2 * np.pi * 150 * np.arange(16000) / 16000).astype(np.float32)
    result = track(AudioOpensmile(), loud).values
    assert result is not None
    assert np.array_equal(result, direct("IS10", "functionals", np.clip(loud, -1.0, 32767 / 32768)))


def test_the_sets_known_here_are_those_of_opensmile() -> None:
    assert set(FEATURE_SETS) == {member.name for member in opensmile.FeatureSet}
    assert set(LEVELS.values()) == {member.name for member in opensmile.FeatureLevel}


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize("feature_set", ["IS09", "IS10", "emobase", "eGeMAPSv02", "ComParE_2016"])
def test_a_clip_of_one_window_has_values_and_a_shorter_one_is_too_short(feature_set: str, rate_hz: int) -> None:
    count = math.floor(FEATURE_SETS[feature_set].window_s * rate_hz + 0.5)
    stage = AudioOpensmile(feature_set=feature_set, sample_rate_hz=rate_hz)
    assert track(stage, voice(1.0, rate_hz)[:count], rate_hz).reason is None
    assert track(stage, voice(1.0, rate_hz)[: count - 1], rate_hz).reason is Reason.TOO_SHORT
    assert np.isnan(direct(feature_set, "functionals", voice(1.0, rate_hz)[: count - 1], rate_hz)).all()


@pytest.mark.parametrize("feature_set", sorted(FEATURE_SETS))
@pytest.mark.parametrize("level", LEVELS)
def test_every_set_and_level_gives_finite_values_of_one_window_and_of_silence(feature_set: str, level: Any) -> None:
    if level == "lld_de" and not FEATURE_SETS[feature_set].deltas:
        pytest.skip("the set has no deltas")
    stage = AudioOpensmile(feature_set=feature_set, level=level, rate_hz=None if level == "functionals" else 12.5)
    shortest = math.floor(FEATURE_SETS[feature_set].window_s * 16000 + 0.5)
    loaded = stage.load("cpu")
    signals = (voice(0.5), np.zeros(8000, np.float32), voice(1.0)[:shortest], np.zeros(shortest, np.float32))
    tracks = stage.transform(loaded, None, [Item("u", {"audio": Waveform(signal, 16000)}) for signal in signals])
    for result in tracks:
        assert result.values is not None and result.values.shape[1] == stage.spec(loaded).dim
        assert np.isfinite(result.values).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_a_reason(value: float) -> None:
    bad = voice(0.5)
    bad[100] = value
    assert track(AudioOpensmile(), bad).reason is Reason.NON_FINITE


def test_descriptors_are_pooled_to_the_shared_grid() -> None:
    result = track(LLD, voice(2.0))
    assert result.values is not None and result.values.shape == (25, 51)
    assert result.time_s is not None and np.allclose(result.time_s, (np.arange(25) + 0.5) / 12.5)


def test_each_step_is_the_mean_and_deviation_of_its_frames() -> None:
    frames, pooled = direct("eGeMAPSv02", "lld", voice(2.0)), values(LLD, voice(2.0))
    loudness = frames[47:55, 0]  # frame k is centred at 10 k + 10 ms, step 6 runs from 480 to 560 ms
    assert pooled["Loudness_sma3_amean"][6] == pytest.approx(loudness.mean(), rel=1e-5)
    assert pooled["Loudness_sma3_stddev"][6] == pytest.approx(loudness.std(), rel=1e-4)


@pytest.mark.parametrize("feature_set", ["eGeMAPSv02", "IS10", "IS09", "ComParE_2016"])
def test_pitch_is_that_of_voiced_frames_with_their_share_beside_it(feature_set: str) -> None:
    silence = np.zeros(4000, np.float32)
    stage = AudioOpensmile(feature_set=feature_set, level="lld", rate_hz=12.5)
    pooled = values(stage, np.concatenate([silence, voice(1.0), silence, silence]))
    share, f0 = pooled["voiced_share"], pooled[f"{FEATURE_SETS[feature_set].f0}_amean"]
    truth = 12 * np.log2(150 / 27.5) if feature_set == "eGeMAPSv02" else 150.0
    assert np.allclose(f0[share > 0], truth, rtol=0.02)
    assert 0.4 < (share > 0).mean() < 0.75 and 0 < share[share > 0].min() < 1
    assert not f0[share == 0].any()


def test_deltas_of_pitch_leave_out_where_the_voice_sets_in() -> None:
    silence = np.zeros(4000, np.float32)
    stage = AudioOpensmile(feature_set="IS10", level="lld_de", rate_hz=12.5)
    pooled = values(stage, np.concatenate([silence, voice(1.0), silence]))
    assert np.abs(pooled["F0final_sma_de_amean"]).max() < 1.0 < np.abs(direct("IS10", "lld_de", voice(1.0))).max()
    assert pooled["voiced_share"].any()


def test_descriptors_without_a_voice_count_all_frames() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    pooled = values(LLD, noise)
    assert (pooled["Loudness_sma3_amean"] > 0).all()
    assert not pooled["voiced_share"].any() and not pooled["jitterLocal_sma3nz_amean"].any()


def test_one_object_serves_several_threads() -> None:
    stage = AudioOpensmile()
    loaded = stage.load("cpu")
    items = [Item(str(k), {"audio": Waveform(voice(0.5, hz=100 + 20 * k), 16000)}) for k in range(8)]
    alone = [stage.transform(loaded, None, [item])[0].values for item in items]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda item: stage.transform(loaded, None, [item])[0].values, items))
    for one, other in zip(alone, together, strict=True):
        assert one is not None and other is not None and np.array_equal(one, other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feature_set": "eGeMAPS02"}, "did you mean .*eGeMAPSv02"),
        ({"level": "functional"}, "did you mean functionals"),
        ({"level": "lld"}, "needs rate_hz"),
        ({"rate_hz": 12.5}, "must be left out"),
        ({"feature_set": "eGeMAPSv02", "level": "lld_de", "rate_hz": 12.5}, "no level lld_de"),
        ({"level": "lld", "rate_hz": 0.0}, "above 0"),
        ({"level": "lld", "rate_hz": 101.0}, "at most 100"),
        ({"sample_rate_hz": 4000}, "at least 8000"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AudioOpensmile(**fields).check()
