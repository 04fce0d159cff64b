"""Says which decoder serves a video file: decord where it gives PyAV's very images, and PyAV for the rest.

The choice follows from the bytes of the file alone: whatever is installed, a file has one decoder, and its features one
set of values. tests/pipeline/media/test_video_decoder.py compares both decoders over a list of kinds of video.

They differ for more than 8 bits (by up to 106 of 255), for interlaced frames and DV, for odd widths and heights, for
rare colour matrices, and for MPEG-4 part 2. decord also decodes wrongly behind a key frame that later frames look back
beyond (open groups of pictures, which HEVC and MPEG-2 have by default, and periodic intra refresh), and returns frames
below some 90 pixels, on other processors some 190, in the wrong shape. Which of this a file has is known beforehand of
H.264 alone, so decord serves no other codec.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.errors import MachineError
from pipeline.media.container import media_file
from pipeline.media.video_timeline import Timeline

Decoder = Literal["decord", "PyAV"]

_PIXEL_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")
_COLOUR_MATRICES = (1, 2, 4, 5, 6, 7, 9)  # ITU-T H.273: BT.709, unspecified, FCC, BT.601 (two), SMPTE 240M, BT.2020
_LEAST_SIDE = 192
_SAME_TIME_S = 2e-3


def decoder(path: Path, timeline: Timeline) -> Decoder:
    """Which decoder serves a file. decord does if all of this holds:

    - The container is MP4 or QuickTime, for decord too, has an index to seek by, and hides no frame (edit lists do).
    - The codec is H.264 with 8 bits in 4:2:0, 4:2:2 or 4:4:4, of an even width and height of at least 192, in a common
      colour matrix.
    - All parameter sets, in the container and in the stream, are one that admits whole frames alone: no field coding.
    - Every key frame is an IDR picture.
    - decord lists the same presentation times as the packets.

    Raises MachineError if decord would serve and is not installed.
    """
    return "PyAV" if decord_reader(path, timeline) is None else "decord"


def decord_reader(path: Path, timeline: Timeline) -> Any:
    """decord's reader of a file that decord serves, else None. Raises MachineError."""
    if not _alike(timeline):
        return None
    decord = _decord()
    with suppress(decord.DECORDError, RuntimeError, AssertionError), media_file(path) as media:
        if not media.is_mp4:
            return None
        # By its number and not by its name, from which decord would guess a format, or a list of images.
        reader = decord.VideoReader(f"/dev/fd/{media.file.fileno()}", num_threads=1, fault_tol=1e-9)
        times = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        expected = timeline.ticks * timeline.unit_s
        if times.shape == expected.shape and np.allclose(times, expected, rtol=0, atol=_SAME_TIME_S):
            return reader
    return None


def _alike(timeline: Timeline) -> bool:
    """Whether the headers are those of a file that both decoders decode alike."""
    stated = timeline.headers
    sides = (stated.width, stated.height)
    return (
        stated.container == "mov"
        and stated.indexed
        and not timeline.hidden
        and stated.codec == "h264"
        and stated.pixel_format in _PIXEL_FORMATS
        and stated.colour_matrix in _COLOUR_MATRICES
        and stated.progressive
        and stated.restarts
        and all(side % 2 == 0 and side >= _LEAST_SIDE for side in sides)
    )


def _decord() -> Any:
    try:
        import decord
    except (ImportError, OSError) as error:
        raise MachineError(
            f"decord cannot be loaded ({error}). It decodes most H.264, and another decoder in its place would go "
            "unnoticed: pip install decord"
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord
