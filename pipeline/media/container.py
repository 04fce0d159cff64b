"""Opens a media file through FFmpeg by its content alone, picks its streams, and reads their packets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

HEAD_BYTES = 12
"""How many bytes of a file tell its format."""
MICROSECONDS = 1_000_000
"""A container counts its start and its duration in these."""

RESTART_S = 0.1
"""A clock that goes back by more has started again. The decoding times of a stream only grow."""

_JOINABLE = ("mpegts", "mpeg")  # files of these are joined by appending their bytes
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide")
_UNKNOWN_SIZE = 0x7FFF0000  # programs that write to a pipe state 2 or 4 GiB, or a little less


@contextmanager
def opened(file: FileIO) -> Iterator[InputContainer]:
    """The container in an open file. Raises FFmpegError.

    FFmpeg does not see the file's name: from its extension it would guess a format if the content tells none.
    """
    import av

    file.seek(0)
    nameless = SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
    with av.open(nameless, metadata_errors="ignore") as container:
        yield container


def claims_to_be_media(head: bytes, magic: Sequence[bytes]) -> bool:
    """True if the first bytes of a file are those of an MP4 or QuickTime file, or one of `magic`."""
    return head.startswith(tuple(magic)) or head[4:8] in _BOXES


def riff_size(head: bytes) -> int | None:
    """The size in bytes that a RIFF file states; None for other files, and for one written to a pipe."""
    size = int.from_bytes(head[4:8], "little") + 8
    return size if head.startswith(b"RIFF") and size < _UNKNOWN_SIZE else None


def video_stream(container: InputContainer) -> VideoStream | None:
    """The video stream that a player would show; None if there is none. An attached picture is not a video stream."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return best if best in streams else next(iter(streams), None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The audio stream that a player would play: the first that is marked as the default, else the first."""
    from av.stream import Disposition

    streams = container.streams.audio
    return next((s for s in streams if s.disposition & Disposition.default), next(iter(streams), None))


def counts_from_zero(container: InputContainer) -> bool:
    """True if durations state where a file ends, and not how long it lasts, as in MP4 in fragments.

    They differ for a part of a stream, whose first fragment does not start at 0.
    """
    return container.format.name.startswith("mov") and not any(stream.frames for stream in container.streams)


def packets(container: InputContainer, stream: AudioStream | VideoStream) -> Iterator[Packet]:
    """Yields the packets of a stream up to the place where the file breaks off, and one that flushes the decoder.

    Where the clock of a transport or program stream starts again, as in recordings that were joined, what follows is
    given the times right after what precedes. Each stream is carried on by itself: after a join, sound and pictures may
    be apart by the length of a packet.
    """
    import av

    clock = _Clock() if container.format.name in _JOINABLE else None
    with suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            if clock is not None:
                clock.carry_on(packet)
            yield packet


class _Clock:
    """Keeps the times of packets growing where their clock starts again."""

    def __init__(self) -> None:
        self._shift = 0
        self._end: int | None = None

    def carry_on(self, packet: Packet) -> None:
        """Moves the times of a packet."""
        if packet.dts is None:
            return
        if self._end is not None and (self._end - packet.dts - self._shift) * packet.time_base > RESTART_S:
            self._shift = self._end - packet.dts
        packet.dts += self._shift
        if packet.pts is not None:
            packet.pts += self._shift
        self._end = packet.dts + (packet.duration or 0)
