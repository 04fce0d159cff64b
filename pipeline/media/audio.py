"""Decodes the sound of one utterance: a stretch of a sound or video file as mono samples at the file's own rate.

Content decides how a file is read, never its extension. Sound files of one or two channels, or of which one channel is
asked for, go through libsndfile, which seeks to the stretch; everything else, and what libsndfile refuses, goes through
FFmpeg, which alone knows the positions of more channels.

Times are those of the file: 0 is the start of its earliest stream, so a sound track that begins late is preceded by
zeros. Gaps, and packets too damaged to decode, are filled with zeros; they never shift what follows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.reason import Reason, Unreadable
from pipeline.stage import Stage, Waveform
from pipeline.utterance import Audio

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

VERSION: int = 1
"""Bumped by hand when `decode` may give other samples; enters the digest of every audio row."""

_SOUND = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"NIST")
_MEDIA = (*_SOUND, b"\x1aE\xdf\xa3")
_MEDIA_AT_4 = (b"ftyp", b"moov", b"mdat", b"free", b"wide")
_SIDE, _SURROUND = 0.5**0.5, 0.5
_WEIGHTS = {"FC": 1.0, "FL": _SIDE, "FR": _SIDE, "LFE": 0.0} | dict.fromkeys(("BL", "BR", "SL", "SR", "BC"), _SURROUND)
_MICROSECONDS = 1_000_000
_UNKNOWN_SIZE = 0xFFFF0000
_INDEXED = ("mov", "matroska")
_EXACT_DURATION = ("mov", "flac")
_SEEK_FROM_S = 10.0
_PREROLL_S = 2.0
_JITTER_S = 0.010  # containers round times to a millisecond; the shortest packet of a common codec lasts 20
_LACK_S = 0.5


def decode(source: Audio, path: Path, stages: Sequence[Stage]) -> list[Waveform]:
    """The same waveform for each of `stages`: float32 [N] at the file's own rate, cut to the sample.

    `source` gives the stretch in seconds and the channel; without one, all are mixed to mono (see `_mono`). Raises
    Unreadable: missing_file, io_error, not_media, no_audio_stream (or no such channel), decode_error (also for a file
    that ends before the stretch does, although it says that it is longer), too_short for a stretch without samples,
    non_finite.
    """
    wave = _read(source, path)
    if not len(wave.samples):
        raise Unreadable(Reason.TOO_SHORT, "no samples in the stretch")
    bad = np.count_nonzero(~np.isfinite(wave.samples))
    if bad:
        raise Unreadable(Reason.NON_FINITE, f"{bad} of {len(wave.samples)} samples")
    return [wave for _ in stages]


def resample(wave: Waveform, rate_hz: int) -> NDArray[np.float32]:
    """The samples at `rate_hz`, by soxr at its high quality; untouched where that is their rate already."""
    import soxr

    if wave.rate_hz == rate_hz:
        return wave.samples
    samples: NDArray[np.float32] = soxr.resample(wave.samples, wave.rate_hz, rate_hz, quality="HQ")
    return samples


def _read(source: Audio, path: Path) -> Waveform:
    try:
        with path.open("rb", buffering=0) as file:  # libsndfile moves the descriptor itself
            head = file.read(12)
            wave = _with_libsndfile(source, file, head) if head[:4] in _SOUND else None
            return wave or _with_ffmpeg(source, file, head)
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable(Reason.MISSING_FILE, path.name) from None
    except IsADirectoryError:
        raise Unreadable(Reason.NOT_MEDIA, "a directory") from None
    except OSError as error:
        raise Unreadable(Reason.IO_ERROR, str(error)) from error


def _stretch(source: Audio, rate_hz: int) -> tuple[int, int]:
    """First sample and the one after the last, the largest number there is for the end of the file."""
    first = max(0, round((source.start_s or 0.0) * rate_hz))
    return first, sys.maxsize if source.end_s is None else max(first, round(source.end_s * rate_hz))


def _mono(samples: NDArray[np.float32], positions: Sequence[str], channel: int | None) -> NDArray[np.float32]:
    """[C, N] to [N]: the one channel, or a mix.

    The mix weighs the positions of channels as ITU-R BS.775 does (centre 1, left and right 0.71, surround 0.5, no
    low-frequency effects), scaled to a sum of 1 so that it cannot clip; two channels and those of no known position,
    such as microphones of an array, are averaged.
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
    """None where libsndfile refuses, reads less than the header says, or the channels have positions it cannot tell."""
    import soundfile

    file.seek(0)
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            if not sound.frames or (sound.channels > 2 and source.channel is None):
                return None
            first, last = (min(sample, sound.frames) for sample in _stretch(source, sound.samplerate))
            if last == sound.frames:
                _check_riff_size(head, file, sound.frames / sound.samplerate)
            sound.seek(first)
            samples = sound.read(last - first, dtype="float32", always_2d=True).T
            whole = samples.shape[1] == last - first
            return Waveform(_mono(samples, (), source.channel), sound.samplerate) if whole else None
    except soundfile.LibsndfileError:
        return None


def _check_riff_size(head: bytes, file: FileIO, duration_s: float) -> None:
    """Raises decode_error for a WAV that was cut, since libsndfile takes the rest for the whole.

    One that was written to a pipe does not know its size.
    """
    promised = int.from_bytes(head[4:8], "little") + 8
    size = os.fstat(file.fileno()).st_size
    if head[:4] == b"RIFF" and size * (1 + _LACK_S / duration_s) < promised < _UNKNOWN_SIZE:
        raise Unreadable(Reason.DECODE_ERROR, f"ends at byte {size} of {promised}")


