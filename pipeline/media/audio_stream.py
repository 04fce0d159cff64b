"""Reads an audio stream through FFmpeg: its frames, mixed to mono, each at its place in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.media import container as containers
from pipeline.media.audio_timeline import Timeline, check_rate
from pipeline.media.container import MICROSECONDS
from pipeline.media.stretches import sample_range
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Waveform
from pipeline.utterance import Audio

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer

CUT_S = 0.5
"""A stream that ends so much earlier than its file states was cut."""

_SIDE, _SURROUND = 0.5**0.5, 0.5
_WEIGHTS = {"FC": 1.0, "FL": _SIDE, "FR": _SIDE, "LFE": 0.0} | dict.fromkeys(("BL", "BR", "SL", "SR", "BC"), _SURROUND)
_INDEXED, _EXACT_DURATION = ("mov", "matroska"), ("mov", "flac")
_SEEK_FROM_S, _PREROLL_S = 10.0, 2.0


class Stream:
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
                check_rate(frame.sample_rate)
                timeline = Timeline(*sample_range(source, frame.sample_rate), frame.sample_rate, sought)
                if sought and (position is None or position > timeline.first):
                    return None
            if frame.sample_rate != timeline.rate_hz:
                raise Unreadable(Reason.DECODE_ERROR, "the sampling rate changes")
            channels = [channel.name for channel in frame.layout.channels]
            timeline.add(position, mono(planes(frame), channels, source.channel))
            if timeline.full:
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
        plausible = duration is None or time_s < duration / MICROSECONDS + 1
        return round(time_s * frame.sample_rate) if plausible else None

    def _checked(self, timeline: Timeline) -> Waveform:
        """Raises decode_error if the stretch ends early because the file was cut."""
        wave = timeline.waveform()
        duration, unit = self._stream.duration, self._stream.time_base
        if self._format in _EXACT_DURATION and duration is not None and unit is not None:
            begin = 0 if containers.counts_from_zero(self._container) else self._stream.start_time or 0
            stated_s = float((begin + duration) * unit) - self._start_s
            end_s = (timeline.first + len(wave.samples)) / wave.rate_hz
            if min(stated_s, timeline.last / wave.rate_hz) > end_s + CUT_S:
                raise Unreadable(Reason.DECODE_ERROR, f"ends at {end_s:.2f} s of {stated_s:.2f} s")
        return wave


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
