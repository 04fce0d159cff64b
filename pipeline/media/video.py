"""Decodes the video frames of one utterance, the stretches of its files joined, for several visual stages at once.

Frames are chosen by their presentation times, never by counting frames per second; `pipeline.media.video_decoder` says
which decoder reads them, and `pipeline.media.video_frames` what happens to odd and damaged files. A decoder may crash,
so this code runs in a child process (`pipeline.media.child`), which calls `prepare` first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.media.bounds import check_row
from pipeline.media.stretches import naming
from pipeline.media.video_frames import Image, frames
from pipeline.media.video_timeline import Timeline, read_timeline
from pipeline.reason import Reason, Unreadable
from pipeline.remark import Kind, Remark
from pipeline.stage import Frames, Modality, Stage
from pipeline.utterance import Video

VERSION: int = 3
"""Bumped by hand when `decode` may give other images; enters the digest of every video row."""

_SAME_S = 1e-6


class VideoStage(Stage):
    """A stage that reads video: it says which frames it wants, and how small.

    decord is not among the libraries, because it gives the same images as PyAV for every file that it serves.
    """

    modality: ClassVar[Modality] = "visual"
    inputs: ClassVar[tuple[str, ...]] = ("video",)
    libraries: ClassVar[tuple[str, ...]] = ("av", "opencv-python-headless", "torch", "torchvision")
    gpu: ClassVar[bool] = True

    @abstractmethod
    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        """Returns the indices of the frames that the stage wants: at least one, in order, repeats allowed.

        time_s: [P], P >= 1, presentation times from the start of the joined stretches, ascending. duration_s: length of
        the joined stretches, at most to the end of the last frame.
        """

    @abstractmethod
    def shrink(self, image: Image) -> Image:
        """Turns RGB [H, W, 3] of any size into [h, w, 3], always of the same size. Runs in the decoding process."""


def prepare() -> None:
    """Imports what `decode` needs and keeps OpenCV on one thread, in the process that decodes."""
    import av  # noqa: F401
    import cv2

    cv2.setNumThreads(1)


def decode(stretches: Sequence[Video], root: Path, stages: Sequence[VideoStage]) -> list[Frames]:
    """Returns the frames that each stage picks from the stretches, cropped and then shrunk as they come.

    A stretch is [start_s, end_s), and is decoded once for all stages. Times are seconds from the start of the
    container; without bounds the stretch is the whole file. A stretch between two frames gets the frame nearest to its
    centre, with a time inside the stretch. The times of a stretch's frames are shifted by the lengths of those before
    it. The crop is in fractions of the image as it is shown, after rotation. Raises Unreadable, which names the stretch
    if there are several: missing_file; io_error; not_media; no_video_stream; too_short for a stretch that is empty or
    outside the video; too_large for pictures or a row beyond `pipeline.media.bounds`; decode_error if no frame of a
    stretch decodes from which frames were picked.
    """
    films = []
    for index, stretch in enumerate(stretches):
        with naming(stretches, index):
            films.append(_Film.of(stretch, root / stretch.path))
    starts_s = np.cumsum([0.0, *(film.length_s for film in films)])
    time_s = np.concatenate([start_s + film.time_s for start_s, film in zip(starts_s, films, strict=False)])
    duration_s = float(starts_s[-2]) + films[-1].shown_s
    albums = [_Album(stage, stage.pick(time_s, duration_s)) for stage in stages]
    first = 0
    for index, film in enumerate(films):
        with naming(stretches, index):
            film.fill(albums, first)
        first += len(film.frames)
    return [album.frames(time_s) for album in albums]


def shown_at(time_s: NDArray[np.float64], at_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """The index of the frame on screen at each time of `at_s`: the last that has begun, or else the first.

    time_s: presentation times, ascending.
    """
    begun = np.searchsorted(time_s, at_s + _SAME_S, side="right") - 1  # rounding must not decide at a boundary
    return np.maximum(begun, 0).astype(np.int64)


def square(image: Image, size: int) -> Image:
    """Resizes the short side of [H, W, 3] to `size` and cuts out the centre, [size, size, 3], as torchvision does.

    Shrinks by averaging over areas, and enlarges by linear interpolation.
    """
    import cv2

    height, width = image.shape[:2]
    scale = size / min(height, width)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    to = (max(size, round(width * scale)), max(size, round(height * scale)))
    resized = cv2.resize(np.ascontiguousarray(image), to, interpolation=method)
    left, top = (to[0] - size) // 2, (to[1] - size) // 2
    return np.asarray(resized[top : top + size, left : left + size], np.uint8)


class _Album:
    """The frames that one stage picked, filled in as they are decoded.

    damaged: the indices of frames that do not decode, so that others stand in for them.
    """

    def __init__(self, stage: VideoStage, picked: NDArray[np.int64]) -> None:
        self.picked = picked
        self.damaged: list[int] = []
        self._stage = stage
        self._images: Image | None = None

    def add(self, index: int, image: Image) -> None:
        places = np.flatnonzero(self.picked == index)
        if not len(places):
            return
        shrunk = self._stage.shrink(image)
        if self._images is None:
            check_row(len(self.picked) * shrunk.nbytes)
            self._images = np.empty((len(self.picked), *shrunk.shape), np.uint8)
        self._images[places] = shrunk

    def frames(self, time_s: NDArray[np.float64]) -> Frames:
        assert self._images is not None, "a stage picks at least one frame"
        damaged = int(np.isin(self.picked, self.damaged).sum())
        remarks = (Remark(Kind.DAMAGED, damaged, len(self.picked)),) if damaged else ()
        return Frames(self._images, time_s[self.picked], remarks)


@dataclass(frozen=True)
class _Film:
    """The frames of one stretch, not decoded yet.

    frames: their indices in the file. time_s: [P], their times from the start of the stretch. shown_s: how long the
    stretch lasts, at most to the end of the last frame. length_s: how long it is on the joined timeline, which is its
    stated length even if the file ends before it, as it is for sound.
    """

    stretch: Video
    path: Path
    timeline: Timeline
    frames: range
    time_s: NDArray[np.float64]
    shown_s: float
    length_s: float

    @classmethod
    def of(cls, stretch: Video, path: Path) -> _Film:
        """Reads the times of a stretch's frames."""
        timeline = read_timeline(path)
        frames = _frames(stretch, timeline)
        start_s = stretch.start_s or 0.0
        shown_s = min(timeline.end_s, _bounds(stretch)[1]) - start_s
        time_s = (timeline.time_s[frames.start : frames.stop] - start_s).clip(0.0, shown_s)
        length_s = shown_s if stretch.length_s is None else stretch.length_s
        return cls(stretch, path, timeline, frames, time_s, shown_s, length_s)

    def fill(self, albums: Sequence[_Album], first: int) -> None:
        """Decodes the frames that the albums picked here; `first` is the index of the first frame for the albums."""
        picked = np.unique(np.concatenate([album.picked for album in albums])) - first
        wanted = self.frames.start + picked[(picked >= 0) & (picked < len(self.frames))]
        decoded = False
        damaged: set[int] = set()
        for index, image in frames(self.path, self.timeline, self.frames, wanted.tolist(), damaged):
            decoded = True
            cropped = _cropped(image, self.stretch.crop)
            for album in albums:
                album.add(first + index - self.frames.start, cropped)
        if len(wanted) and not decoded:
            raise Unreadable(Reason.DECODE_ERROR, "no frame of the stretch decodes")
        for album in albums:
            album.damaged += [first + index - self.frames.start for index in damaged]


