"""Reads an audio stream through FFmpeg: its frames, mixed to mono, each at its place in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.media import container as containers
from pipeline.media.audio_timeline import Timeline, check_rate
from pipeline.media.container import MICROSECONDS
from pipeline.media.stretches import sample_range
from pipeline.reason import Reason, Unreadable
from pipeline.remark import Kind, Remark
from pipeline.stage import Waveform
from pipeline.utterance import Audio

if TYPE_CHECKING:
    import av
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer

CUT_S = 0.5
"""A stream that ends so much earlier than its file states was cut."""
SILENT_RMS = 1e-4
"""The root mean square, full scale at 1, below which a whole file counts as silence: -80 dB."""
CANCELLED_SHARE = 0.1
"""The share of the channels' own root mean square, 20 dB less, below which their mix counts as cancelled."""

_SIDE, _SURROUND = 0.5**0.5, 0.5
_WEIGHTS = {"FC": 1.0, "FL": _SIDE, "FR": _SIDE, "LFE": 0.0} | dict.fromkeys(("BL", "BR", "SL", "SR", "BC"), _SURROUND)
_INDEXED, _EXACT_DURATION = ("mov", "matroska"), ("mov", "flac")
_SEEK_FROM_S, _PREROLL_S = 10.0, 2.0
_BARE = ("mp3", "aac", "ac3", "eac3", "dts")  # formats without time stamps, of packets that each say how long they are
_CHUNK_HEAD_BYTES = 8


class Stream:
    """An audio stream, read through FFmpeg. short: bytes of its file are missing somewhere, which counts as a packet
    that does not decode at the start of the file."""

    def __init__(self, container: InputContainer, stream: AudioStream, short: bool = False) -> None:
        self._container, self._stream = container, stream
        self._format = container.format.name.partition(",")[0]
        self._start_s = (container.start_time or 0) / MICROSECONDS
        self._lost = _Lost() if self._format in _BARE else _Chunks(stream) if self._format == "avi" else None
        self.packets = 0
        self._missing_s = [0.0] if short else []
        self._damaged_s = [*self._missing_s]
        self._levels = Levels()

    @property
    def stamped(self) -> bool:
        """False if what follows damage may come early, since nothing in the file says when it is."""
        return self._lost is None

    @property
    def damaged(self) -> int:
        """How many of the packets so far did not decode."""
        return len(self._damaged_s)

    def read(self, source: Audio) -> Waveform:
        """Decodes the stretch; from the start of the file if a seek did not lead to a place before the stretch."""
        wave = self._from_here(source, self._seek(source.start_s or 0.0))
        if wave is None:
            self._container.seek(0)
            self._damaged_s = [*self._missing_s]
            wave = self._from_here(source, sought=False)
        if wave is None:
            raise Unreadable(Reason.DECODE_ERROR if self._damaged_s else Reason.TOO_SHORT, "no sound in the stream")
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
        for position, frame in self.placed():
            if timeline is None:
                check_rate(frame.sample_rate)
                timeline = Timeline(*sample_range(source, frame.sample_rate), frame.sample_rate, sought)
                if sought and (position is None or position > timeline.first):
                    return None
            if frame.sample_rate != timeline.rate_hz:
                raise Unreadable(Reason.DECODE_ERROR, "the sampling rate changes")
            timeline.add(position, self._mono(frame, position, timeline.first, source.channel))
            if timeline.full:
                break
        return self._checked(timeline) if timeline else None

    def _mono(self, frame: av.AudioFrame, position: int | None, first: int, channel: int | None) -> NDArray[np.float32]:
        """The samples of a frame as one channel. The levels of frames before the first sample do not count."""
        samples = planes(frame)
        mixed = mono(samples, [each.name for each in frame.layout.channels], channel)
        if channel is None and (position is None or position + len(mixed) > first):
            self._levels.add(samples, mixed)
        return mixed

    def placed(self) -> Iterator[tuple[int | None, av.AudioFrame]]:
        """Yields the frames from here on, each behind the index of its first sample; None without a stamp."""
        import av

        for packet in containers.packets(self._container, self._stream):
            self.packets += 1
            try:
                frames = packet.decode()
            except MemoryError:  # FFmpeg has its own, and it is no damage
                raise
            except av.error.FFmpegError:
                self._damaged_s.append(self._time_s(packet.pts, packet.time_base) or 0.0)
                frames = []
            if self._lost is not None:
                self._lost.see(packet, whole=bool(frames))
            for frame in frames:
                yield self._position(frame), frame

    def _position(self, frame: av.AudioFrame) -> int | None:
        """The index of the frame's first sample; None if it has no time, or one past the end of the file."""
        time_s = self._time_s(frame.pts, frame.time_base)
        duration = self._container.duration
        if time_s is None or (duration is not None and time_s >= duration / MICROSECONDS + 1):
            return None
        return round(time_s * int(frame.sample_rate))

    def _time_s(self, ticks: int | None, unit: Fraction | None) -> float | None:
        """The time in the file of what has this stamp; None without a stamp."""
        if ticks is None or unit is None:
            return None
        return float((ticks + (self._lost.ticks if self._lost is not None else 0)) * unit) - self._start_s

    def _checked(self, timeline: Timeline) -> Waveform:
        """Raises decode_error if the stretch ends early because the file was cut."""
        wave = timeline.waveform(self._remarks(timeline))
        duration, unit = self._stream.duration, self._stream.time_base
        if self._format in _EXACT_DURATION and duration is not None and unit is not None:
            begin = 0 if containers.counts_from_zero(self._container) else self._stream.start_time or 0
            stated_s = float((begin + duration) * unit) - self._start_s
            end_s = (timeline.first + len(wave.samples)) / wave.rate_hz
            if min(stated_s, timeline.last / wave.rate_hz) > end_s + CUT_S:
                raise Unreadable(Reason.DECODE_ERROR, f"ends at {end_s:.2f} s of {stated_s:.2f} s")
        return wave

    def _remarks(self, timeline: Timeline) -> tuple[Remark, ...]:
        """How many packets of the stretch do not decode; without time stamps, those before it move it too. And whether
        its channels cancel."""
        first_s, last_s = timeline.first / timeline.rate_hz, timeline.last / timeline.rate_hz
        bare = not self.stamped
        count = sum((bare or first_s <= time_s) and time_s < last_s for time_s in self._damaged_s)
        early = "what follows may come early, for nothing in the file says when it is" if bare else ""
        damaged = (Remark(Kind.DAMAGED, count, count + timeline.frames, early),) if count else ()
        return damaged + self._levels.remarks(timeline.rate_hz)


