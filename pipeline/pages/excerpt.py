"""What a page shows of an utterance: a few small frames, its waveform, and a short clip, made from its files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.media import audio, video
from pipeline.media.child import DEADLINE_S, Child
from pipeline.media.video_frames import Image
from pipeline.pages.clip_look import Still, jpeg, peaks
from pipeline.reason import Unreadable
from pipeline.utterance import Stretch, Utterance

SECONDS = 15.0
"""The most that is shown of an utterance."""
FRAMES = 4
"""The frames of a filmstrip."""
FRAMES_PER_S = 12
HEIGHT, WIDEST = 180, 320
"""The largest height and width of a clip, in pixels."""
QUALITY = "30"
"""The constant rate factor of H.264: higher is smaller."""
RATE_HZ, BITS_PER_S = 24_000, 40_000
"""The rate of a clip's sound, and its size."""
COLUMNS = 120
"""The number of moments at which the waveform is drawn."""

S = TypeVar("S", bound=Stretch)


@dataclass(frozen=True)
class Excerpt:
    """What there is to see and hear of an utterance.

    peaks: [COLUMNS], the largest absolute sample of each moment; None without sound. clip: an MP4 file, b"" if none was
    asked for or nothing could be read. pictures: whether the clip has any. problems: why there are no frames or no
    sound.
    """

    stills: tuple[Still, ...] = ()
    peaks: NDArray[np.float32] | None = None
    clip: bytes = b""
    pictures: bool = False
    problems: tuple[str, ...] = ()


def excerpt(child: Child, row: Utterance, root: Path, *, playable: bool) -> Excerpt:
    """The first `SECONDS` of an utterance whose files are below `root`, decoded in a child of `looking_child`.

    playable: whether a clip is made too. What can't be read is said in `problems`.
    """
    try:
        made: Excerpt = child.call(_excerpt, row, root, playable, deadline_s=DEADLINE_S)
    except Unreadable as why:
        return Excerpt(problems=(str(why),))
    return made


def _excerpt(row: Utterance, root: Path, playable: bool) -> Excerpt:
    problems: list[str] = []
    stills: tuple[Still, ...] = ()
    images = samples = heights = None
    if row.video:
        try:
            images, time_s = _pictures(list(_beginning(row.video)), root, FRAMES_PER_S if playable else None)
            stills = _filmstrip(images, time_s)
        except Unreadable as why:
            problems.append(f"no pictures: {why}")
    if row.audio:
        try:
            samples = _sound(list(_beginning(row.audio)), root)
            heights = peaks(samples, COLUMNS)
        except Unreadable as why:
            problems.append(f"no sound: {why}")
    clip = _mp4(images, samples) if playable and (images is not None or samples is not None) else b""
    return Excerpt(stills, heights, clip, images is not None, tuple(problems))


def _beginning(stretches: Sequence[S]) -> Iterator[S]:
    """The stretches as far as they are within `SECONDS`; one that does not say its end is the last."""
    left_s = SECONDS
    for stretch in stretches:
        if stretch.length_s is None:
            yield stretch
            return
        yield replace(stretch, end_s=(stretch.start_s or 0.0) + min(stretch.length_s, left_s))
        left_s -= stretch.length_s
        if left_s <= 0:
            return


# --- pictures --------------------------------------------------------------------------------------------------


class _Camera:
    """Asks the decoder, as a visual stage does, for frames of one small size: that of the first one.

    rate: frames in a second, or None for those of a filmstrip alone.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._size: tuple[int, int] | None = None

    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        length_s = min(duration_s, SECONDS)
        count = FRAMES if self._rate is None else max(1, round(length_s * self._rate))
        picked = video.shown_at(time_s, (np.arange(count) + 0.5) * length_s / count)
        return np.unique(picked) if self._rate is None else picked

    def shrink(self, image: Image) -> Image:
        import cv2

        height, width = image.shape[:2]
        if self._size is None:
            scale = min(1.0, HEIGHT / height, WIDEST / width)
            self._size = _even(width * scale), _even(height * scale)
        return np.asarray(cv2.resize(np.ascontiguousarray(image), self._size, interpolation=cv2.INTER_AREA), np.uint8)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _pictures(stretches: Sequence[Any], root: Path, rate: float | None) -> tuple[Image, NDArray[np.float64]]:
    """The frames [T, h, w, 3] and their times [T]."""
    [frames] = video.decode(stretches, root, [_Camera(rate)])  # type: ignore[list-item]
    return frames.images, frames.time_s


def _filmstrip(images: Image, time_s: NDArray[np.float64]) -> tuple[Still, ...]:
    middles = ((np.arange(FRAMES) + 0.5) * len(images) / FRAMES).astype(int)
    return tuple(Still(float(time_s[i]), jpeg(images[i])) for i in np.unique(middles).tolist())


# --- sound -----------------------------------------------------------------------------------------------------


def _sound(stretches: Sequence[Any], root: Path) -> NDArray[np.float32]:
    """[N], mono at `RATE_HZ`."""
    [wave] = audio.decode(stretches, root, ["page"])  # type: ignore[list-item]
    kept = replace(wave, samples=wave.samples[: round(SECONDS * wave.rate_hz)])
    return audio.resample(kept, RATE_HZ)


# --- the clip --------------------------------------------------------------------------------------------------


def _mp4(images: Image | None, samples: NDArray[np.float32] | None) -> bytes:
    """Frames [T, h, w, 3] and sound [N] as H.264 and AAC, which every browser plays."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        film = sound = None
        if images is not None:
            film = container.add_stream("libx264", rate=FRAMES_PER_S, options={"crf": QUALITY, "preset": "fast"})
            film.height, film.width = images.shape[1:3]
            film.pix_fmt = "yuv420p"
        if samples is not None:
            sound = container.add_stream("aac", rate=RATE_HZ, layout="mono", bit_rate=BITS_PER_S)
        if film is not None and images is not None:
            for number, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = number
                container.mux(film.encode(frame))
            container.mux(film.encode())
        if sound is not None and samples is not None:
            heard = av.AudioFrame.from_ndarray(samples.clip(-1, 1)[None], format="fltp", layout="mono")
            heard.sample_rate, heard.pts = RATE_HZ, 0
            container.mux(sound.encode(heard))
            container.mux(sound.encode())
    return buffer.getvalue()
