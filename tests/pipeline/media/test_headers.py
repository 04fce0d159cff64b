"""Sound files are read to their end where their headers say less, and never by a header that says too much."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.media.audio import decode
from pipeline.media.doctor_file import examine
from pipeline.media.doctor_rules import AudioFacts
from pipeline.media.headers import flac_goes_on
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio
from stages.audio_mfcc import AudioMfcc

RATE = 16000


@pytest.fixture(scope="module")
def noise() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32)


def heard(path: Path, start_s: float | None = None, end_s: float | None = None) -> NDArray[np.float32]:
    (wave,) = decode([Audio(path=path.name, start_s=start_s, end_s=end_s)], path.parent, [AudioMfcc()])
    return wave.samples


def reason(path: Path, start_s: float | None = None, end_s: float | None = None) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        heard(path, start_s, end_s)
    return caught.value


def wav(path: Path, noise: NDArray[np.float32], sizes: tuple[int | None, int | None], after: bytes = b"") -> Path:
    """A WAV file whose header states these sizes of the file and of the sound, where they are given."""
    soundfile.write(path, noise, RATE, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    for place, size in zip((4, 40), sizes, strict=True):
        if size is not None:
            data[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(bytes(data) + after)
    return path


@pytest.mark.parametrize("sizes", [(64036, 64000), (None, 64000), (64037, 64001), (36, 0), (0, 0), (1060, 1024)])
def test_a_wav_that_its_recorder_did_not_close_is_read_to_its_end(
    tmp_path: Path, noise: NDArray[np.float32], sizes: tuple[int | None, int | None]
) -> None:
    path = wav(tmp_path / "a.wav", noise, sizes)
    whole = heard(path)
    assert np.abs(whole - noise).max() < 1e-4 and len(whole) == len(noise)
    assert np.array_equal(heard(path, 1.5, 3.5), whole[RATE * 3 // 2 : RATE * 7 // 2])
    facts = examine("audio", path)
    assert isinstance(facts, AudioFacts) and facts.end_s == pytest.approx(6) and facts.refusal == ""


@pytest.mark.parametrize(
    "after",
    [
        b"LIST" + (2000).to_bytes(4, "little") + b"INFO" + bytes(1996),
        b"junk" + (1500).to_bytes(4, "little") + b"x" * 1500,
        bytes(4096),
        b"TAG" + b"y" * 125,
    ],
    ids=["LIST", "junk", "padding", "ID3v1"],
)
def test_what_follows_the_sound_of_a_wav_is_no_sound(tmp_path: Path, noise: NDArray[np.float32], after: bytes) -> None:
    assert len(heard(wav(tmp_path / "a.wav", noise, (None, None), after))) == len(noise)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_files_that_were_appended_to_each_other_are_read_one_after_the_other(
    tmp_path: Path, noise: NDArray[np.float32], subtype: str
) -> None:
    halves, name = [], "a.ogg"
    for part in np.split(noise, 2):
        soundfile.write(tmp_path / name, part, RATE, subtype=subtype)
        halves.append((tmp_path / name).read_bytes())
    (tmp_path / name).write_bytes(halves[0] + halves[1])
    whole = heard(tmp_path / name)
    per_second = len(whole) / 6
    assert len(whole) / per_second == 6 and abs(per_second / RATE - round(per_second / RATE)) < 0.01
    assert len(heard(tmp_path / name, 1.5, 3.5)) == round(2 * RATE * round(per_second / RATE))
    if subtype != "OPUS":  # its noise is not that of the file, sample by sample
        for place in (RATE, 4 * RATE):
            part = noise[place : place + RATE // 4]
            likeness = np.correlate(whole[place - 400 : place + RATE // 4 + 400], part)
            assert abs(int(likeness.argmax()) - 400) < 0.025 * RATE and likeness.max() > 0.5 * float(part @ part)


@pytest.mark.parametrize("rate_hz", [1, 10, 999, 3_000_000])
@pytest.mark.parametrize("sizes", [(None, None), (36, 0)], ids=["libsndfile", "ffmpeg"])
def test_a_rate_that_no_sound_has_is_a_permanent_reason(
    tmp_path: Path, noise: NDArray[np.float32], rate_hz: int, sizes: tuple[int | None, int | None]
) -> None:
    path = wav(tmp_path / "a.wav", noise[:8000], sizes)
    data = bytearray(path.read_bytes())
    data[24:28], data[28:32] = rate_hz.to_bytes(4, "little"), (2 * rate_hz).to_bytes(4, "little")
    path.write_bytes(data)
    error = reason(path)
    assert error.reason is Reason.DECODE_ERROR and f"{rate_hz} Hz" in error.detail
    with pytest.raises(Unreadable) as caught:
        examine("audio", path)
    assert caught.value.reason is Reason.DECODE_ERROR


@pytest.mark.parametrize("samples", [2**36 - 1, 2**30, 2**27])
def test_a_flac_that_claims_too_many_samples_costs_no_memory_and_has_a_permanent_reason(
    tmp_path: Path, noise: NDArray[np.float32], samples: int
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise, RATE)
    data = bytearray(path.read_bytes())
    stated = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
    data[18:26] = stated.to_bytes(8, "big")
    path.write_bytes(data)
    tracemalloc.start()
    try:
        error = reason(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert error.reason in (Reason.DECODE_ERROR, Reason.TOO_LARGE) and not error.reason.transient
    assert len(heard(path, 1.0, 2.0)) == RATE


@pytest.mark.parametrize("stated", [1, RATE, 6 * RATE - 5000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_whose_header_states_too_few_samples_is_read_to_its_end(
    tmp_path: Path, noise: NDArray[np.float32], stated: int, channels: int
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.tile(noise[:, None], channels), RATE, subtype="PCM_16")
    assert len(heard(path)) == len(noise), "and one that states them all is read by libsndfile"
    data = bytearray(path.read_bytes())
    data[22:26] = stated.to_bytes(4, "big")  # the lower 32 of its 36 bits
    path.write_bytes(data)
    whole = heard(path)
    assert len(whole) == len(noise) and np.abs(whole - noise).max() < 1e-4
    facts = examine("audio", path)
    assert isinstance(facts, AudioFacts) and facts.end_s == pytest.approx(6) and facts.refusal == ""


def test_bytes_that_look_like_a_frame_of_the_other_kind_do_not_hide_the_last_frame_of_a_flac(tmp_path: Path) -> None:
    path, hidden = tmp_path / "a.flac", 0
    for seed in range(60):
        noise = np.random.default_rng(seed).normal(0, 0.3, RATE // 2).astype(np.float32)
        soundfile.write(path, noise, RATE, subtype="PCM_16")
        data = bytearray(path.read_bytes())
        hidden += data.rfind(b"\xff\xf9") > data.rfind(b"\xff\xf8")
        data[22:26] = (1000).to_bytes(4, "big")
        path.write_bytes(data)
        with path.open("rb", buffering=0) as file:
            assert flac_goes_on(file, 1000) and not flac_goes_on(file, len(noise))
    assert hidden > 0, "one of the files has such bytes"


def test_what_follows_the_sound_of_a_flac_is_no_sound(tmp_path: Path, noise: NDArray[np.float32]) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise, RATE, subtype="PCM_16")
    whole = path.read_bytes()
    for after in (b"TAG" + b"y" * 125, b"\xff\xf8\xc9\x08" + b"\xff" * 40, bytes(300)):
        path.write_bytes(whole + after)
        assert len(heard(path)) == len(noise)
