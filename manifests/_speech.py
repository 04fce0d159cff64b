"""Synthesises speech-like sound, glottal pulses and noise through formant filters, whose prosody shows an emotion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, sosfilt

from manifests._quota import generator

RATE_HZ = 16_000

Samples = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Voice:
    """An actor's voice: its mean F0, and its formants as a multiple of those in the table of vowels."""

    f0_hz: float
    formants: float


class Prosody(NamedTuple):
    """The sound of an emotion, relative to the voice.

    pitch: a factor of F0. range_st, slope_st: the accent of a syllable and the slope over the utterance, in semitones.
    level_db: relative to full scale. tilt: the pole that darkens the source, from 0 to 1. jitter, breath: shares of F0
    and of the pulses' amplitude. pause: the share of a syllable that is silence, at its end.
    """

    pitch: float
    range_st: float
    slope_st: float
    syllables_hz: float
    level_db: float
    tilt: float
    jitter: float
    breath: float
    pause: float


PROSODY = {
    name: Prosody(*values)
    for name, values in {
        "hap": (1.40, 6.0, 4.0, 4.6, -16, 0.60, 0.004, 0.30, 0.20),
        "sad": (0.80, 1.0, -3.0, 2.4, -36, 0.97, 0.010, 0.35, 0.25),
        "neu": (1.00, 1.0, -1.0, 3.8, -27, 0.88, 0.001, 0.02, 0.10),
        "ang": (1.10, 3.0, -7.0, 5.2, -8, 0.30, 0.010, 0.02, 0.03),
        "exc": (1.60, 7.0, 3.0, 6.8, -14, 0.70, 0.008, 0.05, 0.02),
        "fru": (0.92, 2.0, -5.0, 3.0, -24, 0.85, 0.022, 0.25, 0.50),
    }.items()
}

# F1, F2, F3 in Hz of the vowels of `heed`, `head`, `had`, `hod`, `hood`, `heard`; bandwidths for all of them.
_VOWELS_HZ = (
    (280, 2250, 2900),
    (530, 1850, 2500),
    (690, 1660, 2400),
    (710, 1100, 2450),
    (440, 1020, 2250),
    (490, 1350, 1690),
)
_BANDWIDTHS_HZ = (70, 100, 150)


def speak(emotion: str, voice: Voice, samples: int, seed: int, name: str) -> NDArray[np.int16]:
    """Sound of `samples` samples at `RATE_HZ`; another `name` gives other random syllables."""
    rng = generator(seed, f"speech {name}")
    prosody = PROSODY[emotion]
    edges = _syllables(prosody, samples, rng)
    voiced = _envelope(edges, prosody.pause, samples)
    source = _source(prosody, voice, edges, samples, rng) * voiced
    sound = _vocal_tract(source, voice, edges, rng) + _consonants(edges, samples, rng)
    level = 10 ** ((prosody.level_db + rng.uniform(-1.0, 1.0)) / 20)
    sound = sound * level / np.sqrt(np.mean(sound**2)) + 1e-4 * rng.standard_normal(samples)
    return (np.tanh(sound) * 32767).astype(np.int16)


def _syllables(prosody: Prosody, samples: int, rng: np.random.Generator) -> list[int]:
    """The samples at which syllables begin, and the end."""
    count = max(2, round(prosody.syllables_hz * rng.uniform(0.95, 1.05) * samples / RATE_HZ))
    weights = rng.uniform(0.8, 1.2, count)
    return [0, *(np.cumsum(weights[:-1]) / weights.sum() * samples).astype(int).tolist(), samples]


def _envelope(edges: list[int], pause: float, samples: int) -> Samples:
    """The loudness of the vowels: in each syllable it rises and falls between the consonant and the pause."""
    envelope = np.zeros(samples)
    for start, end in zip(edges, edges[1:], strict=False):
        first, last = _vowel(start, end, pause)
        envelope[first:last] = np.sin(np.pi * (np.arange(last - first) + 0.5) / (last - first)) ** 0.5
    return envelope


def _vowel(start: int, end: int, pause: float) -> tuple[int, int]:
    return start + (end - start) // 5, end - int((end - start) * 0.8 * pause)


def _source(prosody: Prosody, voice: Voice, edges: list[int], samples: int, rng: np.random.Generator) -> Samples:
    """Glottal pulses and breath, darkened by the spectral tilt, and high-pass filtered at 80 Hz."""
    f0 = _f0_hz(prosody, voice, edges, samples, rng)
    cycles = np.floor(np.cumsum(f0) / RATE_HZ)
    pulses = np.diff(cycles, prepend=0.0) * np.sqrt(RATE_HZ / f0)
    breath = prosody.breath * rng.standard_normal(samples)
    tilted: Samples = lfilter([1 - prosody.tilt], [1, -prosody.tilt], pulses + breath)
    return np.asarray(lfilter([1, -1], [1, -0.97], tilted))


def _f0_hz(prosody: Prosody, voice: Voice, edges: list[int], samples: int, rng: np.random.Generator) -> Samples:
    """F0 in Hz: a line over the utterance, an accent of random size on each syllable, and jitter held for 5 ms."""
    place = np.arange(samples) / samples
    semitones = prosody.slope_st * (place - 0.5)
    for start, end in zip(edges, edges[1:], strict=False):
        accent = prosody.range_st * rng.uniform(0.7, 1.0)
        semitones[start:end] += accent * np.sin(np.pi * np.arange(end - start) / (end - start))
    hold = RATE_HZ // 200
    jitter = np.repeat(rng.standard_normal(samples // hold + 1), hold)[:samples]
    mean = voice.f0_hz * prosody.pitch * rng.uniform(0.98, 1.02)
    return np.asarray(np.clip(mean * 2 ** (semitones / 12) * (1 + prosody.jitter * jitter), 50, 600))


def _vocal_tract(source: Samples, voice: Voice, edges: list[int], rng: np.random.Generator) -> Samples:
    """Filters each syllable by the formants of its vowel; the filters keep their state between syllables."""
    sound = np.empty_like(source)
    state = np.zeros((len(_BANDWIDTHS_HZ), 2))
    for start, end in zip(edges, edges[1:], strict=False):
        vowel = _VOWELS_HZ[rng.integers(len(_VOWELS_HZ))]
        sections = [_resonance(f * voice.formants, b) for f, b in zip(vowel, _BANDWIDTHS_HZ, strict=True)]
        sound[start:end], state = sosfilt(sections, source[start:end], zi=state)
    return sound / np.sqrt(np.mean(sound**2))


def _resonance(frequency_hz: float, bandwidth_hz: float) -> list[float]:
    """A second-order section with unit gain at 0 Hz."""
    radius = np.exp(-np.pi * bandwidth_hz / RATE_HZ)
    a1, a2 = -2 * radius * np.cos(2 * np.pi * frequency_hz / RATE_HZ), radius**2
    return [float(1 + a1 + a2), 0.0, 0.0, 1.0, float(a1), float(a2)]


def _consonants(edges: list[int], samples: int, rng: np.random.Generator) -> Samples:
    """A short high noise at the beginning of about two syllables in three."""
    noise = np.diff(rng.standard_normal(samples + 1))
    gate = np.zeros(samples)
    for start, end in zip(edges, edges[1:], strict=False):
        length = min((end - start) // 4, RATE_HZ // 12)
        gate[start : start + length] = rng.uniform(0.1, 0.3) * (rng.random() < 0.67) * np.hanning(length)
    return np.asarray(noise * gate)