class _Lost:
    """How many ticks FFmpeg did not count of a stream without time stamps, in which it counts the packets it finds.

    A damaged part comes as a packet that does not decode, or as several. It lasted as long as whole packets of so many
    bytes do: that is exact at a constant bit rate.
    """

    def __init__(self) -> None:
        self.ticks = 0
        self._packets = self._bytes = 0
        self._damaged: tuple[int, int] | None = None

    def see(self, packet: Packet, whole: bool) -> None:
        """Takes the next packet. whole: it decodes."""
        if packet.pos is None or packet.pts is None:
            return
        if not whole:
            self._damaged = self._damaged or (packet.pos, packet.pts)
            return
        if self._damaged is not None and self._packets:
            place, pts = self._damaged
            lasted = round((packet.pos - place) * self._packets / self._bytes) * (packet.duration or 0)
            self.ticks += max(0, lasted - (packet.pts - pts))
            self._damaged = None
        self._packets += 1
        self._bytes += packet.size


class _Chunks:
    """How many ticks FFmpeg did not count of a stream in AVI, in which it counts the chunks it finds.

    The index at the end of the file says where each chunk is, and when.
    """

    def __init__(self, stream: AudioStream) -> None:
        self.ticks = 0
        self._entries = iter(stream.index_entries)
        self._entry = next(self._entries, None)
        self._unit: int | None = None

    def see(self, packet: Packet, whole: bool) -> None:
        """Takes the next packet. whole: it decodes, which an index does not ask."""
        if packet.pos is None or packet.pts is None:
            return
        while self._entry is not None and self._entry.pos + _CHUNK_HEAD_BYTES < packet.pos:
            self._entry = next(self._entries, None)
        if self._entry is None or self._entry.pos + _CHUNK_HEAD_BYTES != packet.pos:
            return
        if self._unit is None and packet.pts > 0:
            self._unit = self._entry.timestamp // packet.pts  # 1, or bytes per sample
        if self._unit:
            self.ticks = max(0, self._entry.timestamp // self._unit - packet.pts)


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


class Levels:
    """Whether the channels of a stretch cancel each other in their mix: the power of both, block by block."""

    def __init__(self) -> None:
        self._channels = self._mixed = 0.0
        self._samples = 0

    def add(self, channels: NDArray[np.float32], mixed: NDArray[np.float32]) -> None:
        """Adds a block: [C, N] and its mix [N]. A single channel cancels nothing, and costs nothing."""
        if len(channels) > 1:
            self._channels += _power(channels) / len(channels)
            self._mixed += _power(mixed)
            self._samples += len(mixed)

    def remarks(self, rate_hz: int) -> tuple[Remark, ...]:
        """The remark on a sound whose channels cancel; none if they do not, or are silent."""
        power, mixed = (total / max(1, self._samples) for total in (self._channels, self._mixed))
        if power < SILENT_RMS**2 or not mixed < CANCELLED_SHARE**2 * power:
            return ()
        seconds = self._samples / rate_hz
        return (Remark(Kind.CHANNELS_CANCEL, seconds, seconds, "read one of the channels (audio_channel)"),)


def _power(samples: NDArray[np.float32]) -> float:
    flat = samples.ravel(order="K")  # no copy, whichever axis comes first in memory
    return float(flat @ flat)


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
