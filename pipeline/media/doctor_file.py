"""Examines one media file for the doctor: its sound is decoded to the end, its pictures at a few places.

Files are read through FFmpeg. Where that fails, or a file ends before it should, the decoders of extraction are asked,
so that a reason given here is the one that extraction would give. Runs in a child process (`pipeline.media.child`),
since a decoder may crash; `prepare` is for that child.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.media import audio, video
from pipeline.media.doctor_rules import LACK_S, Pictures, Sound
from pipeline.media.video_frames import Image, Timeline, decoded, frames, read_timeline, rgb
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

VERSION: int = 2
"""Bumped by hand when an examination may find something else; what was found before is then forgotten."""
DECODERS = (audio.VERSION, video.VERSION)
"""The versions of what extraction decodes with, which is asked here for its reasons."""
LOOKS = 16
"""How many frames of a film are looked at; all of them where it has no more."""

_BLOCKS = 32
_FULL = 0.999
_MICROSECONDS = 1_000_000
_UNKNOWN_SIZE = 0xFFFF0000
_STATES_DURATION = {"mov", "matroska", "avi", "wav", "w64", "aiff", "flac", "ogg", "asf"}
_SOUND_FILES = {"wav", "w64", "aiff", "flac", "ogg"}


def prepare() -> None:
    """Imports what an examination needs, in the process that decodes."""
    import av  # noqa: F401
    import soundfile  # noqa: F401


def hear(path: Path) -> Sound:
    """Decodes the first audio stream to its end, keeping none of it.

    Raises Unreadable: missing_file, io_error, not_media, no_audio_stream, decode_error, too_short, as extraction of
    the whole file would.
    """
    import av

    with suppress(av.error.FFmpegError, OSError), _opened(path) as container:
        if container.streams.audio and (sound := _heard(path, container)):
            return sound
    audio.decode(Audio(path=path.name), path, ())
    return _with_libsndfile(path)


def look(path: Path) -> Pictures:
    """Reads every packet of the film and decodes LOOKS frames, evenly spaced; if none decodes, what stands in for them.

    Raises Unreadable: missing_file, io_error, not_media, no_video_stream, decode_error, as extraction of the whole
    file would.
    """
    timeline = read_timeline(path)
    count = len(timeline.ticks)
    wanted = sorted({round(place) for place in np.linspace(0, count - 1, LOOKS)})
    looks = dict(_looks(path, timeline, wanted))
    seen = [gray for gray in looks.values() if gray is not None]
    seen = seen or [_gray(image) for _, image in frames(path, timeline, range(count), wanted)]
    if not seen:
        raise Unreadable(Reason.DECODE_ERROR, f"none of {len(wanted)} frames decodes")
    with _opened(path) as container:
        film = _film(container)
        rate = film.average_rate
        return Pictures(
            codec=film.codec_context.name,
            start_s=float(timeline.time_s[0]),
            end_s=timeline.end_s,
            declared_s=_declared(path, container),
            damaged=sum(gray is None for gray in looks.values()) / len(wanted),
            width=film.codec_context.width,
            height=film.codec_context.height,
            rate_hz=float(rate) if rate else None,
            frames=count,
            brightest=max(float(gray.max()) for gray in seen),
            moved=_moved(seen),
        )


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The container, told by its content and never by the extension of its name."""
    import av

    with path.open("rb", buffering=0) as file:
        nameless = SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
        with av.open(nameless, metadata_errors="ignore") as container:
            yield container


def _declared(path: Path, container: InputContainer) -> float | None:
    """Seconds; None where the format makes FFmpeg guess from the bit rate.

    Of a RIFF file that was cut FFmpeg gives the length of the rest; it is scaled to the size the file states.
    """
    stated = container.format.name.partition(",")[0] in _STATES_DURATION
    return container.duration / _MICROSECONDS * _promised(path) if stated and container.duration else None


def _promised(path: Path) -> float:
    """How many times as large as it is a RIFF file says it is, at least 1; one written to a pipe does not know."""
    with path.open("rb") as file:
        head = file.read(8)
        size = os.fstat(file.fileno()).st_size
    promised = int.from_bytes(head[4:8], "little") + 8
    return max(1.0, promised / size) if head[:4] == b"RIFF" and promised < _UNKNOWN_SIZE else 1.0


def _heard(path: Path, container: InputContainer) -> Sound | None:
    """None where no packet gives a sample."""
    ear = _Ear((container.start_time or 0) / _MICROSECONDS, container.duration)
    stream = container.streams.audio[0]
    damaged = packets = 0
    for packet in _packets(container):
        packets += 1
        damaged += not _taken(packet, ear)
    if not ear.samples:
        return None
    declared_s = _declared(path, container)
    suspect = container.format.name in _SOUND_FILES or (declared_s is not None and declared_s > ear.end_s + LACK_S)
    cut = _refusal(path, ear.end_s) if suspect else ""
    return ear.sound(stream.codec_context.name, declared_s, damaged / packets, cut)


def _packets(container: InputContainer) -> Iterator[av.Packet]:
    """The packets of the first audio stream up to the place where the file breaks off, and one to flush."""
    import av

    with suppress(av.error.FFmpegError):
        yield from container.demux(container.streams.audio[0])


def _taken(packet: av.Packet, ear: _Ear) -> bool:
    """False where the packet does not decode."""
    import av

    try:
        for frame in packet.decode():
            ear.take(frame)
    except av.error.FFmpegError:
        return False
    return True


