"""Opens a media file through FFmpeg by its content alone, and reads what its first bytes and its container state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

HEAD_BYTES = 12
"""How many bytes of a file tell its format."""
MICROSECONDS = 1_000_000
"""A container counts its start and its duration in these."""

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide")
_UNKNOWN_SIZE = 0xFFFF0000


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
