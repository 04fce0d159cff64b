"""Examines one media file for the doctor: decodes its audio to the end, or samples frames of its video.

Files are read through FFmpeg. If that fails, or a file ends before it should, the decoders of extraction are asked, so
that a reason given here is the one that extraction would give. A decoder may crash, so this code runs in a child
process (`pipeline.media.child`), which calls `prepare` first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.media import audio, video
from pipeline.media.audio_stream import CUT_S, Stream, mono, planes
from pipeline.media.audio_timeline import Placer, check_rate
from pipeline.media.bounds import bound_this_process
from pipeline.media.container import (
    MICROSECONDS,
    MediaFile,
    audio_stream,
    counts_from_zero,
    media_file,
    video_stream,
)
from pipeline.media.doctor_rules import AudioFacts, Kind, VideoFacts
from pipeline.media.headers import riff_size
from pipeline.media.video_decoder import decoder
from pipeline.media.video_frames import Image, decoded, frames, rgb
from pipeline.media.video_timeline import Timeline, read_timeline
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio

if TYPE_CHECKING:
    from av.container import InputContainer

VERSION: int = 7
"""Bumped by hand when an examination may give another result; what is remembered of older versions is then not used."""
DECODERS = (audio.VERSION, video.VERSION)
"""The versions of extraction's decoders, which an examination may ask for their reasons."""
SAMPLED_FRAMES = 16
"""How many frames of a video are sampled; all of them if it has no more."""

_BLOCKS = 32
_FULL_SCALE = 0.999
_STATES_DURATION = {"mov", "matroska", "avi", "wav", "w64", "aiff", "flac", "ogg", "asf"}
_AUDIO_FORMATS = {"wav", "w64", "aiff", "flac", "ogg"}

Levels = NDArray[np.float64]
"""The mean levels, 0 to 255, of the square parts of an image."""


def prepare() -> None:
    """Imports what an examination needs, in the process that decodes."""
    import av  # noqa: F401
    import soundfile  # noqa: F401

    bound_this_process()


def examine(kind: Kind, path: Path) -> AudioFacts | VideoFacts:
    """Examines the audio or the video of a file, in this process.

    Raises Unreadable with the reason that extraction of the whole file would give: missing_file, io_error, not_media,
    no_audio_stream, no_video_stream, decode_error, too_short.
    """
    return _examine_audio(path) if kind == "audio" else _examine_video(path)


def _declared_s(media: MediaFile, container: InputContainer) -> float | None:
    """The length of the file as it states it; None if FFmpeg guesses it from the bit rate.

    Of a RIFF file that was cut, FFmpeg gives the length of what is left, which is scaled to the size the file states.
    """
    states = container.format.name.partition(",")[0] in _STATES_DURATION
    if not states or not container.duration:
        return None
    before = (container.start_time or 0) if counts_from_zero(container) else 0
    stated = riff_size(media.head)
    growth = 1.0 if stated is None else max(1.0, stated / media.size)
    return (container.duration - before) / MICROSECONDS * growth


# --- audio -----------------------------------------------------------------------------------------------------


def _examine_audio(path: Path) -> AudioFacts:
    """Decodes the audio stream that extraction reads to its end, and keeps none of it."""
    with suppress(Unreadable), media_file(path) as media, media.container() as container:
        if facts := _with_ffmpeg(path, media, container):
            return facts
    audio.decode([Audio(path=path.name)], path.parent, ())
    return _with_libsndfile(path)


def _with_ffmpeg(path: Path, media: MediaFile, container: InputContainer) -> AudioFacts | None:
    """None if no packet gives a sample."""
    stream = audio_stream(container)
    frames, meter = Stream(container, stream, media.is_short_avi), _Meter()
    for position, frame in frames.placed():
        meter.add(planes(frame), [channel.name for channel in frame.layout.channels], position, frame.sample_rate)
    if not meter.samples:
        return None
    meter.finish()
    meter.stamped = frames.stamped
    declared_s = _declared_s(media, container)
    suspect = container.format.name in _AUDIO_FORMATS or (declared_s is not None and declared_s > meter.end_s + CUT_S)
    refusal = _refusal(path, meter.end_s) if suspect else ""
    return meter.facts(stream.codec_context.name, declared_s, frames.damaged / frames.packets, refusal)


def _refusal(path: Path, end_s: float) -> str:
    """Why extraction refuses the last second of the audio; empty if it does not refuse."""
    try:
        audio.decode([Audio(path=path.name, start_s=max(0.0, end_s - 1))], path.parent, ())
    except Unreadable as error:
        return error.detail if error.reason is Reason.DECODE_ERROR else ""
    return ""


def _with_libsndfile(path: Path) -> AudioFacts:
    """Reads what extraction reads although FFmpeg does not."""
    import soundfile

    with path.open("rb", buffering=0) as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
        meter = _Meter()
        for block in sound.blocks(2**16, dtype="float32", always_2d=True):
            meter.add(block.T, (), None, sound.samplerate)
        meter.finish()
        return meter.facts(sound.subtype.lower(), None, 0.0, "")


