"""Sound, pictures and doctor agree about every file of the matrix, and what is sound is read as it was made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.media import audio
from pipeline.media.decode import read
from pipeline.media.doctor_file import examine
from pipeline.media.doctor_rules import AudioFacts, Kind, VideoFacts, fails, problems
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Frames, Waveform
from pipeline.utterance import Audio, Utterance, Video
from stages.audio_mfcc import AudioMfcc
from tests.every_frame import EveryFrame
from tests.pipeline.media import media_matrix as matrix

WHOLE = {**matrix.FILMS, **matrix.SOUNDS}
HEARD = {name: made for name, made in WHOLE.items() if made.audio or made.subtype}
DAMAGED = {f"{name}, {damage.__name__}": (name, damage) for damage, names in matrix.DAMAGES.items() for name in names}
EVERY = [*WHOLE, *DAMAGED, *matrix.NO_MEDIA]
AGAIN = {f"{name}, {damage.__name__}" for damage, names in matrix.DAMAGES.items() for name in list(names)[2:]}
"""Damaged files of a kind of damage that two others of the default suite have."""
MOVED = ("aac, zeroed", "ogg vorbis, zeroed")  # nothing in ADTS says when it is, and this Ogg lost its beginning
IN_PLACE = [name for name, (_, damage) in DAMAGED.items() if damage in matrix.IN_PLACE and name not in MOVED]
LATE_S = 0.025
RATE = 16000
ALIKE = 0.2  # noise that was coded for telephones; other noise is alike by 0.05


@dataclass(frozen=True)
class Matrix:
    """The files, each made when it is first asked for."""

    folder: Path

    def file(self, name: str) -> Path:
        """The path of a file."""
        whole, damage = DAMAGED.get(name, (name, None))
        suffix = Path(name).suffix if name in matrix.NO_MEDIA else f".{WHOLE[whole].suffix}"
        path = self.folder / f"{EVERY.index(name)}{suffix}"
        if path.exists():
            return path
        if damage is not None:
            path.write_bytes(damage(self.file(whole).read_bytes()))
        elif name in WHOLE:
            matrix.make(WHOLE[name], path)
        else:
            matrix.NO_MEDIA[name](path)
        return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return Matrix(tmp_path_factory.mktemp("matrix"))


class Numbers(EveryFrame):
    """All frames, each as the number that is burnt into it."""

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.full((1, 1, 3), matrix.number(image), np.uint8)


@cache
def extracted(path: Path, kind: Kind) -> Waveform | Frames | Reason:
    """What extraction of the whole file hands to a stage, or why it hands nothing."""
    source, stage = (Audio(path=path.name), AudioMfcc()) if kind == "audio" else (Video(path=path.name), Numbers())
    try:
        (value,) = read(kind, [source], path.parent, [stage])
    except Unreadable as error:
        return error.reason
    if isinstance(value, Waveform) and len(value.samples) < 0.025 * value.rate_hz:
        return Reason.TOO_SHORT  # for every stage that reads sound
    return value


@cache
def examined(path: Path, kind: Kind) -> AudioFacts | VideoFacts | Reason:
    """The facts that the doctor finds, or the reason why extraction will hand nothing to a stage."""
    source = Audio(path=path.name) if kind == "audio" else Video(path=path.name)
    try:
        facts = examine(kind, path)
    except Unreadable as error:
        return error.reason
    every = problems(Utterance(id="a", dialogue="a", turn=0), [source], [facts], True)
    return next((Reason(problem.code) for problem in every if fails(problem.code)), facts)


@pytest.mark.parametrize("kind", ["audio", "video"])
@pytest.mark.parametrize(
    "name", [*(e for e in EVERY if e not in AGAIN), *(pytest.param(e, marks=pytest.mark.slow) for e in AGAIN)]
)
def test_extraction_and_doctor_give_the_same_reason_and_read_to_the_same_place(
    files: Matrix, name: str, kind: Kind
) -> None:
    path = files.file(name)
    value, facts = extracted(path, kind), examined(path, kind)
    if isinstance(value, Reason) or isinstance(facts, Reason):
        assert value is facts
    elif isinstance(value, Waveform):
        assert len(value.samples) / value.rate_hz == pytest.approx(facts.end_s, abs=0.05)
    else:
        assert isinstance(facts, VideoFacts) and len(value.images) == facts.frames


@pytest.mark.parametrize("name", HEARD)
def test_sound_lies_where_it_was_recorded(files: Matrix, name: str) -> None:
    made = HEARD[name]
    wave, facts = extracted(files.file(name), "audio"), examined(files.file(name), "audio")
    assert isinstance(wave, Waveform) and isinstance(facts, AudioFacts)
    heard, silent_s = audio.resample(wave, RATE), made.late_s + made.delay_s
    recorded = np.pad(matrix.noise(RATE, made.seconds or 0.5), (round(silent_s * RATE), 0))
    assert len(heard) == pytest.approx(len(recorded), abs=0.1 * RATE)
    for begin in range(round(silent_s * RATE), len(recorded) - RATE // 4, RATE // 4):
        assert abs(late_s(heard, recorded, begin)) <= LATE_S, begin / RATE
    level = np.sqrt(np.square(wave.samples[round(made.late_s * wave.rate_hz) :]).mean())
    assert facts.mixed_rms == pytest.approx(level, rel=0.05)


def late_s(heard: NDArray[np.float32], recorded: NDArray[np.float32], begin: int) -> float:
    """How much later than it was recorded a quarter second is heard; infinite if it is not heard."""
    around = 2 * RATE // 5
    part = recorded[begin : begin + RATE // 4]
    near = np.pad(heard, (around, RATE))[begin : begin + RATE // 4 + 2 * around]
    place = int(np.correlate(near, part).argmax())
    alike = np.corrcoef(near[place : place + len(part)], part)[0, 1]
    return (place - around) / RATE if alike > ALIKE else np.inf


@pytest.mark.parametrize("name", matrix.FILMS)
def test_pictures_are_those_that_were_filmed_at_their_times(files: Matrix, name: str) -> None:
    frames = extracted(files.file(name), "video")
    assert isinstance(frames, Frames)
    made = matrix.FILMS[name]
    count = max(1, made.seconds * matrix.FRAME_RATE_HZ)
    assert frames.images[:, 0, 0, 0].tolist() == list(range(count))
    np.testing.assert_allclose(frames.time_s, made.delay_s + np.arange(count) / matrix.FRAME_RATE_HZ, atol=LATE_S)


@pytest.mark.parametrize(
    "name", [n for n, (_, damage) in DAMAGED.items() if damage in matrix.IN_PLACE and n not in MOVED]
)
def test_what_damage_leaves_of_sound_and_pictures_stays_at_its_time(files: Matrix, name: str) -> None:
    made, path = WHOLE[DAMAGED[name][0]], files.file(name)
    wave, frames = extracted(path, "audio"), extracted(path, "video")
    if isinstance(wave, Waveform):
        heard, recorded = audio.resample(wave, RATE), np.pad(matrix.noise(RATE), (round(made.delay_s * RATE), 0))
        begins = range(0, len(heard) - RATE // 4, RATE // 4)
        lateness = np.array([late_s(heard, recorded, begin) for begin in begins])
        assert (np.abs(lateness[np.isfinite(lateness)]) <= LATE_S).all()
        assert np.isfinite(lateness).mean() >= 0.5
    if isinstance(frames, Frames):
        shown = (frames.time_s - made.delay_s) * matrix.FRAME_RATE_HZ
        late = frames.images[:, 0, 0, 0] - shown
        assert np.abs(np.median(late[-20:])) <= 1.1