def _bounds(stretch: Video) -> tuple[float, float]:
    start_s = -np.inf if stretch.start_s is None else stretch.start_s
    return start_s, np.inf if stretch.end_s is None else stretch.end_s


def _frames(stretch: Video, timeline: Timeline) -> range:
    """Indices of the frames that begin in [start_s, end_s), or of the frame nearest to its centre."""
    start_s, end_s = _bounds(stretch)
    first, last = np.searchsorted(timeline.time_s, [start_s - _SAME_S, end_s - _SAME_S])
    if first < last and start_s < end_s:
        return range(int(first), int(last))
    if end_s <= start_s or start_s >= timeline.end_s or end_s <= timeline.time_s[0]:
        shown = f"{timeline.time_s[0]:g} to {timeline.end_s:g} s"
        raise Unreadable(Reason.TOO_SHORT, f"nothing from {start_s:g} to {end_s:g} s, the video lasts from {shown}")
    centre_s = (start_s + min(end_s, timeline.end_s)) / 2
    nearest = int(np.abs(timeline.time_s - centre_s).argmin())
    return range(nearest, nearest + 1)


def _cropped(image: Image, crop: tuple[float, float, float, float] | None) -> Image:
    """The cropped part of an image, grown to whole pixels, at least one."""
    if crop is None:
        return image
    height, width = image.shape[:2]
    left, top = min(int(crop[0] * width), width - 1), min(int(crop[1] * height), height - 1)
    right = min(width, max(left + 1, int(np.ceil((crop[0] + crop[2]) * width))))
    bottom = min(height, max(top + 1, int(np.ceil((crop[1] + crop[3]) * height))))
    return image[top:bottom, left:right]
