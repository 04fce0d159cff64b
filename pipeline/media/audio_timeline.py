"""Places the samples of a stream in time: by the time stamps of its frames, and by what follows them.

A stamp alone decides nothing. Browsers write the times at which sound arrived, which jitter by milliseconds, and one
damaged stamp may lie hours away. Frames follow each other as long as their stamps agree within `NEAR_S`. Where one
does not, the frames after it are looked at:

    they agree with what precedes     the stamp jitters; the frame follows the one before
    they are late or early, at once   sound is missing, or comes twice: a hole, or a cut at the start of what follows
    they are late or early, little    the clock of the recorder drifts: a few milliseconds are repeated or left out
    by little                         where the sound is most like itself, with a cross-fade
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.media.bounds import check_row
from pipeline.reason import Reason, Unreadable
from pipeline.remark import Kind, Remark
from pipeline.stage import Waveform

Samples = NDArray[np.float32]

NEAR_S = 0.010
"""How far a stamp may be off: containers round times to a millisecond, and the shortest common packet lasts 20."""
LATE_S = 2.0
"""How much silence before a stream that begins late is taken for sound."""
FILLED_SHARE = 0.5
"""The share of a stretch that may be filled with silence."""

RATES_HZ = (1000, 768_000)
"""The lowest and the highest sampling rate of sound; stages resample, and would make gigabytes of a second at 1 Hz."""

_LOOK_S = 0.5  # of sound, before a stamp that is off is judged
_TOLERATED_S = 0.1  # beyond it, sound that comes late at once is no jitter, however much the stamps jitter
_REMARKED_S = 0.1  # silence before a stream that begins late is usual if it is shorter
_FADE_S = 0.005
_KNOWN = 12  # frames that tell how far the stamps are off


def check_rate(rate_hz: int) -> None:
    """Raises decode_error for a sampling rate that no sound has."""
    lowest, highest = RATES_HZ
    if not lowest <= rate_hz <= highest:
        text = f"the file states a sampling rate of {rate_hz} Hz; {lowest} to {highest} Hz are read"
        raise Unreadable(Reason.DECODE_ERROR, text)


def mostly_filled(holes: float, late: float, total: float, second: float = 1.0) -> bool:
    """True if a stretch would mostly be silence filled in: in holes, and before a stream that begins late."""
    return holes + max(0.0, late - LATE_S * second) > FILLED_SHARE * total


class Placer:
    """Says of each frame where its samples are, by calling `put` with the index of the first and the samples.

    sought: the first frame is one in the middle of the stream.
    """

    def __init__(self, rate_hz: int, put: Callable[[int, Samples], None], sought: bool = False) -> None:
        self.next: int | None = None
        self._put, self._sought = put, sought
        self._near, self._look, self._tolerated, self._fade = (
            round(seconds * rate_hz) for seconds in (NEAR_S, _LOOK_S, _TOLERATED_S, _FADE_S)
        )
        self._origin = 0
        self._late: deque[int] = deque(maxlen=2 * _KNOWN)
        self._waiting: deque[tuple[int | None, Samples]] = deque()
        self._waiting_samples = 0

    def add(self, position: int | None, samples: Samples) -> None:
        """Takes the next frame. position: the index of its first sample by its stamp, None without a stamp."""
        if not self._waiting and self._follows(position):
            self._place(position, samples)
            return
        self._waiting.append((position, samples))
        self._waiting_samples += len(samples)
        self._settle(enough=self._look)

    def finish(self) -> None:
        """Places the frames that were waiting for what follows them. No frame may be added after it."""
        self._settle(enough=0)

    def _follows(self, position: int | None) -> bool:
        return position is None or self.next is None or abs(position - self._origin - self.next) <= self._near

    def _place(self, position: int | None, samples: Samples) -> None:
        """Places samples right after the last ones; the first ones where their stamp says."""
        if self.next is None:
            self.next = position or 0
        elif position is not None:
            self._late.append(position - self._origin - self.next)
        self._put(self.next, samples)
        self.next += len(samples)

    def _settle(self, enough: int) -> None:
        while self._waiting:
            if not self._follows(self._waiting[0][0]):
                if self._waiting_samples < enough:
                    return
                self._judge()
            if self._waiting:
                position, samples = self._waiting.popleft()
                self._waiting_samples -= len(samples)
                self._place(position, samples)

    def _judge(self) -> None:
        """Moves the place of the next samples, or takes out those that wait, unless the first of them jitters."""
        assert self.next is not None
        late = self._lateness()
        low, level, high = (round(float(value)) for value in np.quantile(late, (0.1, 0.5, 0.9)))
        if low <= self._near and high >= -self._near:
            return
        step = level - round(float(np.median(self._late))) if self._late else level
        if abs(step) > max(self._near, high - low) or abs(level) > self._tolerated:
            self.next += late[0] if abs(late[0] - level) <= self._near else level
            self._late.clear()
        elif len(self._late) >= _KNOWN:
            self._follow_drift(level)
        elif self._sought:
            self.next += level
        else:
            self._origin += level

    def _lateness(self) -> list[int]:
        """How much later than right after the last samples the waiting frames are, in samples."""
        assert self.next is not None
        late, after = [], self.next + self._origin
        for position, samples in self._waiting:
            if position is not None:
                late.append(position - after)
            after += len(samples)
        return late

    def _follow_drift(self, level: int) -> None:
        """Places all samples that wait, longer by `level` than they are, or shorter."""
        block = np.concatenate([samples for _, samples in self._waiting])
        self._waiting.clear()
        self._late.clear()
        self._waiting_samples = 0
        self._place(None, spliced(block, level, self._fade))


def spliced(block: Samples, longer: int, fade: int) -> Samples:
    """The samples with `longer` of them repeated, or left out if it is negative, where they differ least."""
    margin = abs(longer)
    places = range(margin, len(block) - margin - fade, max(1, fade // 5))
    if not places:
        return block

    def differing(place: int) -> float:
        difference = block[place : place + fade] - block[place - longer : place - longer + fade]
        return float(difference @ difference)

    place = min(places, key=differing)
    rise = np.linspace(0, 1, fade, dtype=np.float32)
    back = place - longer
    faded = block[place : place + fade] * (1 - rise) + block[back : back + fade] * rise
    return np.concatenate([block[:place], faded, block[back + fade :]])


class Timeline:
    """Collects the samples from `first` to before `last` as frames arrive; samples that no frame covers are zero."""

    def __init__(self, first: int, last: int, rate_hz: int, sought: bool) -> None:
        self.first, self.last, self.rate_hz = first, last, rate_hz
        self._placer = Placer(rate_hz, self._collect, sought)
        self._cursor = first
        self._start: int | None = None
        self._parts: list[tuple[int, Samples]] = []
        self._heard = 0
        self.add = self._placer.add

    @property
    def full(self) -> bool:
        """True if all samples before `last` are here."""
        return self._placer.next is not None and self._placer.next >= self.last

    @property
    def frames(self) -> int:
        """How many frames the samples so far are from."""
        return len(self._parts)

    def _collect(self, position: int, samples: Samples) -> None:
        begin, end = (min(max(index, self._cursor), self.last) for index in (position, position + len(samples)))
        if self._start is None:
            self._start = begin
        if begin < end:
            self._parts.append((begin, samples[begin - position : end - position]))
            self._heard += end - begin
            check_row(self._heard * samples.itemsize)
        self._cursor = end

    def waveform(self, remarks: tuple[Remark, ...] = ()) -> Waveform:
        """All samples so far, with these remarks and one on what was filled in.

        Raises decode_error if too many were. A hole costs no memory before that: only the sound that came is kept.
        """
        self._placer.finish()
        total = self._cursor - self.first
        late = (self.first if self._start is None else self._start) - self.first
        holes = total - self._heard - late
        self._check(total, holes, late)
        if total == self._heard:
            parts = [np.zeros(0, np.float32), *(samples for _, samples in self._parts)]
            return Waveform(np.concatenate(parts), self.rate_hz, remarks)
        check_row(total * np.dtype(np.float32).itemsize)
        whole = np.zeros(total, np.float32)
        for begin, samples in self._parts:
            whole[begin - self.first : begin - self.first + len(samples)] = samples
        return Waveform(whole, self.rate_hz, (*self._remarks(total, holes, late), *remarks))

    def _check(self, total: int, holes: int, late: int) -> None:
        if mostly_filled(holes, late, total, second=self.rate_hz):
            silent_s, total_s = (holes + late) / self.rate_hz, total / self.rate_hz
            text = f"no sound in {silent_s:.2f} of {total_s:.2f} s: a piece of the file is lost, or its clock jumps"
            raise Unreadable(Reason.DECODE_ERROR, text)

    def _remarks(self, total: int, holes: int, late: int) -> tuple[Remark, ...]:
        filled = holes + (late if late > _REMARKED_S * self.rate_hz else 0)
        return (Remark(Kind.GAP_FILLED, filled / self.rate_hz, total / self.rate_hz),) if filled else ()
