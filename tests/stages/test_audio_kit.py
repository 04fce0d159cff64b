"""Decoding and features of real recordings, good, odd and broken."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.media.audio import decode
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Item, Stage, Waveform
from pipeline.utterance import Audio
from stages.audio_mfcc import AudioMfcc
from stages.audio_opensmile import AudioOpensmile

KIT = Path(os.environ.get("AFFECTORY_KIT", Path(__file__).parents[3] / "shared" / "kit"))
pytestmark = pytest.mark.skipif(not KIT.is_dir(), reason="no real-data kit")

REASONS = {
    "01_truncated_no_moov.mp4": Reason.DECODE_ERROR,
    "03_zero_byte.mp4": Reason.NOT_MEDIA,
    "04_text_renamed.mp4": Reason.NOT_MEDIA,
    "05_video_no_audio_stream.mp4": Reason.NO_AUDIO_STREAM,
    "15_float32_nan_samples.wav": Reason.NON_FINITE,
    "._22_dia0_utt0.mp4": Reason.NOT_MEDIA,
}
SECONDS = {
    "09_xvid_pcm_iemocap_like_720x480.avi": 3.02,
    "10_mjpeg_pcm.avi": 1.5,
    "11_8khz_mono.wav": 3.02,
    "16_10ms_clip.wav": 0.01,
    "16b_84ms_clip_meld_like.mp4": 0.093,
    "20_305s_meld_dia38_utt4_like.mp4": 304.98,
    "24_audio_starts_0.7s_late.mp4": 3.72,
    "pyfeat_face_noface.mov": 6.4,
}


def media() -> list[Path]:
    return sorted(path for name in ("bad", "media") if (KIT / name).is_dir() for path in (KIT / name).iterdir())


def read(path: Path, end_s: float | None = None) -> Waveform:
    return decode([Audio(path=path.name, end_s=end_s)], path.parent, [AudioMfcc()])[0]


@pytest.mark.parametrize("path", media(), ids=lambda path: path.name[:40])
def test_every_file_ends_in_a_waveform_or_the_right_reason(path: Path) -> None:
    if path.name in REASONS:
        with pytest.raises(Unreadable) as caught:
            read(path)
        assert caught.value.reason is REASONS[path.name]
        return
    wave = read(path)
    assert wave.samples.ndim == 1 and wave.samples.dtype == np.float32
    assert np.isfinite(wave.samples).all()
    assert len(wave.samples) / wave.rate_hz == pytest.approx(
        SECONDS.get(path.name, len(wave.samples) / wave.rate_hz), abs=0.01
    )


@pytest.mark.parametrize("path", media(), ids=lambda path: path.name[:40])
def test_every_waveform_ends_in_finite_features_or_too_short(path: Path) -> None:
    if path.name in REASONS:
        pytest.skip("no waveform")
    item = Item(path.name, {"audio": read(path, end_s=4.0)})
    lld = AudioOpensmile(feature_set="eGeMAPSv02", level="lld", rate_hz=12.5)
    stages: list[Stage] = [AudioOpensmile(), lld, AudioMfcc()]
    for stage in stages:
        (track,) = stage.transform(stage.load("cpu"), None, [item])
        if track.values is None:
            assert track.reason is Reason.TOO_SHORT and path.name.startswith("16_10ms")
        else:
            assert np.isfinite(track.values).all()


def test_sound_that_starts_late_is_placed_where_it_starts() -> None:
    wave = read(KIT / "bad" / "24_audio_starts_0.7s_late.mp4")
    assert np.flatnonzero(wave.samples)[0] == 29812


def test_speech_in_the_centre_channel_alone_is_heard() -> None:
    wave = read(KIT / "bad" / "12_48khz_5.1_speech_in_center_only.mp4")
    good = read(KIT / "bad" / "00_good_reference.mp4")
    share = np.sqrt(np.square(wave.samples).mean() / np.square(good.samples).mean())
    assert share == pytest.approx(0.293, abs=0.05)


def test_silence_is_not_a_failure() -> None:
    assert not read(KIT / "bad" / "14_silent_audio.mp4").samples.any()


def test_a_wav_whose_data_lie_elsewhere_than_at_byte_44_is_read_right() -> None:
    for path in sorted((KIT / "ravdess" / "wav16k_orig").iterdir()):
        assert path.read_bytes()[36:40] != b"data"
        assert np.array_equal(read(path).samples, soundfile.read(path, dtype="float32")[0])


def test_a_flac_of_a_corpus_is_read_right() -> None:
    path = sorted((KIT / "ravdess" / "flac16k").iterdir())[0]
    wave = read(path)
    assert wave.rate_hz == 16000
    assert np.array_equal(wave.samples, soundfile.read(path, dtype="float32")[0])
