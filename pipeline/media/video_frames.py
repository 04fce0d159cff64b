"""Reads chosen frames of a video file, with the decoder that `pipeline.media.video_decoder` names.

Both decoders are asked for the same frames, those of `pipeline.media.video_timeline`, and if decord meets damage, PyAV
takes over.

Images are rotated by quarter turns as the display matrix says, as in a player. Mirroring and pixels that are not square
are ignored; of an interlaced frame both fields are shown. Damage is concealed as in a player: a frame that does not
decode is replaced by the frame before it, or by the next one if there is none before.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.media.bounds import MOST_PIXELS
from pipeline.media.container import packets
from pipeline.media.video_decoder import decord_reader
from pipeline.media.video_timeline import Timeline, opened_video, packet_ticks
from pipeline.reason import Reason, Unreadable

if TYPE_CHECKING:
    from av import Packet, VideoFrame

Image = NDArray[np.uint8]


def frames(
    path: Path, timeline: Timeline, stretch: range, wanted: Sequence[int], damaged: set[int] | None = None
) -> Iterator[tuple[int, Image]]:
    """Yields the frames at indices `wanted` (sorted, without repeats, within `stretch`) as RGB uint8 [H, W, 3].

    Reads forward and keeps no image. An index may come twice; then the later image counts. A frame that does not decode
    is replaced by another of `stretch`, and its index is added to `damaged`; nothing is yielded if no frame of
    `stretch` decodes.
    """
    reader = decord_reader(path, timeline)
    if reader is None:
        yield from by_pyav(path, timeline, stretch, wanted, damaged)
        return
    from decord import DECORDError

    try:
        for index in wanted:
            yield index, reader[index].asnumpy()
    except (DECORDError, StopIteration):
        yield from by_pyav(path, timeline, stretch, wanted, damaged)


def by_pyav(
    path: Path, timeline: Timeline, stretch: range, wanted: Sequence[int], damaged: set[int] | None = None
) -> Iterator[tuple[int, Image]]:
    """Like `frames`, always through PyAV."""
    todo = deque(wanted)
    failed = set[int]() if damaged is None else damaged
    shown = None
    for index, frame in decoded(path, timeline, stretch):
        if frame is None:
            failed.add(index)
            continue
        failed.discard(index)
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

    A picture that is too large although the headers state a smaller one does not decode. A frame that repeats the one
    before it, as MPEG-4's packets without an image do, is not yielded.
    """
    key = timeline.key_before(stretch.start)
    with opened_video(path) as (container, stream):
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        if key:
            container.seek(timeline.seek_ticks(key), stream=stream)
        count = itertools.count(key)
        for packet in packets(container, stream):
            for ticks, frame in _decode(packet):
                index = next(count) if timeline.counted else int(np.searchsorted(timeline.ticks, ticks))
                if index in stretch:
                    yield index, frame
                elif frame is not None and index >= stretch.stop:
                    return


def _decode(packet: Packet) -> list[tuple[int, VideoFrame | None]]:
    """The presentation time and the frame of each frame in a packet; None for the frame if it does not decode."""
    import av

    try:
        return [(frame.pts, frame) for frame in packet.decode() if frame.pts is not None]
    except MemoryError:  # FFmpeg has its own, and it is no damage
        raise
    except av.error.FFmpegError:
        ticks = packet_ticks(packet)
        return [] if ticks is None else [(ticks, None)]


def rgb(frame: VideoFrame) -> Image:
    """The image of a frame as RGB uint8 [H, W, 3], rotated as in a player.

    Raises Unreadable: decode_error if FFmpeg can't convert the frame's colours, as those of the matrix YCgCo.
    """
    import av

    try:
        image: Image = frame.to_ndarray(format="rgb24")
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        raise Unreadable(Reason.DECODE_ERROR, f"its colours cannot be converted: {error}") from error
    return np.rot90(image, round(frame.rotation / 90))
