"""The pictures of a video file by the list of their presentation times, read with decord or with PyAV.

The times come from the packets, through PyAV, so that both decoders are asked for the same frames. decord decodes
where it can be trusted: its own list has the same times, the container has an index to seek by, no packet is one the
container says not to show (behind such packets decord's count is off by as many frames), and the codec is not MPEG-4
part 2 (XviD's inverse transform differs by up to 2 of 255 between versions of FFmpeg). Otherwise, on a platform without
decord, or where decord meets damage, PyAV decodes; which one it is depends on the bytes of the file alone. Both give
the same pixels where both are asked.

Pictures are turned by quarters as the display matrix says, as a player does; its mirroring, interlacing and pixels
that are not square are ignored. Damage is hidden as in a player: a frame that does not decode is replaced by the one
before it, or the next where there is none before.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.reason import Reason, Unreadable

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Image = NDArray[np.uint8]

_MEDIA = (b"RIFF", b"RF64", b"OggS", b"FLV\x01", b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba")
_MEDIA_AT_4 = (b"ftyp", b"moov", b"mdat", b"free", b"wide")
_MICROSECONDS = 1_000_000
_SAME_TIME_S = 2e-3
_UNLIKE = "mpeg4"


@dataclass(frozen=True)
class Timeline:
    """The frames of a file in the order in which they are shown.

    ticks: [P], presentation times in units of the stream, unit_s seconds each. time_s: [P], the same in seconds from
    the start of the container. end_s: when the last frame ends. keys: [K], indices of frames that decode without
    others. indexed: the container can be sought. hidden: it has frames that are decoded but not shown. codec: as
    FFmpeg names it.
    """

    ticks: NDArray[np.int64]
    unit_s: float
    time_s: NDArray[np.float64]
    end_s: float
    keys: NDArray[np.int64]
    indexed: bool
    hidden: bool
    codec: str

    def key_before(self, index: int) -> int:
        """The last frame, up to `index`, from which decoding can start; the first of all where one cannot seek."""
        before = self.keys[self.keys <= index]
        return int(before[-1]) if self.indexed and len(before) else 0


def read_timeline(path: Path) -> Timeline:
    """Reads the packets without decoding them; a second utterance of the same file finds them remembered.

    Raises Unreadable: missing_file, io_error, not_media, no_video_stream (an attached picture is none), decode_error.
    """
    try:
        known = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable(Reason.MISSING_FILE, path.name) from None
    return _timeline(path, known.st_size, known.st_mtime_ns)


def frames(path: Path, timeline: Timeline, stretch: range, wanted: Sequence[int]) -> Iterator[tuple[int, Image]]:
    """The frames at indices `wanted` (sorted, without repeats, within `stretch`) as RGB uint8 [H, W, 3].

    Reads forward and keeps none. An index may come twice: the later image counts. What does not decode is replaced
    from `stretch`; nothing comes where nothing in it decodes.
    """
    reader = decord_reader(path, timeline)
    if reader is None:
        yield from by_pyav(path, timeline, stretch, wanted)
        return
    from decord import DECORDError

    try:
        for index in wanted:
            yield index, reader[index].asnumpy()
    except (DECORDError, StopIteration):
        yield from by_pyav(path, timeline, stretch, wanted)


def decord_reader(path: Path, timeline: Timeline) -> Any:
    """decord's reader for the file, None where it is not installed or not to be trusted with it."""
    if timeline.hidden or not timeline.indexed or timeline.codec == _UNLIKE:
        return None
    try:
        import decord
    except (ImportError, OSError):
        return None
    decord.logging.set_level(decord.logging.QUIET)
    with suppress(decord.DECORDError, RuntimeError, AssertionError, UnicodeError):
        reader = decord.VideoReader(os.fspath(path), num_threads=1, fault_tol=1e-9)
        times = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        expected = timeline.ticks * timeline.unit_s
        if times.shape == expected.shape and np.allclose(times, expected, rtol=0, atol=_SAME_TIME_S):
            return reader
    return None


def by_pyav(path: Path, timeline: Timeline, stretch: range, wanted: Sequence[int]) -> Iterator[tuple[int, Image]]:
    """`frames` through PyAV, whatever the file."""
    todo = deque(wanted)
    shown = None
    for index, frame in decoded(path, timeline, stretch):
        if frame is None:
            continue
        while todo and todo[0] < index:
            yield todo.popleft(), rgb(shown or frame)
        shown = frame
        if todo and todo[0] == index:
            yield todo.popleft(), rgb(frame)
        if not todo:
            return
    if shown is not None:
        for index in todo:
            yield index, rgb(shown)


