"""Judges the audio or the video of one utterance by the facts about its file: which problems its stretch has.

The facts do not depend on an utterance and are remembered by the digest of the file. Problems are judged anew in every
run, so a threshold can change without any file being opened again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Literal

from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio, Utterance, Video

SHORTEST_S = 0.025
"""One analysis window of speech; a shorter stretch gives no acoustic features."""
CUT_S = 0.5
"""How much earlier than its container states a stream may end."""
LATE_S = 0.1
"""How long after the start of the file a stream may start."""
MISMATCH_S = 0.5
"""How much the length of an utterance's own file may differ from the length of its annotation."""
DAMAGED_SHARE = 0.01
"""The share of packets, or of sampled frames, that may fail to decode."""
SILENT_RMS = 1e-4
"""The root mean square, full scale at 1, below which a whole file counts as silence: -80 dB."""
CLIPPED_SHARE = 0.01
"""The share of samples that may be at full scale."""
BLACK_LEVEL = 10.0
"""The level, of 255, that no part of any sampled frame exceeds in a black video."""
FROZEN_LEVELS = 2.0
"""By how many levels, of 255, any part of the sampled frames changes at most in a frozen video. Lossy coding alone
changes a part by about 1."""

Kind = Literal["audio", "video"]


class Notice(StrEnum):
    """A problem that decoders conceal: there are values, but they are worth less than they seem. The gravest first."""

    ALL_SILENT = "all_silent"
    ALL_BLACK = "all_black"
    FROZEN = "frozen"
    ENDS_EARLY = "ends_early"
    DAMAGED = "damaged"
    DURATION_MISMATCH = "duration_mismatch"
    STARTS_LATE = "starts_late"
    CLIPPED = "clipped"


Code = Reason | Notice
GRAVITY: tuple[Code, ...] = (*Reason, *Notice)


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """The facts about a stream. Times are seconds of the file: 0 is the start of its earliest stream.

    start_s, end_s: the start and the end of what decodes. declared_s: the length of the file as its container states
    it, None if it states none. damaged: the share of packets, or of sampled frames, that do not decode.
    """

    codec: str
    start_s: float
    end_s: float
    declared_s: float | None
    damaged: float


@dataclass(frozen=True, kw_only=True)
class AudioFacts(StreamFacts):
    """The facts about an audio stream that was decoded from beginning to end.

    rms: root mean square of all finite samples, full scale at 1. clipped: the share of samples at full scale.
    non_finite: the number of samples that are not finite; they lie between non_finite_from_s and non_finite_to_s.
    refusal: why extraction refuses a stretch that goes on after end_s; empty if it does not refuse.
    """

    rate_hz: int
    channels: int
    rms: float
    clipped: float
    non_finite: int
    non_finite_from_s: float
    non_finite_to_s: float
    refusal: str


@dataclass(frozen=True, kw_only=True)
class VideoFacts(StreamFacts):
    """The facts about a video stream, of which a few frames were sampled.

    frames: the number of frames in the file. brightest: the level, of 255, of the brightest part of any sampled frame.
    change: by how many levels the part changes that changes most; None for a single frame.
    """

    width: int
    height: int
    rate_hz: float | None
    frames: int
    brightest: float
    change: float | None


Examination = AudioFacts | VideoFacts | Unreadable
"""The result of examining a stream: facts, or why there are none."""


@dataclass(frozen=True)
class Problem:
    """One problem, by its code and in words."""

    code: Code
    detail: str


def problems(row: Utterance, source: Audio | Video, examination: Examination, alone: bool) -> list[Problem]:
    """The problems of one utterance's audio or video, the gravest first; empty if it has none.

    examination: that of the file `source.path`. alone: whether no other utterance is cut out of that file.
    """
    if isinstance(examination, Unreadable):
        return [Problem(examination.reason, examination.detail)]
    own = _audio(source, examination) if isinstance(examination, AudioFacts) else _video(source, examination)
    every = [*own, *_times(source, examination), *_mismatch(row, source, examination, alone)]
    return sorted(every, key=lambda problem: GRAVITY.index(problem.code))


