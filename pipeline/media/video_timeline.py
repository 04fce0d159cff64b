"""Lists the frames of a video file by presentation time, from its packets alone, and what its headers say of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.media import h264
from pipeline.media.bounds import check_pixels
from pipeline.media.container import MICROSECONDS, media_file, packets, video_stream
from pipeline.reason import Reason, Unreadable

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream

_INDEXED = ("mov", "matroska", "avi")
"""Containers that list their key frames. Of others FFmpeg knows those that it happened to read."""


@dataclass(frozen=True)
class Headers:
    """What the headers of a video file say of all its frames.

    container, codec, pixel_format: FFmpeg's names. colour_matrix: its number in ITU-T H.273. progressive: True if they
    rule out interlaced pictures and a change of all this on the way; known of H.264 alone. restarts: True if no frame
    refers to one before the last key frame; known of H.264 alone. indexed: whether the container can seek.
    """

    container: str
    codec: str
    pixel_format: str
    colour_matrix: int
    width: int
    height: int
    progressive: bool
    restarts: bool
    indexed: bool


@dataclass(frozen=True)
class Timeline:
    """The frames of a video file in the order in which they are shown.

    ticks: [P], presentation times in units of the stream, unit_s seconds each. time_s: [P], the same in seconds from
    the start of the container. end_s: when the last frame ends. keys: [K], indices of the key frames, from which
    decoding can start; seeks: [K], the ticks by which the container finds them. hidden: whether it has frames that are
    decoded but not shown. counted: True if the packets do not tell the order of the frames, so that each is known by
    how many are decoded before it.
    """

    ticks: NDArray[np.int64]
    unit_s: float
    time_s: NDArray[np.float64]
    end_s: float
    keys: NDArray[np.int64]
    seeks: NDArray[np.int64]
    hidden: bool
    counted: bool
    headers: Headers

    def key_before(self, index: int) -> int:
        """The last frame up to `index` from which decoding can start; the first of all if the file can't seek."""
        before = self.keys[self.keys <= index]
        return int(before[-1]) if self.headers.indexed and len(before) else 0

    def seek_ticks(self, key: int) -> int:
        """The ticks by which the container finds the key frame at index `key`."""
        return int(self.seeks[np.searchsorted(self.keys, key)])


def read_timeline(path: Path) -> Timeline:
    """Reads the packets without decoding them. The timelines of the last files are kept for their next utterances.

    Raises Unreadable: missing_file; io_error; not_media; no_video_stream, also if there is only an attached picture;
    too_large; decode_error.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable(Reason.MISSING_FILE, path.name) from None
    return _timeline(path, status.st_size, status.st_mtime_ns)


def packet_ticks(packet: Packet) -> int | None:
    """When a packet's frame is shown. AVI and the like know only when it is decoded, which for them is the same."""
    ticks: int | None = packet.dts if packet.pts is None else packet.pts
    return ticks


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container in a file, and the stream that a player would show.

    Raises Unreadable, also for pictures that are too large.
    """
    with media_file(path) as media, media.container() as container:
        stream = video_stream(container)
        check_pixels(stream.codec_context.width, stream.codec_context.height)
        yield container, stream


@lru_cache(maxsize=4)
def _timeline(path: Path, size: int, changed_ns: int) -> Timeline:
    """`size` and `changed_ns` serve the cache alone: another file under the same name is read again."""
    with opened_video(path) as (container, stream):
        start_s = (container.start_time or 0) / MICROSECONDS
        unit_s, reading = float(stream.time_base or 0), _Reading(container, stream)
        stated, late, counted = _ordered(list(reading.frames()), container)
        headers, avi = reading.headers, container.format.name == "avi"
    shown = {frame.ticks: frame for frame in stated if not frame.hidden}
    if not shown:
        raise Unreadable(Reason.DECODE_ERROR, "a video stream without frames")
    ticks = np.array(list(shown), np.int64)
    usual = float(np.median(np.diff(ticks))) if len(ticks) > 1 else 0.0
    last = shown[int(ticks[-1])].duration or usual
    keys = [(index, frame) for index, frame in enumerate(shown.values()) if frame.key]
    if counted and not headers.restarts:  # the frames that look back beyond a key frame would be counted too
        keys = keys[:1]
    return Timeline(
        ticks=ticks,
        unit_s=unit_s,
        time_s=np.asarray((ticks - late) * unit_s - start_s, np.float64),
        end_s=float((ticks[-1] + last - late) * unit_s - start_s),
        keys=np.array([index for index, _ in keys], np.int64),
        seeks=np.array([frame.decoded if avi else frame.ticks for _, frame in keys], np.int64),
        hidden=any(frame.hidden for frame in stated),
        counted=counted,
        headers=headers,
    )


class _StatedFrame(NamedTuple):
    """What a packet states about its frame; times are in ticks. key: decoding can start at it."""

    ticks: int
    decoded: int
    duration: int
    key: bool
    hidden: bool


def _ordered(stated: list[_StatedFrame], container: InputContainer) -> tuple[list[_StatedFrame], int, bool]:
    """The frames as they are shown, by how many ticks their times are late, and whether the packets hide their order.

    AVI knows only when a frame is decoded. For a codec that looks forward, FFmpeg makes presentation times of it that
    are late by as much as the codec delays frames, and does not always find their order. The first frame of a film in
    AVI is shown at once, and each following one at the next time of decoding.
    """
    if container.format.name != "avi" or not stated:
        return sorted(stated), 0, False
    late = min(frame.ticks for frame in stated) - min(frame.decoded for frame in stated)
    if late > 0 and all(frame.ticks - frame.decoded == late for frame in stated):
        return sorted(frame._replace(ticks=frame.decoded) for frame in stated), 0, True
    return sorted(stated), late, False


class _Reading:
    """Reads the packets of a stream once: what they state about their frames, and what the headers among them say."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        context = stream.codec_context
        self._h264 = h264.Watch(bytes(context.extradata or b"")) if context.name == "h264" else None
        self._changes = False
        self._indexed = len(stream.index_entries) > 1  # before the packets are read, which adds entries

    def frames(self) -> Iterator[_StatedFrame]:
        for packet in packets(self._container, self._stream):
            ticks = packet_ticks(packet)
            self._changes |= packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change")
            if packet.size and ticks is not None:
                decoded = ticks if packet.dts is None else packet.dts
                yield _StatedFrame(ticks, decoded, packet.duration or 0, self._starts(packet), packet.is_discard)

    def _starts(self, packet: Packet) -> bool:
        if self._h264 is None or not packet.is_keyframe:
            return bool(packet.is_keyframe)
        return self._h264.starts(bytes(packet))

    @property
    def headers(self) -> Headers:
        """What all headers say; to be asked when the frames have been read."""
        context, container = self._stream.codec_context, self._container.format.name.partition(",")[0]
        return Headers(
            container=container,
            codec=context.name,
            pixel_format=context.pix_fmt or "",
            colour_matrix=int(context.colorspace),
            width=context.width,
            height=context.height,
            progressive=self._h264 is not None and self._h264.progressive and not self._changes,
            restarts=self._h264 is not None and self._h264.all_restart,
            indexed=container in _INDEXED and self._indexed,
        )
