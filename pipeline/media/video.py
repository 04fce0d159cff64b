"""Decodes the pictures of one utterance for several visual stages at once.

Frames are taken by the list of their presentation times, never by a count of frames a second; see
`pipeline.media.video_frames` for the two decoders and what they do with odd and damaged files. Runs in a child process
(`pipeline.media.child`), since a decoder may crash; `prepare` is for that child.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.media.video_frames import Image, Timeline, frames, read_timeline
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Frames, Modality, Stage
from pipeline.utterance import Video

VERSION: int = 2
"""Bumped by hand when `decode` may give other pictures; enters the digest of every video row."""

_SAME_S = 1e-6


class VideoStage(Stage):
    """A stage that eats pictures: it says which frames it wants and how small it wants them.

    decord is not among the libraries: where it decodes, its pictures are those of PyAV.
    """

    modality: ClassVar[Modality] = "visual"
    inputs: ClassVar[tuple[str, ...]] = ("video",)
    libraries: ClassVar[tuple[str, ...]] = ("av", "opencv-python-headless", "torch", "torchvision")
    gpu: ClassVar[bool] = True

    @abstractmethod
    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        """Indices of the frames it wants, in order, repeats allowed, at least one.

        time_s: [P], P >= 1, presentation times from the start of the stretch, ascending; the first may lie before 0
        where the stretch is shorter than a frame. duration_s: length of the stretch, up to the end of the last frame.
        """

    @abstractmethod
    def shrink(self, image: Image) -> Image:
        """RGB [H, W, 3] of any size to [h, w, 3], always the same h and w. Runs in the decoding process."""


def prepare() -> None:
    """Imports what `decode` needs and keeps OpenCV on one thread, in the process that decodes."""
    import av  # noqa: F401
    import cv2

    cv2.setNumThreads(1)


def decode(source: Video, path: Path, stages: Sequence[VideoStage]) -> list[Frames]:
    """The frames each stage picks from [start_s, end_s), cropped, then shrunk as they come: one decoding for all.

    Times are seconds from the start of the container; without bounds the stretch is the whole file. A stretch between
    two frames gets the one nearest to its centre, with a time inside the stretch. The crop is in fractions of the
    picture as it is shown, after rotation. Raises Unreadable: missing_file, io_error, not_media, no_video_stream,
    too_short for a stretch that is empty or lies outside the pictures, decode_error where nothing in it decodes.
    """
    timeline = read_timeline(path)
    stretch = _stretch(source, timeline)
    start_s = source.start_s or 0.0
    duration_s = min(timeline.end_s, _bounds(source)[1]) - start_s
    time_s = timeline.time_s[stretch.start : stretch.stop] - start_s
    albums = [_Album(stage, stage.pick(time_s, duration_s)) for stage in stages]
    wanted = stretch.start + np.unique(np.concatenate([album.picked for album in albums]))
    for index, image in frames(path, timeline, stretch, wanted.tolist()):
        seen = _cropped(image, source.crop)
        for album in albums:
            album.add(index - stretch.start, seen)
    return [album.frames(time_s.clip(0.0, duration_s)) for album in albums]


def shown_at(time_s: NDArray[np.float64], at_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each moment of `at_s` the frame then on screen: the last that began, or the first of all."""
    begun = np.searchsorted(time_s, at_s + _SAME_S, side="right") - 1  # rounding must not decide at a boundary
    return np.maximum(begun, 0).astype(np.int64)


def square(image: Image, size: int) -> Image:
    """[H, W, 3] to [size, size, 3]: the short side becomes `size`, then the centre is cut out, as in torchvision.

    Averages over areas when it makes smaller, linear between pixels when it makes larger.
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
    """What one stage picked, filled as frames come."""

    def __init__(self, stage: VideoStage, picked: NDArray[np.int64]) -> None:
        self.picked = picked
        self._stage = stage
        self._images: Image | None = None

    def add(self, index: int, image: Image) -> None:
        places = np.flatnonzero(self.picked == index)
        if not len(places):
            return
        shrunk = self._stage.shrink(image)
        if self._images is None:
            self._images = np.empty((len(self.picked), *shrunk.shape), np.uint8)
        self._images[places] = shrunk

    def frames(self, time_s: NDArray[np.float64]) -> Frames:
        if self._images is None:
            raise Unreadable(Reason.DECODE_ERROR, "no frame of the stretch decodes")
        return Frames(self._images, time_s[self.picked])


def _bounds(source: Video) -> tuple[float, float]:
    start_s = -np.inf if source.start_s is None else source.start_s
    return start_s, np.inf if source.end_s is None else source.end_s


def _stretch(source: Video, timeline: Timeline) -> range:
    """Indices of the frames that begin in [start_s, end_s), or of the nearest one."""
    start_s, end_s = _bounds(source)
    first, last = np.searchsorted(timeline.time_s, [start_s - _SAME_S, end_s - _SAME_S])
    if first < last and start_s < end_s:
        return range(int(first), int(last))
    if end_s <= start_s or start_s >= timeline.end_s or end_s <= timeline.time_s[0]:
        known = f"{timeline.time_s[0]:g} to {timeline.end_s:g} s"
        raise Unreadable(Reason.TOO_SHORT, f"nothing from {start_s:g} to {end_s:g} s, the pictures last from {known}")
    centre_s = (start_s + min(end_s, timeline.end_s)) / 2
    nearest = int(np.abs(timeline.time_s - centre_s).argmin())
    return range(nearest, nearest + 1)


def _cropped(image: Image, crop: tuple[float, float, float, float] | None) -> Image:
    """The part of the picture, grown to whole pixels, at least one."""
    if crop is None:
        return image
    height, width = image.shape[:2]
    left, top = min(int(crop[0] * width), width - 1), min(int(crop[1] * height), height - 1)
    right = min(width, max(left + 1, int(np.ceil((crop[0] + crop[2]) * width))))
    bottom = min(height, max(top + 1, int(np.ceil((crop[1] + crop[3]) * height))))
    return image[top:bottom, left:right]