class _Meter:
    """Measures samples as they are decoded, each at the place where stages get it."""

    def __init__(self) -> None:
        self.samples = self.rate_hz = self.channels = 0
        self.end_s, self.stamped = 0.0, True
        self._placer: Placer | None = None
        self._start_s: float | None = None
        self._gaps: list[list[float]] = []
        self._values = self._clipped = self._non_finite = 0
        self._power = self._mixed_power = 0.0
        self._non_finite_s: tuple[float, float] | None = None

    def add(self, values: NDArray[np.float32], positions: Sequence[str], place: int | None, rate_hz: int) -> None:
        """Adds values [C, N] of channels at `positions`. Raises Unreadable if the sampling rate has changed.

        place: the index of the first sample by its stamp, None without a stamp.
        """
        if self._placer is None:
            check_rate(rate_hz)
            self.rate_hz, self._placer = rate_hz, Placer(rate_hz, self._put)
        if rate_hz != self.rate_hz:
            raise Unreadable(Reason.DECODE_ERROR, "the sampling rate changes")
        self.channels = max(self.channels, len(values))
        self.samples += values.shape[1]
        mixed = np.nan_to_num(mono(values, positions, None), nan=0.0, posinf=0.0, neginf=0.0)
        self._mixed_power += float(np.square(mixed, dtype=np.float64).sum())
        begin_s = self.end_s if place is None else place / rate_hz
        self._placer.add(place, mixed)
        self._measure(values, begin_s)

    def finish(self) -> None:
        """Places what waits for what follows it."""
        if self._placer is not None:
            self._placer.finish()

    def _put(self, place: int, samples: NDArray[np.float32]) -> None:
        begin_s, end_s = place / self.rate_hz, (place + len(samples)) / self.rate_hz
        if self._start_s is None:
            self._start_s = begin_s
        elif begin_s > self.end_s + 0.5 / self.rate_hz:
            self._gaps.append([self.end_s, begin_s])
        self.end_s = max(self.end_s, end_s)

    def _measure(self, values: NDArray[np.float32], begin_s: float) -> None:
        finite = values[np.isfinite(values)]
        self._values += values.size
        self._power += float(np.square(finite, dtype=np.float64).sum())
        self._clipped += int(np.count_nonzero(np.abs(finite) >= _FULL_SCALE))
        if finite.size < values.size:
            self._non_finite += values.size - finite.size
            self._non_finite_s = (self._non_finite_s or (begin_s, 0.0))[0], begin_s + values.shape[1] / self.rate_hz

    def facts(self, codec: str, declared_s: float | None, damaged: float, refusal: str) -> AudioFacts:
        """What was measured, with what the caller knows of the stream."""
        first_s, last_s = self._non_finite_s or (0.0, 0.0)
        return AudioFacts(
            codec=codec,
            start_s=max(0.0, self._start_s or 0.0),
            end_s=self.end_s,
            declared_s=declared_s,
            damaged=damaged,
            rate_hz=self.rate_hz,
            channels=self.channels,
            rms=float(np.sqrt(self._power / max(1, self._values - self._non_finite))),
            mixed_rms=float(np.sqrt(self._mixed_power / max(1, self.samples))),
            clipped=self._clipped / max(1, self._values),
            non_finite=self._non_finite,
            non_finite_from_s=first_s,
            non_finite_to_s=last_s,
            refusal=refusal,
            gaps=self._gaps,
            stamped=self.stamped,
        )


# --- video -----------------------------------------------------------------------------------------------------


def _examine_video(path: Path) -> VideoFacts:
    """Reads every packet of the video and decodes SAMPLED_FRAMES, evenly spaced.

    If none of them decodes, the frames that extraction would put in their place are measured.
    """
    timeline = read_timeline(path)
    count = len(timeline.ticks)
    wanted = sorted({round(index) for index in np.linspace(0, count - 1, SAMPLED_FRAMES)})
    sampled = dict(_sampled(path, timeline, wanted))
    damaged = sum(levels is None for levels in sampled.values()) / len(wanted)
    shown = [levels for levels in sampled.values() if levels is not None]
    shown = shown or [_levels(image) for _, image in frames(path, timeline, range(count), wanted)]
    if not shown:
        raise Unreadable(Reason.DECODE_ERROR, f"none of {len(wanted)} frames decodes")
    return _video_facts(path, timeline, damaged, shown)


def _video_facts(path: Path, timeline: Timeline, damaged: float, shown: list[Levels]) -> VideoFacts:
    with media_file(path) as media, media.container() as container:
        stream = video_stream(container)
        rate = stream.average_rate
        return VideoFacts(
            codec=stream.codec_context.name,
            start_s=float(timeline.time_s[0]),
            end_s=timeline.end_s,
            declared_s=_declared_s(media, container),
            damaged=damaged,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            rate_hz=float(rate) if rate else None,
            frames=len(timeline.ticks),
            brightest=max(float(levels.max()) for levels in shown),
            change=_change(shown),
            decoder=decoder(path, timeline),
        )


def _sampled(path: Path, timeline: Timeline, wanted: list[int]) -> Iterator[tuple[int, Levels | None]]:
    """Yields the wanted frames, None for one that does not decode.

    Frames that depend on the same key frame are decoded together, so that no frame is decoded twice.
    """
    for key, group in groupby(wanted, timeline.key_before):
        indices = list(group)
        for index, frame in decoded(path, timeline, range(key, indices[-1] + 1)):
            if index in indices:
                yield index, None if frame is None else _levels(rgb(frame))


def _levels(image: Image) -> Levels:
    """The mean levels of square parts of an image [H, W, 3]; the short side has about 32 parts."""
    height, width = image.shape[:2]
    side = max(1, min(height, width) // _BLOCKS)
    gray = image[: height // side * side, : width // side * side].mean(axis=2)
    levels: Levels = gray.reshape(height // side, side, width // side, side).mean(axis=(1, 3))
    return levels


def _change(shown: list[Levels]) -> float | None:
    """By how many levels the part changes that changes most; an image of another size has changed altogether."""
    if len(shown) < 2:
        return None
    if len({levels.shape for levels in shown}) > 1:
        return 255.0
    stack = np.stack(shown)
    return float((stack.max(axis=0) - stack.min(axis=0)).max())
