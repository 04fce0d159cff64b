"""Opens a media file by its content alone, picks its streams, reads their packets, and says why one can't be read.

Sound, pictures and the doctor all open files here. A file is what its bytes say, and is read as one of `FORMATS`, none
of which names other files: no playlist, list of files or description of a session is followed.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import of_machine
from pipeline.media.headers import riff_size, wav_goes_on
from pipeline.reason import Reason, Unreadable

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.video.stream import VideoStream

S = TypeVar("S", "AudioStream", "VideoStream")

HEAD_BYTES = 12
"""How many bytes of a file tell its format."""
MICROSECONDS = 1_000_000
"""A container counts its start and its duration in these."""
RESTART_S = 0.1
"""A clock that goes back by more has started again. The decoding times of a stream only grow."""

_FILMS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,rm,dv,mxf,nut,wtv,ivf,gif,yuv4mpegpipe"
_SPEECH = "wav,w64,aiff,au,caf,flac,mp3,aac,loas,ac3,eac3,dts,amr,voc,nistsphere,ircam,sox,shn,dss,oma"
_MUSIC = "wv,ape,tta,tak,mpc,mpc8,dsf"
_BARE_PICTURES = "h264,hevc,av1,obu,m4v,mpegvideo,h263,mjpeg"
_IMAGES = "jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,tiff_pipe"
FORMATS = ",".join((_FILMS, _SPEECH, _MUSIC, _BARE_PICTURES, _IMAGES))
"""FFmpeg's names of the formats that are read."""
_WITHIN_ONE_FILE = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}  # no protocol has this name