def _refusal(path: Path, end_s: float) -> str:
    """Why extraction refuses the last second of the sound, if it does."""
    try:
        audio.decode(Audio(path=path.name, start_s=max(0.0, end_s - 1)), path, ())
    except Unreadable as why:
        return why.detail if why.reason is Reason.DECODE_ERROR else ""
    return ""


def _with_libsndfile(path: Path) -> Sound:
    """What extraction reads although FFmpeg does not."""
    import soundfile

    with path.open("rb", buffering=0) as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
        ear = _Ear(0.0, None)
        for block in sound.blocks(2**16, dtype="float32", always_2d=True):
            ear.add(block, None, sound.samplerate, sound.channels)
        return ear.sound(sound.subtype.lower(), None, 0.0, "")


class _Ear:
    """Adds up what is heard."""

    def __init__(self, origin_s: float, length_us: int | None) -> None:
        self.samples = self.rate_hz = self.channels = 0
        self.end_s = 0.0
        self._origin_s = origin_s
        self._last_s = np.inf if length_us is None else length_us / _MICROSECONDS + 1
        self._start_s: float | None = None
        self._values = self._clipped = self._poisoned = 0
        self._power = 0.0
        self._poisoned_s: tuple[float, float] | None = None

    def take(self, frame: av.AudioFrame) -> None:
        """A frame at its own time, or after the one before where it has none inside the file."""
        time_s = None
        if frame.pts is not None and frame.time_base is not None:
            time_s = float(frame.pts * frame.time_base) - self._origin_s
        known = time_s is not None and time_s < self._last_s
        self.add(_full_scale(frame), time_s if known else None, frame.sample_rate, len(frame.layout.channels))

    def add(self, values: NDArray[np.float32], time_s: float | None, rate_hz: int, channels: int) -> None:
        """Values of all channels in any order; raises Unreadable where the rate is no longer the same."""
        if self.rate_hz not in (0, rate_hz):
            raise Unreadable(Reason.DECODE_ERROR, "the sampling rate changes")
        self.rate_hz, self.channels = rate_hz, max(self.channels, channels)
        begin_s = self.end_s if time_s is None else time_s
        self._start_s = begin_s if self._start_s is None else min(self._start_s, begin_s)
        self.end_s = max(self.end_s, begin_s + values.size / channels / rate_hz)
        self.samples += values.size // channels
        self._measure(values, begin_s)

    def _measure(self, values: NDArray[np.float32], begin_s: float) -> None:
        finite = values[np.isfinite(values)]
        self._values += values.size
        self._power += float(np.square(finite, dtype=np.float64).sum())
        self._clipped += int(np.count_nonzero(np.abs(finite) >= _FULL))
        if finite.size < values.size:
            self._poisoned += values.size - finite.size
            self._poisoned_s = (self._poisoned_s or (begin_s, 0.0))[0], self.end_s

    def sound(self, codec: str, declared_s: float | None, damaged: float, cut: str) -> Sound:
        """All of it."""
        first_s, last_s = self._poisoned_s or (0.0, 0.0)
        return Sound(
            codec=codec,
            start_s=max(0.0, self._start_s or 0.0),
            end_s=self.end_s,
            declared_s=declared_s,
            damaged=damaged,
            rate_hz=self.rate_hz,
            channels=self.channels,
            rms=float(np.sqrt(self._power / max(1, self._values - self._poisoned))),
            clipped=self._clipped / max(1, self._values),
            poisoned=self._poisoned,
            poisoned_from_s=first_s,
            poisoned_to_s=last_s,
            cut=cut,
        )


def _full_scale(frame: av.AudioFrame) -> NDArray[np.float32]:
    """The values of a frame with full scale at 1, whatever their type."""
    values: NDArray[Any] = frame.to_ndarray()
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    half = float(2 ** (8 * values.dtype.itemsize - 1))
    zero = half if values.dtype.kind == "u" else 0.0
    return ((values - zero) / half).astype(np.float32)


def _looks(path: Path, timeline: Timeline, wanted: list[int]) -> Iterator[tuple[int, NDArray[np.float64] | None]]:
    """The wanted frames as `decoded` has them; those behind one key frame together, so that none is decoded twice."""
    for key, group in groupby(wanted, timeline.key_before):
        behind = list(group)
        for index, frame in decoded(path, timeline, range(key, behind[-1] + 1)):
            if index in behind:
                yield index, None if frame is None else _gray(rgb(frame))


def _film(container: InputContainer) -> VideoStream:
    """The stream that extraction reads."""
    from av.stream import Disposition

    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return best if best in films else films[0]


def _gray(image: Image) -> NDArray[np.float64]:
    """[H, W, 3] to the mean levels of square parts, about 32 on the short side."""
    height, width = image.shape[:2]
    side = max(1, min(height, width) // _BLOCKS)
    gray = image[: height // side * side, : width // side * side].mean(axis=2)
    parts: NDArray[np.float64] = gray.reshape(height // side, side, width // side, side).mean(axis=(1, 3))
    return parts


def _moved(seen: list[NDArray[np.float64]]) -> float | None:
    """By how much the part that changes most does; a picture of another size has changed altogether."""
    if len(seen) < 2:
        return None
    if len({gray.shape for gray in seen}) > 1:
        return 255.0
    stack = np.stack(seen)
    return float((stack.max(axis=0) - stack.min(axis=0)).max())