def _with_ffmpeg(source: Audio, file: FileIO, head: bytes) -> Waveform:
    import av

    if not head:
        raise Unreadable(Reason.NOT_MEDIA, "zero bytes")
    try:
        with av.open(_nameless(file), metadata_errors="ignore") as container:
            if not container.streams.audio:
                known = Reason.NO_AUDIO_STREAM if len(container.streams) else Reason.NOT_MEDIA
                raise Unreadable(known, f"{container.format.name} with {len(container.streams)} other streams")
            return _Stream(container).read(source)
    except av.error.FFmpegError as error:
        media = head[:4] in _MEDIA or head[4:8] in _MEDIA_AT_4
        raise Unreadable(Reason.DECODE_ERROR if media else Reason.NOT_MEDIA, error.strerror or str(error)) from error


def _nameless(file: FileIO) -> Any:
    """The file without its name, from whose extension FFmpeg would guess a format where the content says nothing."""
    file.seek(0)
    return SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)


class _Stream:
    """The first audio stream of a container, read through FFmpeg."""

    def __init__(self, container: InputContainer) -> None:
        self.container = container
        self.stream = container.streams.audio[0]
        self.format = container.format.name.partition(",")[0]
        self.start_s = (container.start_time or 0) / _MICROSECONDS
        self.damaged = 0

    def read(self, source: Audio) -> Waveform:
        """The stretch; from the start of the file where seeking to it did not lead to a place before it."""
        wave = self._from(source, self._seek(source.start_s or 0.0))
        if wave is None:
            self.container.seek(0)
            wave = self._from(source, sought=False)
        if wave is None:
            raise Unreadable(Reason.DECODE_ERROR if self.damaged else Reason.TOO_SHORT, "no sound in the stream")
        return wave

    def _seek(self, start_s: float) -> bool:
        """Goes to a little before `start_s`, where that is worth it and the container keeps exact times."""
        if start_s < _SEEK_FROM_S or self.format not in _INDEXED:
            return False
        self.container.seek(int((start_s - _PREROLL_S + self.start_s) * _MICROSECONDS))
        return True

    def _from(self, source: Audio, sought: bool) -> Waveform | None:
        """Decodes from where the container stands; None where no frame comes, or after a seek only later ones."""
        timeline = None
        for frame in self._frames():
            place = self._place(frame)
            if timeline is None:
                timeline = _Timeline(*_stretch(source, frame.sample_rate), frame.sample_rate)
                if sought and (place is None or place > timeline.first):
                    return None
            if frame.sample_rate != timeline.rate_hz:
                raise Unreadable(Reason.DECODE_ERROR, "the sampling rate changes")
            positions = [channel.name for channel in frame.layout.channels]
            timeline.add(place, _mono(_planes(frame), positions, source.channel))
            if timeline.next >= timeline.last:
                break
        return self._checked(timeline) if timeline else None

    def _frames(self) -> Iterator[av.AudioFrame]:
        import av

        for packet in self.container.demux(self.stream):
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                self.damaged += 1

    def _place(self, frame: av.AudioFrame) -> int | None:
        """Where the frame's first sample stands; None without a time, or with one past the end of the file."""
        if frame.pts is None or frame.time_base is None:
            return None
        time_s = float(frame.pts * frame.time_base) - self.start_s
        known = self.container.duration is not None and time_s < self.container.duration / _MICROSECONDS + 1
        return round(time_s * frame.sample_rate) if known else None

    def _checked(self, timeline: _Timeline) -> Waveform:
        """Raises decode_error where the stretch ends early because the file was cut."""
        wave = timeline.waveform()
        duration, unit = self.stream.duration, self.stream.time_base
        if self.format in _EXACT_DURATION and duration is not None and unit is not None:
            promised_s = float(((self.stream.start_time or 0) + duration) * unit) - self.start_s
            end_s = (timeline.first + len(wave.samples)) / wave.rate_hz
            if min(promised_s, timeline.last / wave.rate_hz) > end_s + _LACK_S:
                raise Unreadable(Reason.DECODE_ERROR, f"ends at {end_s:.2f} s of {promised_s:.2f} s")
        return wave


class _Timeline:
    """Samples from `first` to before `last` as frames arrive; what no frame covers is zero."""

    def __init__(self, first: int, last: int, rate_hz: int) -> None:
        self.first, self.last, self.rate_hz = first, last, rate_hz
        self.next = 0
        self._cursor = first
        self._chunks: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]

    def add(self, place: int | None, samples: NDArray[np.float32]) -> None:
        """Puts samples where their time says, or next to the last where it says nothing else within rounding."""
        if place is None or (self.next and abs(place - self.next) <= _JITTER_S * self.rate_hz):
            place = self.next
        self.next = place + len(samples)
        begin, end = (min(max(sample, self._cursor), self.last) for sample in (place, self.next))
        self._chunks += [np.zeros(begin - self._cursor, np.float32), samples[begin - place : end - place]]
        self._cursor = end

    def waveform(self) -> Waveform:
        """All of it."""
        return Waveform(np.concatenate(self._chunks), self.rate_hz)


def _planes(frame: av.AudioFrame) -> NDArray[np.float32]:
    """float32 [C, N], full scale at 1."""
    values: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    half = float(2 ** (8 * values.dtype.itemsize - 1))
    zero = half if values.dtype.kind == "u" else 0.0
    return ((values - zero) / half).astype(np.float32)