def fails(code: Code) -> bool:
    """True if extraction gives no values to a row with this problem."""
    return isinstance(code, Reason)


def _span(source: Audio | Video) -> tuple[float, float]:
    return source.start_s or 0.0, inf if source.end_s is None else source.end_s


def _audio(source: Audio | Video, facts: AudioFacts) -> Iterator[Problem]:
    start_s, end_s = _span(source)
    channel = getattr(source, "channel", None)
    if channel is not None and not 0 <= channel < facts.channels:
        yield Problem(Reason.NO_AUDIO_STREAM, f"no channel {channel}, there are {facts.channels}")
    if facts.refusal and min(end_s, facts.declared_s or inf) > max(start_s, facts.end_s) + CUT_S:
        yield Problem(Reason.DECODE_ERROR, facts.refusal)
    if min(end_s, facts.end_s) - start_s < SHORTEST_S:
        yield Problem(Reason.TOO_SHORT, f"{max(0.0, min(end_s, facts.end_s) - start_s):.3f} s of sound")
    if facts.non_finite and facts.non_finite_from_s < end_s and start_s <= facts.non_finite_to_s:
        yield Problem(Reason.NON_FINITE, f"{facts.non_finite} samples are not finite")
    if facts.rms < SILENT_RMS and not facts.non_finite:
        yield Problem(Notice.ALL_SILENT, f"root mean square {facts.rms:.1e} of full scale")
    if facts.clipped > CLIPPED_SHARE:
        yield Problem(Notice.CLIPPED, f"{facts.clipped:.0%} of the samples are at full scale")


def _video(source: Audio | Video, facts: VideoFacts) -> Iterator[Problem]:
    start_s, end_s = _span(source)
    if start_s >= facts.end_s or end_s <= facts.start_s:
        shown = f"the video lasts from {facts.start_s:.2f} to {facts.end_s:.2f} s"
        yield Problem(Reason.TOO_SHORT, f"nothing from {start_s:.2f} to {end_s:.2f} s, {shown}")
    if facts.brightest < BLACK_LEVEL:
        yield Problem(Notice.ALL_BLACK, f"no part is brighter than {facts.brightest:.0f} of 255")
    elif facts.change is not None and facts.change < FROZEN_LEVELS:
        yield Problem(Notice.FROZEN, f"no part changes by more than {facts.change:.1f} of 255")


def _times(source: Audio | Video, facts: StreamFacts) -> Iterator[Problem]:
    start_s, end_s = _span(source)
    if facts.declared_s is not None and min(end_s, facts.declared_s) > facts.end_s + CUT_S:
        yield Problem(Notice.ENDS_EARLY, f"ends at {facts.end_s:.2f} s of {facts.declared_s:.2f} s")
    if facts.damaged > DAMAGED_SHARE:
        yield Problem(Notice.DAMAGED, f"{facts.damaged:.0%} of what was decoded is damaged")
    if facts.start_s - start_s > LATE_S:
        yield Problem(Notice.STARTS_LATE, f"starts at {facts.start_s:.2f} s")


def _mismatch(row: Utterance, source: Audio | Video, facts: StreamFacts, alone: bool) -> Iterator[Problem]:
    """Compares the length of an utterance's own file with its annotation, if both are known."""
    if not alone or (source.start_s, source.end_s) != (None, None) or row.start_s is None or row.end_s is None:
        return
    file_s, annotated_s = facts.end_s if facts.declared_s is None else facts.declared_s, row.end_s - row.start_s
    if abs(file_s - annotated_s) > MISMATCH_S:
        yield Problem(Notice.DURATION_MISMATCH, f"lasts {file_s:.2f} s, annotated {annotated_s:.2f} s")
