"""Sound, pictures and doctor read the same of a file: the same stream, up to the same place, by the same clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.media import audio
from pipeline.media.doctor_file import examine
from pipeline.media.doctor_rules import AudioFacts, VideoFacts
from pipeline.stage import Waveform
from pipeline.utterance import Audio
from stages.audio_mfcc import AudioMfcc
from tests.pipeline.media import media_matrix as matrix

RATE = 48000


def tone(hertz: float, seconds: float) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32) / 4


def write(
    path: Path, tracks: Sequence[NDArray[np.float32]], codec: str, layout: str = "mono", default: int | None = None
) -> Path:
    """A file with an audio track for each of `tracks`, [C, N]; with pictures if it is a transport stream."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=RATE, layout=layout) for _ in tracks]
        for number, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition(int(number == default))
        film = container.add_stream("mpeg2video", rate=25, options={"g": "5"}) if path.suffix == ".ts" else None
        if film is not None:
            film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        for first in range(0, tracks[0].shape[1], RATE // 25):
            for stream, samples in zip(streams, tracks, strict=True):
                part = np.ascontiguousarray(samples[:, first : first + RATE // 25].T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
                container.mux(stream.encode(frame))
            if film is not None:
                level = np.full((48, 64, 3), first // 2000 % 200, np.uint8)
                picture = av.VideoFrame.from_ndarray(level, format="rgb24")
                picture.pts, picture.time_base = first * 25 // RATE, Fraction(1, 25)
                container.mux(film.encode(picture))
        for stream in [*streams, *([film] if film is not None else [])]:
            container.mux(stream.encode(None))
    return path


def heard(path: Path, channel: int | None = None) -> Waveform:
    (wave,) = audio.decode([Audio(path=path.name, channel=channel)], path.parent, [AudioMfcc()])
    return wave


def loudest_hertz(wave: Waveform) -> float:
    return float(np.abs(np.fft.rfft(wave.samples)).argmax() * wave.rate_hz / len(wave.samples))


@pytest.mark.parametrize(("default", "hertz"), [(0, 440), (1, 1000), (None, 440)])
def test_the_default_audio_stream_is_read_or_else_the_first(tmp_path: Path, default: int | None, hertz: int) -> None:
    path = write(tmp_path / "a.mka", [tone(440, 1)[None], tone(1000, 1)[None] / 2], "flac", default=default)
    assert loudest_hertz(heard(path)) == pytest.approx(hertz, abs=5)
    facts = examine("audio", path)
    assert isinstance(facts, AudioFacts)
    assert facts.rms == pytest.approx(0.25 / np.sqrt(2) / (1 if hertz == 440 else 2), rel=0.05)


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mka", "aac")])
def test_each_of_eight_planar_channels_is_read(tmp_path: Path, name: str, codec: str) -> None:
    channels = np.stack([tone(300 * (number + 1), 1) for number in range(8)])
    path = write(tmp_path / name, [channels], codec, "7.1")
    order = [round(loudest_hertz(heard(path, channel)) / 300) - 1 for channel in range(8) if channel != 3]
    assert order == [0, 1, 2, 4, 5, 6, 7]  # the fourth, for low frequencies, is filtered by the encoder
    facts = examine("audio", path)
    assert isinstance(facts, AudioFacts) and facts.channels == 8
    assert len(heard(path).samples) == pytest.approx(RATE, abs=2048)


@pytest.mark.parametrize("name", ["a.ogg", "a.mka"])
def test_a_channel_is_the_same_in_every_container(tmp_path: Path, name: str) -> None:
    channels = np.stack([tone(300 * (number + 1), 1) for number in range(6)])
    path = write(tmp_path / name, [channels], "libopus", "5.1")
    assert [round(loudest_hertz(heard(path, channel)) / 300) for channel in range(6)] == [1, 2, 3, 4, 5, 6]


def test_sound_after_a_clock_that_starts_again_follows_the_sound_before(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 2 * RATE)).astype(np.float32)
    part = write(tmp_path / "part.ts", [noise], "aac")
    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() * 3)
    one, all_three = heard(part).samples, heard(path).samples
    assert len(all_three) == pytest.approx(3 * len(one), abs=2048)
    for number in range(3):
        begin = number * len(one) + RATE // 2
        agreeing = np.correlate(all_three[begin - 2400 : begin + RATE + 2400], one[RATE // 2 : RATE // 2 + RATE])
        late = int(agreeing.argmax()) - 2400
        assert abs(late) < 0.025 * RATE
        assert np.corrcoef(all_three[begin + late :][:RATE], one[RATE // 2 :][:RATE])[0, 1] > 0.8  # AAC loses the rest
    assert _ends(path) == pytest.approx((6.0, 6.0), abs=0.1)


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFF024, 0x80000024, 0x7FFFFFFF])
def test_a_wav_that_was_written_to_a_pipe_is_read_to_its_end(tmp_path: Path, stated: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440, 3), RATE)
    data = bytearray(path.read_bytes())
    data[4:8], data[40:44] = stated.to_bytes(4, "little"), (stated - 36).to_bytes(4, "little")
    path.write_bytes(data)
    assert len(heard(path).samples) == 3 * RATE


def test_a_flac_that_was_written_to_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(440, 3), RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the number of samples, of 36 bits
    path.write_bytes(data)
    assert len(heard(path).samples) == 3 * RATE


def segment(source: Path, path: Path, first: int) -> Path:
    """An MP4's sound in fragments of a second, without those before `first`."""
    whole = path.with_suffix(".whole.mp4")
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}
    with av.open(str(source)) as container, av.open(str(whole), "w", options=fragments) as output:
        stream = output.add_stream_from_template(container.streams.audio[0])
        for packet in [packet for packet in container.demux(audio=0) if packet.dts is not None]:
            packet.stream = stream
            output.mux(packet)
    data, place, head, parts = whole.read_bytes(), 0, b"", []
    while place < len(data):
        box = data[place : place + int.from_bytes(data[place : place + 4], "big")]
        place += len(box)
        if box[4:8] in (b"ftyp", b"moov"):
            head += box
        elif box[4:8] in (b"moof", b"mdat"):
            parts.append(box)
    path.write_bytes(head + b"".join(parts[2 * first :]))
    return path


def test_a_segment_that_does_not_start_at_0_is_whole(tmp_path: Path) -> None:
    path = segment(write(tmp_path / "a.mp4", [tone(440, 4)[None]], "aac"), tmp_path / "segment.mp4", 2)
    assert len(heard(path).samples) / RATE == pytest.approx(2, abs=0.05)
    facts = examine("audio", path)
    assert isinstance(facts, AudioFacts) and facts.declared_s == pytest.approx(facts.end_s, abs=0.05)
    assert facts.refusal == ""


def test_a_file_that_breaks_off_is_read_to_the_same_place_by_all(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", [tone(440, 3)[None]], "aac")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 188 * 188
    data[middle : middle + 2 * 188 * 400] = bytes(len(data[middle : middle + 2 * 188 * 400]))
    path.write_bytes(data)
    sound_s, film_s = _ends(path)
    assert len(heard(path).samples) / RATE == pytest.approx(sound_s, abs=0.05)
    assert 0.5 < sound_s < 3 and film_s == pytest.approx(sound_s, abs=0.5)


@pytest.mark.parametrize("damage", [matrix.scratched, matrix.holed])
def test_a_damaged_transport_stream_is_read_to_its_end_by_all(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = matrix.make(matrix.FILMS["ts mpeg2 mp2"], tmp_path / "a.ts")
    path.write_bytes(damage(path.read_bytes()))
    assert _ends(path) == pytest.approx((matrix.SECONDS, matrix.SECONDS), abs=0.1)
    assert len(heard(path).samples) / RATE == pytest.approx(matrix.SECONDS, abs=0.1)


def _ends(path: Path) -> tuple[float, float]:
    """Where sound and pictures end, in seconds, as the doctor measures them."""
    sound, film = examine("audio", path), examine("video", path)
    assert isinstance(sound, AudioFacts) and isinstance(film, VideoFacts)
    return sound.end_s, film.end_s
