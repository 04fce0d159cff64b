"""Lists the frames of a video file by presentation time, and reads chosen ones with decord or with PyAV.

The times come from the packets, through PyAV, so that both decoders are asked for the same frames. decord decodes only
where it can be trusted: if its own list has the same times; if the container has an index to seek by; if the container
hides no packet (behind a hidden packet decord's count of frames is off); and if the codec is not MPEG-4 part 2 (XviD's
inverse transform differs by up to 2 of 255 between versions of FFmpeg). In all other cases, on a platform without
decord, and if decord meets damage, PyAV decodes. The choice depends only on the bytes of the file, and both give the
same pixels for every file that decord is used for.

Images are rotated by quarter turns as the display matrix says, as in a player. Mirroring, interlacing and pixels that
are not square are ignored. Damage is concealed as in a player: a frame that does not decode is replaced by the frame
before it, or by the next one if there is none before.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.media.container import HEAD_BYTES, MICROSECONDS, claims_to_be_media, opened, video_stream
from pipeline.reason import Reason, Unreadable

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Image = NDArray[np.uint8]

_VIDEO_FILES = (b"RIFF", b"RF64", b"OggS", b"FLV\x01", b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba")
_SAME_TIME_S = 2e-3
_INEXACT_CODEC = "mpeg4"


@dataclass(frozen=True)
class Timeline:
    """The frames of a video file in the order in which they are shown.

    ticks: [P], presentation times in units of the stream, unit_s seconds each. time_s: [P], the same in seconds from
    the start of the container. end_s: when the last frame ends. keys: [K], indices of the key frames, which decode
    without others. indexed: whether the container can seek. hidden: whether it has frames that are decoded but not
    shown. codec: FFmpeg's name for it.
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
        """The last frame up to `index` from which decoding can start; the first of all if the file can't seek."""
        before = self.keys[self.keys <= index]
        return int(before[-1]) if self.indexed and len(before) else 0


def read_timeline(path: Path) -> Timeline:
    """Reads the packets without decoding them. The timelines of the last files are kept for their next utterances.

    Raises Unreadable: missing_file; io_error; not_media; no_video_stream, also if there is only an attached picture;
    decode_error.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable(Reason.MISSING_FILE, path.name) from None
    return _timeline(path, status.st_size, status.st_mtime_ns)


def frames(path: Path, timeline: Timeline, stretch: range, wanted: Sequence[int]) -> Iterator[tuple[int, Image]]:
    """Yields the frames at indices `wanted` (sorted, without repeats, within `stretch`) as RGB uint8 [H, W, 3].

    Reads forward and keeps no image. An index may come twice; then the later image counts. A frame that does not decode
    is replaced by another of `stretch`; nothing is yielded if no frame of `stretch` decodes.
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
    """decord's reader for the file; None if decord is not installed or can't be trusted with the file."""
    if timeline.hidden or not timeline.indexed or timeline.codec == _INEXACT_CODEC:
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
    """Like `frames`, always through PyAV."""
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
    """Yields the frames of the stretch with their indices, and None for a frame whose packet does not decode.

    A frame that repeats the one before it, as MPEG-4's packets without an image do, is not yielded.
    """
    key = timeline.key_before(stretch.start)
    with _readable(path) as container:
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
    """The presentation time and the frame of each frame in a packet; None for the frame if it does not decode."""
    import av

    try:
        return [(frame.pts, frame) for frame in packet.decode() if frame.pts is not None]
    except av.error.FFmpegError:
        ticks = _ticks(packet)
        return [] if ticks is None else [(ticks, None)]


def rgb(frame: VideoFrame) -> Image:
    """The image of a frame as RGB uint8 [H, W, 3], rotated as in a player."""
    image: Image = frame.to_ndarray(format="rgb24")
    return np.rot90(image, round(frame.rotation / 90))


@lru_cache(maxsize=4)
def _timeline(path: Path, size: int, changed_ns: int) -> Timeline:
    """`size` and `changed_ns` serve the cache alone: another file under the same name is read again."""
    with _readable(path) as container:
        stream = _stream(container)
        indexed = len(stream.index_entries) > 1
        start_s = (container.start_time or 0) / MICROSECONDS
        unit_s, codec = float(stream.time_base or 0), stream.codec_context.name
        stated = sorted(_stated(_packets(container, stream)))
    shown = {frame.ticks: frame for frame in stated if not frame.hidden}
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
        keys=np.flatnonzero([frame.key for frame in shown.values()]),
        indexed=indexed,
        hidden=any(frame.hidden for frame in stated),
        codec=codec,
    )


class _StatedFrame(NamedTuple):
    """What a packet states about its frame; times are in ticks."""

    ticks: int
    duration: int
    key: bool
    hidden: bool


def _stated(packets: Iterable[Packet]) -> Iterator[_StatedFrame]:
    for packet in packets:
        ticks = _ticks(packet)
        if packet.size and ticks is not None:
            yield _StatedFrame(ticks, packet.duration or 0, packet.is_keyframe, packet.is_discard)


def _ticks(packet: Packet) -> int | None:
    """When a packet's frame is shown. AVI and the like know only when it is decoded, which for them is the same."""
    ticks: int | None = packet.dts if packet.pts is None else packet.pts
    return ticks


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Yields the packets of a stream up to the place where the file breaks off, and one that flushes the decoder."""
    import av

    with suppress(av.error.FFmpegError):
        yield from container.demux(stream)


def _stream(container: InputContainer) -> VideoStream:
    """The stream that a player would show. Raises Unreadable."""
    stream = video_stream(container)
    if stream is None:
        reason = Reason.NO_VIDEO_STREAM if len(container.streams) else Reason.NOT_MEDIA
        raise Unreadable(reason, f"{container.format.name} with {len(container.streams)} other streams")
    if stream.codec_context is None:
        raise Unreadable(Reason.DECODE_ERROR, "no decoder knows the codec of the video stream")
    return stream


@contextmanager
def _readable(path: Path) -> Iterator[InputContainer]:
    """The container in a file. Errors become Unreadable, also those of code that reads the container."""
    import av

    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD_BYTES)
            if not head:
                raise Unreadable(Reason.NOT_MEDIA, "zero bytes")
            with opened(file) as container:
                yield container
    except IsADirectoryError:
        raise Unreadable(Reason.NOT_MEDIA, "a directory") from None
    except av.error.FFmpegError as error:
        media = claims_to_be_media(head, _VIDEO_FILES)
        raise Unreadable(Reason.DECODE_ERROR if media else Reason.NOT_MEDIA, error.strerror or str(error)) from error
    except OSError as error:
        raise Unreadable(Reason.IO_ERROR, str(error)) from error
