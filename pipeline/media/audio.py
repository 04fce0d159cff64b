"""Decodes the audio of one utterance: stretches of audio or video files, joined, as mono samples at the files' rate.

The content of a file decides how it is read, never its extension. libsndfile, which seeks to the stretch, reads audio
files of one or two channels, and files of which one channel is asked for. FFmpeg reads everything else, and what
libsndfile refuses; it alone knows the positions of more than two channels, and gives Ogg's the order of other files. Of
several audio streams the one that is marked as the default is read, as in a player.

Times are those of the file: 0 is the start of its earliest stream, so zeros precede an audio stream that begins late.
Gaps, packets that are too damaged to decode, and the end of a stretch whose file ends before it, are filled with zeros
so that they never shift what follows. Nothing is added after the last stretch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.media import container as containers
from pipeline.media.bounds import check_row
from pipeline.media.container import MICROSECONDS, MediaFile, media_file, riff_size
from pipeline.media.stretches import naming
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Stage, Waveform
from pipeline.utterance import Audio

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer

VERSION: int = 2
"""Bumped by hand when `decode` may give other samples; enters the digest of every audio row."""

_AUDIO_FILES = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"NIST")
_OGG = b"OggS"  # orders its channels in its own way, which FFmpeg knows
_SIDE, _SURROUND = 0.5**0.5, 0.5
_WEIGHTS = {"FC": 1.0, "FL": _SIDE, "FR": _SIDE, "LFE": 0.0} | dict.fromkeys(("BL", "BR", "SL", "SR", "BC"), _SURROUND)
_INDEXED, _EXACT_DURATION = ("mov", "matroska"), ("mov", "flac")
_SEEK_FROM_S, _PREROLL_S = 10.0, 2.0
_CUT_S = 0.5  # a stream that ends so much earlier than its file states was cut
_JITTER_S = 0.010  # containers round times to a millisecond; the shortest packet of a common codec lasts 20


def decode(stretches: Sequence[Audio], root: Path, stages: Sequence[Stage]) -> list[Waveform]:
    """Returns the same waveform for each of `stages`: float32 [N] at the files' own rate, cut to the sample.

    A stretch gives its times in seconds and the channel; without a channel, all are mixed to mono (see `mono`). Where
    rates differ, the highest is taken. Raises Unreadable, which names the stretch if there are several: missing_file;
    io_error; not_media; no_audio_stream, also if there is no such channel; decode_error, also if the file was cut
    before the end of the stretch; too_large, see `check_row`; too_short for a stretch without samples; non_finite.
    """
    waves = []
    for index, stretch in enumerate(stretches):
        with naming(stretches, index):
            waves.append(_checked(_read(stretch, root / stretch.path)))
    wave = waves[0] if len(waves) == 1 else _joined(stretches, waves)
    return [wave for _ in stages]


def _checked(wave: Waveform) -> Waveform:
    if not len(wave.samples):
        raise Unreadable(Reason.TOO_SHORT, "no samples in the stretch")
    bad = np.count_nonzero(~np.isfinite(wave.samples))
    if bad:
        raise Unreadable(Reason.NON_FINITE, f"{bad} of {len(wave.samples)} samples")
    return wave


def _joined(stretches: Sequence[Audio], waves: Sequence[Waveform]) -> Waveform:
    """The waveforms of the stretches, one after the other, each but the last exactly as long as its stretch."""
    rate_hz = max(wave.rate_hz for wave in waves)
    parts = [resample(wave, rate_hz) for wave in waves]
    for index, stretch in enumerate(stretches[:-1]):
        if stretch.end_s is not None:
            first, last = _stretch(stretch, rate_hz)
            part = parts[index][: last - first]
            parts[index] = np.pad(part, (0, last - first - len(part)))
    return Waveform(np.concatenate(parts), rate_hz)


def resample(wave: Waveform, rate_hz: int) -> NDArray[np.float32]:
    """The samples at `rate_hz`, by soxr in high quality; the same array if that is their rate already."""
    import soxr

    if wave.rate_hz == rate_hz:
        return wave.samples
    samples: NDArray[np.float32] = soxr.resample(wave.samples, wave.rate_hz, rate_hz, quality="HQ")
    return samples


def _read(source: Audio, path: Path) -> Waveform:
    with media_file(path) as media:
        wave = _with_libsndfile(source, media.file, media.head) if media.head.startswith(_AUDIO_FILES) else None
        return wave or _with_ffmpeg(source, media)


def _stretch(source: Audio, rate_hz: int) -> tuple[int, int]:
    """The first sample, and the one after the last; `sys.maxsize` stands for the end of the file."""
    first = max(0, round((source.start_s or 0.0) * rate_hz))
    return first, sys.maxsize if source.end_s is None else max(first, round(source.end_s * rate_hz))


def mono(samples: NDArray[np.float32], positions: Sequence[str], channel: int | None) -> NDArray[np.float32]:
    """Takes one channel of [C, N], or mixes all of them, to [N].

    The mix weighs the positions of channels as ITU-R BS.775 does (centre 1, left and right 0.71, surround 0.5, no
    low-frequency effects), scaled to a sum of 1 so that it can't clip. Two channels are averaged, and so are channels
    without a known position, such as the microphones of an array.
    """
    if channel is not None:
        if not 0 <= channel < len(samples):
            raise Unreadable(Reason.NO_AUDIO_STREAM, f"no channel {channel}, there are {len(samples)}")
        return np.ascontiguousarray(samples[channel])
    weights = np.array([_WEIGHTS.get(position, np.nan) for position in positions], np.float32)
    if len(samples) <= 2 or not weights.sum() > 0:
        weights = np.ones(len(samples), np.float32)
    mixed: NDArray[np.float32] = (weights / weights.sum()) @ samples
    return mixed


def _with_libsndfile(source: Audio, file: FileIO, head: bytes) -> Waveform | None:
    """None if libsndfile refuses, reads less than the header states, or can't tell the positions of the channels."""
    import soundfile

    file.seek(0)
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            several = sound.channels > 2 and (source.channel is None or head.startswith(_OGG))
            if several or not 0 < sound.frames < 2**13 * os.fstat(file.fileno()).st_size:  # no file holds so many
                return None
            first, last = (min(sample, sound.frames) for sample in _stretch(source, sound.samplerate))
            if last == sound.frames:
                _check_riff_size(head, file, sound.frames / sound.samplerate)
            check_row((last - first) * np.dtype(np.float32).itemsize)
            sound.seek(first)
            samples = sound.read(last - first, dtype="float32", always_2d=True).T
            whole = samples.shape[1] == last - first
            return Waveform(mono(samples, (), source.channel), sound.samplerate) if whole else None
    except soundfile.LibsndfileError:
        return None