_HEADS = (
    *(b"RIFF", b"RF64", b"riff", b"OggS", b"fLaC", b"FORM", b"NIST", b".snd", b"caff", b"#!AMR", b"ID3"),
    *(b"\x1aE\xdf\xa3", b"FLV\x01", b"\x00\x00\x01\xba", b"0&\xb2u\x8ef\xcf\x11", b".RMF"),
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide")
_JOINABLE = ("mpegts", "mpeg", "ogg")  # files of these are joined by appending their bytes
_TO_THE_END = {"ignore_length": "1"}  # of the file, whatever the header of a WAV file says
_CHUNK_HEAD_BYTES = 8
_MOST_HOLES = 10_000  # in one file


@dataclass(frozen=True)
class MediaFile:
    """A file that is open. head: its first bytes. size: how many it has."""

    file: FileIO
    head: bytes
    size: int

    @property
    def is_mp4(self) -> bool:
        """True if the file begins with a box of MP4 or QuickTime that is shorter than 16 MiB."""
        return self.head[:1] == b"\0" and self.head[4:8] in _BOXES

    @property
    def is_short_avi(self) -> bool:
        """True if an AVI file has fewer bytes than its header states: some were cut out, or its end is missing."""
        stated = riff_size(self.head) if self.head[8:12] == b"AVI " else None
        return stated is not None and self.size < stated

    @contextmanager
    def container(self) -> Iterator[InputContainer]:
        """What FFmpeg finds in the file. It does not see the name, from whose extension it would guess a format."""
        import av

        unclosed = self.head[:4] == b"RIFF" and self.head[8:12] == b"WAVE" and wav_goes_on(self.file)
        options = _WITHIN_ONE_FILE | (_TO_THE_END if unclosed else {})
        self.file.seek(0)
        nameless = SimpleNamespace(read=self.file.read, seek=self.file.seek, tell=self.file.tell)
        with av.open(nameless, metadata_errors="ignore", container_options=options) as container:
            yield container


@contextmanager
def media_file(path: Path) -> Iterator[MediaFile]:
    """Opens a file. Raises Unreadable: missing_file; io_error; not_media; decode_error; too_large.

    The errors of the code that reads the file, FFmpeg's and the system's, become Unreadable too, but for those of a
    machine that lacks something: see `pipeline.errors.of_machine`.
    """
    import av

    head = b""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(Reason.NOT_MEDIA, "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file")
        with path.open("rb", buffering=0) as file:  # libsndfile moves the descriptor itself
            head = file.read(HEAD_BYTES)
            if not head:
                raise Unreadable(Reason.NOT_MEDIA, "zero bytes")
            yield MediaFile(file, head, status.st_size)
    except MemoryError as error:  # FFmpeg's too
        raise Unreadable(Reason.TOO_LARGE, f"its decoder asks for more memory than it may have: {error}") from error
    except av.error.FFmpegError as error:
        raise _not_read(error, head) from error
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable(Reason.MISSING_FILE, path.name) from None
    except OSError as error:
        raise of_machine(error, reads_files=True) or Unreadable(Reason.IO_ERROR, str(error)) from error


def length_s(path: Path) -> float:
    """How long a file says that it is, in seconds. Raises Unreadable as `media_file` does, and if it does not say."""
    with media_file(path) as file, file.container() as container:
        if container.duration is None or container.duration <= 0:
            raise Unreadable(Reason.DECODE_ERROR, "the file does not say how long it is")
        return float(container.duration / MICROSECONDS)


def _not_read(error: FFmpegError, head: bytes) -> Unreadable:
    """What an error of FFmpeg says of a file that begins with `head`."""
    import av

    if head.startswith(_HEADS) or head[4:8] in _BOXES:
        return Unreadable(Reason.DECODE_ERROR, error.strerror or str(error))
    if isinstance(error, av.error.ArgumentError):
        return Unreadable(Reason.NOT_MEDIA, "a list of files, a text or another format that is not read")
    return Unreadable(Reason.NOT_MEDIA, error.strerror or str(error))


def video_stream(container: InputContainer) -> VideoStream:
    """The video stream that a player would show. An attached picture is not a video stream.

    Raises Unreadable: no_video_stream, not_media if there is no stream at all, decode_error for an unknown codec.
    """
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    stream = best if best in streams else next(iter(streams), None)
    return _with_decoder(stream, container, Reason.NO_VIDEO_STREAM)


def audio_stream(container: InputContainer) -> AudioStream:
    """The audio stream that a player would play: the first that is marked as the default, else the first.

    Raises Unreadable: no_audio_stream, not_media if there is no stream at all, decode_error for an unknown codec.
    """
    from av.stream import Disposition

    streams = container.streams.audio
    stream = next((s for s in streams if s.disposition & Disposition.default), next(iter(streams), None))
    return _with_decoder(stream, container, Reason.NO_AUDIO_STREAM)


def _with_decoder(stream: S | None, container: InputContainer, none: Reason) -> S:
    if stream is None:
        others = len(container.streams)
        raise Unreadable(none if others else Reason.NOT_MEDIA, f"{container.format.name} with {others} other streams")
    if stream.codec_context is None:
        raise Unreadable(Reason.DECODE_ERROR, f"no decoder knows the codec of the {stream.type} stream")
    return stream


def counts_from_zero(container: InputContainer) -> bool:
    """True if durations state where a file ends, and not how long it lasts, as in MP4 in fragments.

    They differ for a part of a stream, whose first fragment does not start at 0.
    """
    return container.format.name.startswith("mov") and not any(stream.frames for stream in container.streams)


def packets(container: InputContainer, stream: AudioStream | VideoStream) -> Iterator[Packet]:
    """Yields the packets of a stream up to the place where the file breaks off, and one that flushes the decoder.

    Where the clock of a transport or program stream starts again, as in recordings that were joined, what follows is
    given the times right after what precedes. Each stream is carried on by itself: after a join, sound and pictures may
    be apart by the length of a packet. Pictures in AVI have the times that its index gives them.
    """
    clock: _Clock | _FrameNumbers | None = None
    if container.format.name in _JOINABLE:
        clock = _Clock()
    elif container.format.name == "avi" and stream.type == "video":
        clock = _FrameNumbers(stream)
    for packet in _demuxed(container, stream):
        if clock is not None:
            clock.carry_on(packet)
        yield packet


def _demuxed(container: InputContainer, stream: AudioStream | VideoStream) -> Iterator[Packet]:
    import av

    for _ in range(_MOST_HOLES):
        try:
            yield from container.demux(stream)
            return
        except av.error.BlockingIOError:  # it found no packet in the next 64 kB of a transport stream
            continue
        except IndexError:  # PyAV's, behind the packet that flushes: another stream was announced on the way
            return
        except MemoryError:  # FFmpeg has its own
            raise
        except av.error.FFmpegError:
            break
    flush = av.Packet()
    flush.stream = stream
    yield flush


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


class _FrameNumbers:
    """Gives each packet of a film in AVI its time by the index at the end of the file.

    FFmpeg counts the packets that it finds, so that those behind a damaged part would come early.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._entries = iter(stream.index_entries)
        self._entry = next(self._entries, None)

    def carry_on(self, packet: Packet) -> None:
        """Moves the times of a packet."""
        if packet.dts is None or packet.pos is None:
            return
        while self._entry is not None and self._entry.pos + _CHUNK_HEAD_BYTES < packet.pos:
            self._entry = next(self._entries, None)
        if self._entry is None or self._entry.pos + _CHUNK_HEAD_BYTES != packet.pos:
            return
        lost = max(0, self._entry.timestamp - packet.dts)
        packet.dts += lost
        if packet.pts is not None:
            packet.pts += lost
