"""Decoding of sound: stretches, channels, time line, and what bad files end in. All media are made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.media.audio import decode, resample
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Waveform
from pipeline.utterance import Audio
from stages.audio_mfcc import AudioMfcc

RATE = 16000


def tone(seconds: float, hz: float = 220.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def read(
    path: Path, start_s: float | None = None, end_s: float | None = None, channel: int | None = None
) -> NDArray[np.float32]:
    source = Audio(path=path.name, start_s=start_s, end_s=end_s, channel=channel)
    return decode([source], path.parent, [AudioMfcc()])[0].samples


def reason(path: Path, start_s: float | None = None, end_s: float | None = None, channel: int | None = None) -> Reason:
    with pytest.raises(Unreadable) as caught:
        read(path, start_s, end_s, channel)
    return caught.value.reason


Change = Callable[[int, av.Packet], bytes | None]


def packets(stream: av.AudioStream, samples: NDArray[np.float32], layout: str) -> Iterator[av.Packet]:
    """Encodes [C, N] samples."""
    whole = np.ascontiguousarray((samples.T * 32767).astype(np.int16).reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(whole, format="s16", layout=layout)
    frame.sample_rate, frame.pts = RATE, 0
    codec = stream.codec_context
    resampler = av.AudioResampler(codec.format, layout, RATE, frame_size=codec.frame_size or 1024)
    for block in [*resampler.resample(frame), *resampler.resample(None)]:
        yield from stream.encode(block)
    yield from stream.encode(None)


def mux(
    path: Path,
    samples: NDArray[np.float32],
    codec: str = "flac",
    layout: str = "mono",
    late_s: float = 0.0,
    change: Change | None = None,
) -> Path:
    """A video of one black second with sound of [C, N] samples; `change` may replace or drop (None) a packet."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = container.add_stream(codec, rate=RATE, layout=layout)
        for index in range(10):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
            picture.pts = index
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for index, packet in enumerate(packets(audio, samples, layout)):
            data = change(index, packet) if change else bytes(packet)
            if data is None:
                continue
            copy = av.Packet(data)
            copy.stream, copy.time_base, copy.duration = audio, packet.time_base, packet.duration
            copy.pts = copy.dts = packet.pts + round(late_s / packet.time_base)
            container.mux(copy)
    return path


def frame_samples(path: Path) -> int:
    with av.open(str(path)) as container:
        return int(next(container.decode(audio=0)).samples)


def test_a_stretch_is_cut_to_the_sample(tmp_path: Path) -> None:
    sound = tone(2.0)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    assert np.array_equal(read(tmp_path / "a.wav", 0.5001, 1.25), sound[8002:20000])
    assert np.array_equal(read(tmp_path / "a.wav", 1.5, None), sound[24000:])
    assert np.array_equal(read(tmp_path / "a.wav", None, 99.0), sound)


def test_libsndfile_and_ffmpeg_give_the_same_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(1.0), RATE)
    mux(tmp_path / "a.mkv", soundfile.read(tmp_path / "a.flac", dtype="float32")[0][None])
    assert np.abs(read(tmp_path / "a.flac", 0.3, 0.8) - read(tmp_path / "a.mkv", 0.3, 0.8)).max() < 1e-4


@pytest.mark.parametrize("name", ["a.mp4", "a.raw", "a.g722", "a", "a.txt"])
def test_content_decides_how_a_file_is_read_not_its_extension(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, tone(0.5), RATE, format="FLAC")
    assert len(read(tmp_path / name)) == RATE // 2


@pytest.mark.parametrize("name", ["a.wav", "a.mp4", "a.g722", "a.ac3"])
@pytest.mark.parametrize(
    "content", [b"", b"x", b"not media at all, only words. " * 40, b"\0\5\x16\7\0\2\0\0" + bytes(99)]
)
def test_what_is_no_media_says_so_whatever_its_extension(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason(tmp_path / name) is Reason.NOT_MEDIA


def test_a_missing_file_a_directory_and_a_file_that_cannot_be_read_have_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert reason(tmp_path / "none.wav") is Reason.MISSING_FILE
    assert reason(tmp_path / "file" / "below.wav") is Reason.MISSING_FILE
    assert reason(tmp_path) is Reason.NOT_MEDIA

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "open", refuse)
    assert reason(tmp_path / "file") is Reason.IO_ERROR


def test_a_video_without_sound_has_no_audio_stream(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode(None))
    assert reason(tmp_path / "a.mp4") is Reason.NO_AUDIO_STREAM


@pytest.mark.parametrize("name", ["a.wav", "a.mkv"])
@pytest.mark.parametrize("stretch", [(5.0, 6.0), (0.5, 0.5), (0.7, 0.2), (1.0, None)])
def test_a_stretch_without_samples_is_too_short(tmp_path: Path, name: str, stretch: tuple[float, float | None]) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0), RATE)
    mux(tmp_path / "a.mkv", tone(1.0)[None])
    assert reason(tmp_path / name, *stretch) is Reason.TOO_SHORT