def decoded(path: Path, timeline: Timeline, stretch: range) -> Iterator[tuple[int, VideoFrame | None]]:
    """The frames of the stretch with their indices, None for one whose packet does not decode.

    One that repeats the frame before it, as MPEG-4's packets without a picture do, does not come.
    """
    key = timeline.key_before(stretch.start)
    with _opened(path) as container:
        stream = _stream(container)
        stream.codec_context.thread_count = 1
        if key:
            container.seek(int(timeline.ticks[key]), stream=stream)
        for packet in _packets(container, stream):
            for ticks, frame in _decode(packet):
                index = int(np.searchsorted(timeline.ticks, ticks))
                if index in stretch:
                    yield index, frame
                elif frame is not None and index >= stretch.stop:
                    return


def _decode(packet: Packet) -> list[tuple[int, VideoFrame | None]]:
    """The frames that a packet gives and when each is shown; None in place of its own where it does not decode."""
    import av

    try:
        return [(frame.pts, frame) for frame in packet.decode() if frame.pts is not None]
    except av.error.FFmpegError:
        ticks = _ticks(packet)
        return [] if ticks is None else [(ticks, None)]


def rgb(frame: VideoFrame) -> Image:
    """[H, W, 3], turned as a player shows it."""
    image: Image = frame.to_ndarray(format="rgb24")
    return np.rot90(image, round(frame.rotation / 90))


@lru_cache(maxsize=4)
def _timeline(path: Path, size: int, changed_ns: int) -> Timeline:
    """`size` and `changed_ns` are there for the cache alone: another file under this name is read again."""
    with _opened(path) as container:
        stream = _stream(container)
        indexed = len(stream.index_entries) > 1
        start_s = (container.start_time or 0) / _MICROSECONDS
        unit_s, codec = float(stream.time_base or 0), stream.codec_context.name
        moments = sorted(_moments(_packets(container, stream)))
    shown = {moment.ticks: moment for moment in moments if not moment.hidden}
    if not shown:
        raise Unreadable(Reason.DECODE_ERROR, "a video stream without frames")
    ticks = np.array(list(shown), np.int64)
    usual = float(np.median(np.diff(ticks))) if len(ticks) > 1 else 0.0
    last = shown[int(ticks[-1])].duration or usual
    return Timeline(
        ticks=ticks,
        unit_s=unit_s,
        time_s=np.asarray(ticks * unit_s - start_s, np.float64),
        end_s=float((ticks[-1] + last) * unit_s - start_s),
        keys=np.flatnonzero([moment.key for moment in shown.values()]),
        indexed=indexed,
        hidden=any(moment.hidden for moment in moments),
        codec=codec,
    )


class _Moment(NamedTuple):
    """What a packet says of its frame."""

    ticks: int
    duration: int
    key: bool
    hidden: bool


def _moments(packets: Iterable[Packet]) -> Iterator[_Moment]:
    for packet in packets:
        ticks = _ticks(packet)
        if packet.size and ticks is not None:
            yield _Moment(ticks, packet.duration or 0, packet.is_keyframe, packet.is_discard)


def _ticks(packet: Packet) -> int | None:
    """When its frame is shown; AVI and the like know only when it is decoded, which for them is the same."""
    ticks: int | None = packet.dts if packet.pts is None else packet.pts
    return ticks


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """The packets of a stream up to the place where the file breaks off, and one to flush the decoder."""
    import av

    with suppress(av.error.FFmpegError):
        yield from container.demux(stream)


def _stream(container: InputContainer) -> VideoStream:
    """The stream a player would show."""
    from av.stream import Disposition

    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
        known = Reason.NO_VIDEO_STREAM if len(container.streams) else Reason.NOT_MEDIA
        raise Unreadable(known, f"{container.format.name} with {len(container.streams)} other streams")
    best = container.streams.best("video")
    chosen = best if best in films else films[0]
    if chosen.codec_context is None:
        raise Unreadable(Reason.DECODE_ERROR, "no decoder knows the codec of the video stream")
    return chosen


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The container, told by its content and never by the extension of its name."""
    import av

    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(12)
            if not head:
                raise Unreadable(Reason.NOT_MEDIA, "zero bytes")
            file.seek(0)
            nameless = SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
            with av.open(nameless, metadata_errors="ignore") as container:
                yield container
    except IsADirectoryError:
        raise Unreadable(Reason.NOT_MEDIA, "a directory") from None
    except av.error.FFmpegError as error:
        media = head[:4] in _MEDIA or head[4:8] in _MEDIA_AT_4
        raise Unreadable(Reason.DECODE_ERROR if media else Reason.NOT_MEDIA, error.strerror or str(error)) from error
    except OSError as error:
        raise Unreadable(Reason.IO_ERROR, str(error)) from error
