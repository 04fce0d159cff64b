"""What the doctor says of one utterance's sound or pictures: what decoding found in the file, judged for its stretch.

Facts about a file do not depend on an utterance and are remembered by the file's digest; everything judged here is
made anew from them, so a threshold can move without a file being opened again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio, Utterance, Video

SHORTEST_S = 0.025
"""One analysis window of speech: no acoustic features come from less."""
LACK_S = 0.5
"""How much earlier than the container says a stream may end."""
LATE_S = 0.1
"""How long after the start of the file a stream may start."""
MISMATCH_S = 0.5
"""How far the length of an utterance's own file may be from that of its annotation."""
DAMAGED_SHARE = 0.01
"""The share of packets, or of frames looked at, that may fail to decode."""
SILENT_RMS = 1e-4
"""Root mean square, full scale at 1, below which a whole file counts as silence: -80 dB."""
CLIPPED_SHARE = 0.01
"""The share of samples that may lie at full scale."""
BLACK_LEVEL = 10.0
"""Of 255: no part of any picture looked at is brighter in a black film."""
FROZEN_LEVELS = 2.0
"""Of 255: no part of the pictures looked at changes by more in a frozen film; lossy coding alone changes about 1."""


class Notice(StrEnum):
    """What decoders hide: values come out, and are worth less than they seem. The gravest first."""

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
class Stream:
    """What decoding a stream found. Times are seconds of the file: 0 is where its earliest stream starts.

    start_s, end_s: when what decodes begins and ends. declared_s: how long the container says the file is, None where
    it does not say. damaged: the share of packets, or of frames looked at, that do not decode.
    """

    codec: str
    start_s: float
    end_s: float
    declared_s: float | None
    damaged: float


@dataclass(frozen=True, kw_only=True)
class Sound(Stream):
    """A sound track, heard from end to end.

    rms: of all finite samples, full scale at 1. clipped: the share of samples at full scale. poisoned: samples that
    are not finite, which lie between poisoned_from_s and poisoned_to_s. cut: why extraction refuses a stretch that
    goes on after end_s, empty where it does not.
    """

    rate_hz: int
    channels: int
    rms: float
    clipped: float
    poisoned: int
    poisoned_from_s: float
    poisoned_to_s: float
    cut: str


@dataclass(frozen=True, kw_only=True)
class Pictures(Stream):
    """The pictures of a film, of which a few were looked at.

    frames: in the file. brightest: the level, of 255, of the brightest part of any picture. moved: by how many levels
    the part that changes most does, None for a single picture.
    """

    width: int
    height: int
    rate_hz: float | None
    frames: int
    brightest: float
    moved: float | None


Found = Sound | Pictures | Unreadable
"""What examining a stream gave: facts, or why there are none."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and in words."""

    code: Code
    detail: str


def problems(row: Utterance, source: Audio | Video, found: Found, alone: bool) -> list[Problem]:
    """What is wrong with one utterance's sound or pictures, the gravest first; nothing for a sound one.

    found: what the examination of `source.path` gave. alone: no other utterance is cut out of that file.
    """
    if isinstance(found, Unreadable):
        return [Problem(found.reason, found.detail)]
    own = _sound(source, found) if isinstance(found, Sound) else _pictures(source, found)
    known = [*own, *_times(source, found), *_mismatch(row, source, found, alone)]
    return sorted(known, key=lambda problem: GRAVITY.index(problem.code))


def fails(code: Code) -> bool:
    """True where extraction gives such a row no values."""
    return isinstance(code, Reason)


def _span(source: Audio | Video) -> tuple[float, float]:
    return source.start_s or 0.0, inf if source.end_s is None else source.end_s


def _sound(source: Audio | Video, sound: Sound) -> Iterator[Problem]:
    start_s, end_s = _span(source)
    channel = getattr(source, "channel", None)
    if channel is not None and not 0 <= channel < sound.channels:
        yield Problem(Reason.NO_AUDIO_STREAM, f"no channel {channel}, there are {sound.channels}")
    if sound.cut and min(end_s, sound.declared_s or inf) > max(start_s, sound.end_s) + LACK_S:
        yield Problem(Reason.DECODE_ERROR, sound.cut)
    if min(end_s, sound.end_s) - start_s < SHORTEST_S:
        yield Problem(Reason.TOO_SHORT, f"{max(0.0, min(end_s, sound.end_s) - start_s):.3f} s of sound")
    if sound.poisoned and sound.poisoned_from_s < end_s and start_s <= sound.poisoned_to_s:
        yield Problem(Reason.NON_FINITE, f"{sound.poisoned} samples are not finite")
    if sound.rms < SILENT_RMS and not sound.poisoned:
        yield Problem(Notice.ALL_SILENT, f"root mean square {sound.rms:.1e} of full scale")
    if sound.clipped > CLIPPED_SHARE:
        yield Problem(Notice.CLIPPED, f"{sound.clipped:.0%} of the samples lie at full scale")


def _pictures(source: Audio | Video, film: Pictures) -> Iterator[Problem]:
    start_s, end_s = _span(source)
    if start_s >= film.end_s or end_s <= film.start_s:
        known = f"the pictures last from {film.start_s:.2f} to {film.end_s:.2f} s"
        yield Problem(Reason.TOO_SHORT, f"nothing from {start_s:.2f} to {end_s:.2f} s, {known}")
    if film.brightest < BLACK_LEVEL:
        yield Problem(Notice.ALL_BLACK, f"no part is brighter than {film.brightest:.0f} of 255")
    elif film.moved is not None and film.moved < FROZEN_LEVELS:
        yield Problem(Notice.FROZEN, f"no part changes by more than {film.moved:.1f} of 255")


def _times(source: Audio | Video, found: Stream) -> Iterator[Problem]:
    start_s, end_s = _span(source)
    if found.declared_s is not None and min(end_s, found.declared_s) > found.end_s + LACK_S:
        yield Problem(Notice.ENDS_EARLY, f"ends at {found.end_s:.2f} s of {found.declared_s:.2f} s")
    if found.damaged > DAMAGED_SHARE:
        yield Problem(Notice.DAMAGED, f"{found.damaged:.0%} of what was decoded is damaged")
    if found.start_s - start_s > LATE_S:
        yield Problem(Notice.STARTS_LATE, f"starts at {found.start_s:.2f} s")


def _mismatch(row: Utterance, source: Audio | Video, found: Stream, alone: bool) -> Iterator[Problem]:
    if not alone or (source.start_s, source.end_s) != (None, None) or row.start_s is None or row.end_s is None:
        return
    lasts_s, said_s = found.end_s if found.declared_s is None else found.declared_s, row.end_s - row.start_s
    if abs(lasts_s - said_s) > MISMATCH_S:
        yield Problem(Notice.DURATION_MISMATCH, f"lasts {lasts_s:.2f} s, annotated {said_s:.2f} s")