def test_only_samples_of_the_stretch_have_to_be_finite(tmp_path: Path) -> None:
    sound = tone(1.0)
    sound[100], sound[200] = np.nan, np.inf
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    assert reason(tmp_path / "a.wav") is Reason.NON_FINITE
    assert len(read(tmp_path / "a.wav", 0.5)) == RATE // 2


def test_two_channels_are_averaged_unless_one_is_asked_for(tmp_path: Path) -> None:
    left, right = tone(0.5), tone(0.5, 330.0)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    assert np.allclose(read(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)
    assert np.array_equal(read(tmp_path / "a.wav", channel=1), right)
    assert reason(tmp_path / "a.wav", channel=2) is Reason.NO_AUDIO_STREAM


@pytest.mark.parametrize(("channel", "share"), [(2, 0.293), (0, 0.207), (4, 0.146), (3, 0.0)])
def test_surround_sound_is_mixed_by_position(tmp_path: Path, channel: int, share: float) -> None:
    sound = np.zeros((6, RATE // 2), np.float32)
    sound[channel] = tone(0.5)
    path = mux(tmp_path / "a.mkv", sound, layout="5.1")
    assert np.abs(read(path) - share * sound[channel]).max() < 1e-3
    assert np.abs(read(path, channel=channel) - sound[channel]).max() < 1e-3


def test_microphones_without_positions_are_averaged(tmp_path: Path) -> None:
    sound = np.stack([tone(0.5, hz) for hz in (110, 220, 330, 440, 550)], axis=1)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    assert np.abs(read(tmp_path / "a.wav") - sound.mean(axis=1)).max() < 1e-3


def test_sound_that_begins_late_is_preceded_by_zeros(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mkv", tone(1.0)[None], late_s=0.7)
    sound = read(path)
    assert not sound[: round(0.699 * RATE)].any()
    assert np.abs(sound[round(0.7 * RATE) :][: RATE // 2] - tone(1.0)[: RATE // 2]).max() < 1e-3
    assert not read(path, 0.1, 0.5).any()


def test_a_gap_in_the_sound_is_filled_with_zeros(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mkv", tone(3.0)[None], change=lambda i, p: None if 2 <= i < 4 else bytes(p))
    sound, size = read(path), frame_samples(path)
    assert len(sound) == 3 * RATE
    assert not sound[2 * size : 4 * size].any()
    assert np.abs(sound[4 * size :] - tone(3.0)[4 * size :]).max() < 1e-3


def test_a_damaged_packet_costs_its_own_samples_only(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mkv", tone(3.0)[None], change=lambda i, p: b"damaged" * 9 if i == 3 else bytes(p))
    sound, size = read(path), frame_samples(path)
    assert len(sound) == 3 * RATE
    assert not sound[3 * size : 4 * size].any()
    assert np.abs(sound[4 * size :] - tone(3.0)[4 * size :]).max() < 1e-3


def test_sound_of_which_no_packet_can_be_decoded_is_a_decode_error(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mkv", tone(1.0)[None], change=lambda i, p: b"damaged" * 9)
    assert reason(path) is Reason.DECODE_ERROR


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_that_was_cut_is_a_decode_error_where_the_stretch_reaches_the_cut(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 4 * RATE), RATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert reason(path) is Reason.DECODE_ERROR
    assert len(read(path, 0.5, 1.0)) == RATE // 2


def test_a_file_without_its_index_is_a_decode_error(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mp4", tone(1.0)[None], codec="aac")
    path.write_bytes(path.read_bytes()[:2000])
    assert reason(path) is Reason.DECODE_ERROR


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_seeking_gives_what_decoding_from_the_start_gives(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 30 * RATE)).astype(np.float32)
    path = mux(tmp_path / f"a.{suffix}", noise, codec="aac")
    assert np.abs(read(path, 20.0, 22.0) - read(path)[20 * RATE : 22 * RATE]).max() < 1e-6


def test_each_stage_gets_the_same_waveform(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.1), 8000)
    waves = decode([Audio(path="a.wav")], tmp_path, [AudioMfcc(), AudioMfcc(n_mfcc=5)])
    assert len(waves) == 2 and waves[0] is waves[1]
    assert waves[0].rate_hz == 8000 and waves[0].samples.dtype == np.float32


def test_resampling_keeps_the_duration_and_does_nothing_at_the_same_rate() -> None:
    wave = Waveform(tone(1.0), RATE)
    assert resample(wave, RATE) is wave.samples
    assert len(resample(wave, 44100)) == 44100
    assert resample(wave, 8000).dtype == np.float32
