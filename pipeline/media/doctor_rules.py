"""Judges the audio or the video of one utterance by the facts about its files: which problems its stretches have.

The facts do not depend on an utterance and are remembered by the digest of the file. Problems are judged anew in every
run, so a threshold can change without any file being opened again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Literal

from pipeline.media.audio_stream import CANCELLED_SHARE, CUT_S, SILENT_RMS
from pipeline.media.audio_timeline import mostly_filled
from pipeline.media.bounds import check_row
from pipeline.media.stretches import name
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Stretch, Utterance

SHORTEST_S = 0.025
"""One analysis window of speech; a shorter stretch gives no acoustic features."""
LATE_S = 0.1
"""How long after the start of the file a stream may start."""
MISMATCH_S = 0.5
"""How much the length of an utterance's own file may differ from the length of its annotation."""
DAMAGED_SHARE = 0.01
"""The share of packets, or of sampled frames, that may fail to decode."""
GAP_S = 0.5
"""How long a hole in the sound may be."""
GAP_SHARE = 0.01
"""The share of a stretch that holes may make."""
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
    GAP = "gap"
    CHANNELS_CANCEL = "channels_cancel"
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

    rms: root mean square of all finite samples, full scale at 1. mixed_rms: that of the channels mixed to one, which is
    what stages get. clipped: the share of samples at full scale.
    non_finite: the number of samples that are not finite; they lie between non_finite_from_s and non_finite_to_s.
    refusal: why extraction refuses a stretch that goes on after end_s; empty if it does not refuse.
    gaps: the begin and the end of each hole in the sound, in seconds. stamped:
    whether the file says when what follows damage is.
    """

    rate_hz: int
    channels: int
    rms: float
    mixed_rms: float
    clipped: float
    non_finite: int
    non_finite_from_s: float
    non_finite_to_s: float
    refusal: str
    gaps: list[list[float]]
    stamped: bool


@dataclass(frozen=True, kw_only=True)
class VideoFacts(StreamFacts):
    """The facts about a video stream, of which a few frames were sampled.

    frames: the number of frames in the file. brightest: the level, of 255, of the brightest part of any sampled frame.
    change: by how many levels the part changes that changes most; None for a single frame. decoder: which one serves
    the file in extraction.
    """

    width: int
    height: int
    rate_hz: float | None
    frames: int
    brightest: float
    change: float | None
    decoder: str


Examination = AudioFacts | VideoFacts | Unreadable
"""The result of examining a stream: facts, or why there are none."""


@dataclass(frozen=True)
class Problem:
    """One problem, by its code and in words. stretch: the index of the stretch that has it, 0 if all together do."""

    code: Code
    detail: str
    stretch: int = 0


def problems(
    row: Utterance, stretches: Sequence[Stretch], examinations: Sequence[Examination], alone: bool
) -> list[Problem]:
    """The problems of one utterance's audio or video, the gravest first; empty if it has none.

    examinations: those of the stretches' files. alone: whether no other utterance is cut out of any of these files.
    """
    every = []
    for index, (stretch, examination) in enumerate(zip(stretches, examinations, strict=True)):
        named = name(stretches, index)
        every += [Problem(p.code, f"{named}{p.detail}", index) for p in _of_stretch(stretch, examination)]
    facts = [examination for examination in examinations if not isinstance(examination, Unreadable)]
    if len(facts) == len(stretches):
        short = any(problem.code is Reason.TOO_SHORT for problem in every)
        every += [*([] if short else _too_short(stretches, facts)), *_mismatch(row, stretches, facts, alone)]
    return sorted(every, key=lambda problem: GRAVITY.index(problem.code))


def fails(code: Code) -> bool:
    """True if extraction gives no values to a row with this problem."""
    return isinstance(code, Reason)


def _span(stretch: Stretch) -> tuple[float, float]:
    return stretch.start_s or 0.0, inf if stretch.end_s is None else stretch.end_s


def _of_stretch(stretch: Stretch, examination: Examination) -> list[Problem]:
    if isinstance(examination, Unreadable):
        return [Problem(examination.reason, examination.detail)]
    own = _audio(stretch, examination) if isinstance(examination, AudioFacts) else _video(stretch, examination)
    return [*own, *_times(stretch, examination)]


def _audio(stretch: Stretch, facts: AudioFacts) -> Iterator[Problem]:
    start_s, end_s = _span(stretch)
    channel = getattr(stretch, "channel", None)
    if channel is not None and not 0 <= channel < facts.channels:
        yield Problem(Reason.NO_AUDIO_STREAM, f"no channel {channel}, there are {facts.channels}")
    if facts.refusal and min(end_s, facts.declared_s or inf) > max(start_s, facts.end_s) + CUT_S:
        yield Problem(Reason.DECODE_ERROR, facts.refusal)
    if min(end_s, facts.end_s) - start_s < 0.5 / facts.rate_hz:
        yield Problem(Reason.TOO_SHORT, f"no sound from {start_s:.3f} to {end_s:.3f} s, it ends at {facts.end_s:.3f} s")
    try:
        check_row(int((min(end_s, facts.end_s) - start_s) * facts.rate_hz) * 4)
    except Unreadable as error:
        yield Problem(error.reason, error.detail)
    yield from _gaps(start_s, end_s, facts)
    if 0 < facts.damaged <= DAMAGED_SHARE and not facts.stamped:
        yield Problem(Notice.DAMAGED, "what follows damage may come early: the file does not say when it is")
    if facts.non_finite and facts.non_finite_from_s < end_s and start_s <= facts.non_finite_to_s:
        yield Problem(Reason.NON_FINITE, f"{facts.non_finite} samples are not finite")
    if facts.rms < SILENT_RMS and not facts.non_finite:
        yield Problem(Notice.ALL_SILENT, f"root mean square {facts.rms:.1e} of full scale")
    elif channel is None and facts.mixed_rms < CANCELLED_SHARE * facts.rms:
        levels = f"root mean square {facts.mixed_rms:.1e} mixed, {facts.rms:.1e} in the channels"
        yield Problem(Notice.CHANNELS_CANCEL, f"{levels}: read one of them (audio_channel)")
    if facts.clipped > CLIPPED_SHARE:
        yield Problem(Notice.CLIPPED, f"{facts.clipped:.0%} of the samples are at full scale")


def _gaps(start_s: float, end_s: float, facts: AudioFacts) -> Iterator[Problem]:
    """Judges the silence that extraction fills in between the sounds of a stretch, and before them."""
    last_s = min(end_s, facts.end_s)
    if last_s <= start_s:
        return
    holes = [max(0.0, min(last_s, gap_end_s) - max(start_s, begin_s)) for begin_s, gap_end_s in facts.gaps]
    holes_s, total_s = sum(holes), last_s - start_s
    late_s = max(0.0, min(last_s, facts.start_s) - start_s)
    text = f"no sound in {holes_s + late_s:.2f} of {total_s:.2f} s"
    if mostly_filled(holes_s, late_s, total_s):
        yield Problem(Reason.DECODE_ERROR, f"{text}: a piece of the file is lost, or its clock jumps")
    elif holes_s > GAP_SHARE * total_s or max(holes, default=0.0) > GAP_S:
        yield Problem(Notice.GAP, f"{text}, which are filled with silence")


def _video(stretch: Stretch, facts: VideoFacts) -> Iterator[Problem]:
    start_s, end_s = _span(stretch)
    if start_s >= facts.end_s or end_s <= facts.start_s:
        shown = f"the video lasts from {facts.start_s:.2f} to {facts.end_s:.2f} s"
        yield Problem(Reason.TOO_SHORT, f"nothing from {start_s:.2f} to {end_s:.2f} s, {shown}")
    if facts.brightest < BLACK_LEVEL:
        yield Problem(Notice.ALL_BLACK, f"no part is brighter than {facts.brightest:.0f} of 255")
    elif facts.change is not None and facts.change < FROZEN_LEVELS:
        yield Problem(Notice.FROZEN, f"no part changes by more than {facts.change:.1f} of 255")


def _times(stretch: Stretch, facts: StreamFacts) -> Iterator[Problem]:
    start_s, end_s = _span(stretch)
    if facts.declared_s is not None and min(end_s, facts.declared_s) > facts.end_s + CUT_S:
        yield Problem(Notice.ENDS_EARLY, f"ends at {facts.end_s:.2f} s of {facts.declared_s:.2f} s")
    if facts.damaged > DAMAGED_SHARE:
        yield Problem(Notice.DAMAGED, f"{facts.damaged:.0%} of what was decoded is damaged")
    if facts.start_s - start_s > LATE_S:
        yield Problem(Notice.STARTS_LATE, f"starts at {facts.start_s:.2f} s")


def _too_short(stretches: Sequence[Stretch], facts: Sequence[StreamFacts]) -> Iterator[Problem]:
    """Judges the joined sound: a short stretch of several does no harm, and all but the last are filled to the end."""
    if isinstance(facts[0], AudioFacts):
        lengths = [stretch.length_s for stretch in stretches[:-1]] + [None]
        spans = [(*_span(stretch), each.end_s) for stretch, each in zip(stretches, facts, strict=True)]
        heard = [min(end_s, sound_end_s) - start_s for start_s, end_s, sound_end_s in spans]
        sound_s = sum(s if length_s is None else length_s for s, length_s in zip(heard, lengths, strict=True))
        if sound_s < SHORTEST_S:
            yield Problem(Reason.TOO_SHORT, f"{sound_s:.3f} s of sound")


def _mismatch(
    row: Utterance, stretches: Sequence[Stretch], facts: Sequence[StreamFacts], alone: bool
) -> Iterator[Problem]:
    """Compares the length of an utterance's own files, joined, with its annotation, if both are known."""
    whole = all((stretch.start_s, stretch.end_s) == (None, None) for stretch in stretches)
    if not alone or not whole or row.start_s is None or row.end_s is None:
        return
    files_s = sum(each.end_s if each.declared_s is None else each.declared_s for each in facts)
    annotated_s = row.end_s - row.start_s
    if abs(files_s - annotated_s) > MISMATCH_S:
        yield Problem(Notice.DURATION_MISMATCH, f"lasts {files_s:.2f} s, annotated {annotated_s:.2f} s")
