"""What a page shows of a clip: a few small frames, and how loud it is over time, within a bound of bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.media import audio, video
from pipeline.media.bounds import bound_this_process, decoder_bound
from pipeline.media.child import DEADLINE_S, Child
from pipeline.media.container import length_s
from pipeline.media.video_frames import Image, frames
from pipeline.media.video_timeline import read_timeline
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio

FRAMES = 8
"""The frames of a filmstrip."""
HEIGHT, WIDEST = 96, 192
"""The largest height and width of a frame, in pixels."""
QUALITY = 72
COLUMNS = 480
"""The number of moments at which the waveform is drawn."""
PIECE_S = 60.0
"""The most sound that is decoded at once."""


@dataclass(frozen=True)
class Still:
    """A frame of a filmstrip: its time in seconds of the file, and a JPEG of at most `HEIGHT` by `WIDEST` pixels."""

    time_s: float
    jpeg: bytes

    @property
    def address(self) -> str:
        """The picture as an address that a page can hold."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


@dataclass(frozen=True)
class ClipLook:
    """What there is to see of a clip.

    length_s: None if no file says it. peaks: [COLUMNS], the largest absolute sample of each moment, or None.
    problems: why there are no frames or no waveform.
    """

    length_s: float | None
    stills: tuple[Still, ...]
    peaks: NDArray[np.float32] | None
    problems: tuple[str, ...]


def looking_child() -> Child:
    """A child process in which `look` decodes, so that a clip that crashes it or needs too much costs only itself."""
    return Child(prepare=_prepare, bound=decoder_bound())


def look(child: Child, pictures: Path | None, sound: Path | None) -> ClipLook:
    """Reads the frames of one file and the waveform of another, or of the same; neither raises Unreadable."""
    problems: list[str] = []
    length, peaks, stills = None, None, ()
    media = pictures or sound
    try:
        length = child.call(length_s, media, deadline_s=DEADLINE_S) if media else None
    except Unreadable as why:
        problems.append(str(why))
    try:
        stills = child.call(filmstrip, pictures, deadline_s=DEADLINE_S) if pictures else ()
    except Unreadable as why:
        problems.append(f"no pictures: {why}")
    try:
        peaks = _waveform(child, sound, length) if sound and length else None
    except Unreadable as why:
        problems.append(f"no sound: {why}")
    return ClipLook(length, stills, peaks, tuple(problems))


def filmstrip(path: Path) -> tuple[Still, ...]:
    """At most `FRAMES` frames of a video, the middle ones of equal parts. Raises Unreadable as `media.video` does."""
    timeline = read_timeline(path)
    middles_s = timeline.end_s * (np.arange(FRAMES) + 0.5) / FRAMES
    picked = np.unique(video.shown_at(timeline.time_s, middles_s))
    found = [(index, image) for i in picked.tolist() for index, image in frames(path, timeline, range(i, i + 1), [i])]
    if not found:
        raise Unreadable(Reason.DECODE_ERROR, "no frame decodes")
    return tuple(Still(float(timeline.time_s[index]), jpeg(image)) for index, image in found)


def jpeg(image: Image) -> bytes:
    """A small JPEG of an RGB image [H, W, 3]."""
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, HEIGHT / height, WIDEST / width)
    to = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(np.ascontiguousarray(image[..., ::-1]), to, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _waveform(child: Child, path: Path, length: float) -> NDArray[np.float32]:
    """[COLUMNS], decoded piece by piece; a piece that can't be read is silent. Raises Unreadable if none can be."""
    pieces: list[NDArray[np.float32]] = []
    problem = None
    for start_s, end_s, columns in _pieces(length):
        try:
            pieces.append(child.call(peaks_of, path, start_s, end_s, columns, deadline_s=DEADLINE_S))
        except Unreadable as why:
            problem = why
            pieces.append(np.full(columns, np.nan, np.float32))
    peaks = np.concatenate(pieces)
    if problem and np.isnan(peaks).all():
        raise problem
    return np.nan_to_num(peaks)


def _pieces(length: float) -> Iterator[tuple[float, float, int]]:
    """The start and the end in seconds of pieces of a file, and how many of all columns each has: at least one."""
    most = max(1, int(PIECE_S * COLUMNS / length))
    for first in range(0, COLUMNS, most):
        last = min(first + most, COLUMNS)
        start_s, end_s = first * length / COLUMNS, last * length / COLUMNS
        yield start_s, min(end_s, start_s + PIECE_S), last - first


def peaks_of(path: Path, start_s: float, end_s: float, columns: int) -> NDArray[np.float32]:
    """[columns], the largest absolute sample of each part of a stretch. Raises Unreadable as `media.audio` does."""
    stretch = Audio(path=path.name, start_s=start_s, end_s=end_s)
    [wave] = audio.decode([stretch], path.parent, ["page"])  # type: ignore[list-item]
    return peaks(wave.samples, columns)


def peaks(samples: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """[columns], the largest absolute sample of each of so many parts of samples [N], N >= 1."""
    edges = np.linspace(0, len(samples), columns + 1).astype(int)[:-1]
    edges = np.minimum(edges, len(samples) - 1)
    return np.asarray(np.maximum.reduceat(np.abs(samples), edges), np.float32)


def _prepare() -> None:
    video.prepare()
    bound_this_process()