def _check_riff_size(head: bytes, file: FileIO, duration_s: float) -> None:
    """Raises decode_error for a WAV file that was cut: libsndfile takes what is left for the whole."""
    stated = riff_size(head)
    size = os.fstat(file.fileno()).st_size
    if stated is not None and size * (1 + _CUT_S / duration_s) < stated:
        raise Unreadable(Reason.DECODE_ERROR, f"ends at byte {size} of {stated}")


def _with_ffmpeg(source: Audio, media: MediaFile) -> Waveform:
    with media.container() as container:
        return _Stream(container, containers.audio_stream(container)).read(source)


class _Stream:
    """An audio stream, read through FFmpeg."""

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        self._container, self._stream = container, stream
        self._format = container.format.name.partition(",")[0]
        self._start_s = (container.start_time or 0) / MICROSECONDS
        self._damaged = 0

    def read(self, source: Audio) -> Waveform:
        """Decodes the stretch; from the start of the file if a seek did not lead to a place before the stretch."""
        wave = self._from_here(source, self._seek(source.start_s or 0.0))
        if wave is None:
            self._container.seek(0)
            wave = self._from_here(source, sought=False)
        if wave is None:
            raise Unreadable(Reason.DECODE_ERROR if self._damaged else Reason.TOO_SHORT, "no sound in the stream")
        return wave

    def _seek(self, start_s: float) -> bool:
        """Seeks to a little before `start_s` if that saves time and the container keeps exact times."""
        if start_s < _SEEK_FROM_S or self._format not in _INDEXED:
            return False
        self._container.seek(int((start_s - _PREROLL_S + self._start_s) * MICROSECONDS))
        return True

    def _from_here(self, source: Audio, sought: bool) -> Waveform | None:
        """Decodes from the container's position; None if no frame comes, or if a seek led beyond the start."""
        timeline = None
        for frame in self._frames():
            position = self._position(frame)
            if timeline is None:
                timeline = _Timeline(*_stretch(source, frame.sample_rate), frame.sample_rate)
                if sought and (position is None or position > timeline.first):
                    return None
            if frame.sample_rate != timeline.rate_hz:
                raise Unreadable(Reason.DECODE_ERROR, "the sampling rate changes")
            channels = [channel.name for channel in frame.layout.channels]
            timeline.add(position, mono(planes(frame), channels, source.channel))
            if timeline.next >= timeline.last:
                break
        return self._checked(timeline) if timeline else None

    def _frames(self) -> Iterator[av.AudioFrame]:
        import av

        for packet in containers.packets(self._container, self._stream):
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                self._damaged += 1

    def _position(self, frame: av.AudioFrame) -> int | None:
        """The index of the frame's first sample; None if it has no time, or one past the end of the file."""
        if frame.pts is None or frame.time_base is None:
            return None
        time_s = float(frame.pts * frame.time_base) - self._start_s
        duration = self._container.duration
        plausible = duration is not None and time_s < duration / MICROSECONDS + 1
        return round(time_s * frame.sample_rate) if plausible else None

    def _checked(self, timeline: _Timeline) -> Waveform:
        """Raises decode_error if the stretch ends early because the file was cut."""
        wave = timeline.waveform()
        duration, unit = self._stream.duration, self._stream.time_base
        if self._format in _EXACT_DURATION and duration is not None and unit is not None:
            begin = 0 if containers.counts_from_zero(self._container) else self._stream.start_time or 0
            stated_s = float((begin + duration) * unit) - self._start_s
            end_s = (timeline.first + len(wave.samples)) / wave.rate_hz
            if min(stated_s, timeline.last / wave.rate_hz) > end_s + _CUT_S:
                raise Unreadable(Reason.DECODE_ERROR, f"ends at {end_s:.2f} s of {stated_s:.2f} s")
        return wave


class _Timeline:
    """Collects the samples from `first` to before `last` as frames arrive; samples that no frame covers are zero."""

    def __init__(self, first: int, last: int, rate_hz: int) -> None:
        self.first, self.last, self.rate_hz = first, last, rate_hz
        self.next = 0
        self._cursor = first
        self._chunks: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]

    def add(self, position: int | None, samples: NDArray[np.float32]) -> None:
        """Puts samples at their position; right after the last ones if that is unknown or equal within rounding."""
        if position is None or (self.next and abs(position - self.next) <= _JITTER_S * self.rate_hz):
            position = self.next
        self.next = position + len(samples)
        begin, end = (min(max(sample, self._cursor), self.last) for sample in (position, self.next))
        check_row((end - self.first) * samples.itemsize)
        self._chunks += [np.zeros(begin - self._cursor, np.float32), samples[begin - position : end - position]]
        self._cursor = end

    def waveform(self) -> Waveform:
        return Waveform(np.concatenate(self._chunks), self.rate_hz)


def _full_scale(values: NDArray[Any]) -> NDArray[np.float32]:
    """Samples of any integer or float type as float32 with full scale at 1."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    half = float(2 ** (8 * values.dtype.itemsize - 1))
    zero = half if values.dtype.kind == "u" else 0.0
    return ((values - zero) / half).astype(np.float32)


def planes(frame: av.AudioFrame) -> NDArray[np.float32]:
    """The samples of a frame as float32 [C, N], full scale at 1."""
    from av.audio.frame import format_dtypes
    from av.audio.plane import AudioPlane

    channels, dtype = len(frame.layout.channels), np.dtype(format_dtypes[frame.format.name])
    if not frame.format.is_planar:
        return _full_scale(frame.to_ndarray().reshape(-1, channels).T)
    # `to_ndarray` asks FFmpeg where the planes end, which nothing says if there are eight.
    buffers = [AudioPlane(frame, index) for index in range(channels)]
    return _full_scale(np.stack([np.frombuffer(memoryview(buffer), dtype, frame.samples) for buffer in buffers]))
