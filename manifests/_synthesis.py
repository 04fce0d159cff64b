"""Writes the sound and the pictures of the synthetic corpus, in the layout and formats of IEMOCAP."""

from __future__ import annotations

import csv
import logging
import multiprocessing
import os
import wave
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from manifests import _face as face
from manifests import _speech as speech
from manifests._quota import MODALITIES, SESSIONS, generator
from manifests._script import Dialogue, Line, evaluation, script, transcription

FRAME_HZ = 25
WIDTH, HEIGHT = 2 * face.WIDTH, 2 * face.HEIGHT

_ONSET_S = 0.15
_DIALOGUES_WORTH_A_POOL = 15
_PROCESSES = 8
_SKINS = ((224, 185, 156), (216, 173, 139), (205, 161, 126), (192, 147, 113), (180, 136, 104))
_HAIRS = ((62, 45, 36), (90, 59, 41), (118, 82, 51), (78, 52, 38), (102, 64, 44))
_SHIRTS = ((75, 92, 122), (80, 108, 98), (110, 88, 112), (100, 102, 82), (85, 88, 98))

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Actor:
    """An actor, with a voice and a face of their own."""

    voice: speech.Voice
    looks: face.Looks


def write_corpus(root: Path, per_cell: int, seed: int) -> None:
    """Writes the whole corpus, 30 x `per_cell` utterances, into the folder `root`; depends on the arguments alone."""
    dialogues = script(per_cell, seed)
    write = partial(write_dialogue, root, seed)
    processes = min(os.cpu_count() or 1, _PROCESSES)
    if processes == 1 or len(dialogues) < _DIALOGUES_WORTH_A_POOL:
        _finish(map(write, dialogues), len(dialogues))
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, spawn, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            _finish(pool.map(write, dialogues), len(dialogues))
    _write_cues(root / "Documentation" / "cues.csv", dialogues)


def write_dialogue(root: Path, seed: int, dialogue: Dialogue) -> str:
    """Writes the files of one dialogue and returns its id."""
    actors = cast(seed)
    sounds = {line.id: _say(line, actors[line.actor], seed) for line in dialogue.lines}
    session = root / f"Session{dialogue.session}"
    _write_text(session / "dialog/EmoEvaluation" / f"{dialogue.id}.txt", evaluation(dialogue, seed))
    _write_text(session / "dialog/transcriptions" / f"{dialogue.id}.txt", transcription(dialogue))
    for name, sound in sounds.items():
        _write_wav(session / "sentences/wav" / dialogue.id / f"{name}.wav", sound)
    _write_avi(session / "dialog/avi/DivX" / f"{dialogue.id}.avi", dialogue, actors, sounds)
    return dialogue.id


@cache
def cast(seed: int) -> Mapping[str, Actor]:
    """The ten actors by name. No two actors of one session, nor of one sex, look or sound alike."""
    rng = generator(seed, "cast")
    names = [(f"Ses{session:02d}_{sex}", sex) for sex in "FM" for session in SESSIONS]
    orders = [np.concatenate([rng.permutation(5), rng.permutation(5)]) for _ in range(5)]
    return {name: _actor(sex, *(int(order[i]) for order in orders)) for i, (name, sex) in enumerate(names)}


def _actor(sex: str, skin: int, hair: int, shirt: int, build: int, pitch: int) -> Actor:
    woman = sex == "F"
    f0 = (185.0 if woman else 95.0) * 1.06**pitch
    looks = face.Looks(
        skin=_SKINS[skin],
        hair=_HAIRS[hair],
        shirt=_SHIRTS[shirt],
        wide=0.96 + 0.02 * build,
        tall=1.03 - 0.015 * build,
        long_hair=woman,
    )
    return Actor(voice=speech.Voice(f0_hz=f0, formants=(1.15 if woman else 0.98) + 0.015 * build), looks=looks)


def _finish(written: Iterator[str], total: int) -> None:
    for number, name in enumerate(written, start=1):
        log.info("synthetic dialogue %s, %d of %d", name, number, total)


def _say(line: Line, actor: Actor, seed: int) -> NDArray[np.int16]:
    samples = round((line.end_s - line.start_s) * speech.RATE_HZ)
    return speech.speak(line.cue.shown["audio"], actor.voice, samples, seed, line.id)


def _write_cues(file: Path, dialogues: Sequence[Dialogue]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["utterance", *MODALITIES])
        for line in (line for dialogue in dialogues for line in dialogue.lines):
            writer.writerow([line.id, *(line.cue.shown[m] for m in MODALITIES)])


def _write_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _write_wav(file: Path, sound: NDArray[np.int16]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(speech.RATE_HZ)
        stream.writeframes(sound.astype("<i2").tobytes())


def _write_avi(
    file: Path, dialogue: Dialogue, actors: Mapping[str, Actor], sounds: Mapping[str, NDArray[np.int16]]
) -> None:
    """Writes MPEG-4 video and 16 kHz sound. The flags keep the date and the encoder's version out of the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    count = round(dialogue.length_s * FRAME_HZ)
    track = _mix(dialogue, sounds, count * speech.RATE_HZ // FRAME_HZ)
    with av.open(str(file), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        picture = container.add_stream("mpeg4", rate=FRAME_HZ, options={"flags": "+bitexact", "threads": "1"})
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture.bit_rate, picture.gop_size, picture.max_b_frames = 1_500_000, FRAME_HZ, 0
        sound = container.add_stream("pcm_s16le", rate=speech.RATE_HZ, layout="mono", options={"flags": "+bitexact"})
        samples = speech.RATE_HZ // FRAME_HZ
        for i, image in enumerate(_frames(dialogue, actors, count)):
            video = av.VideoFrame.from_ndarray(image, format="rgb24")
            video.pts, video.time_base = i, Fraction(1, FRAME_HZ)
            container.mux(picture.encode(video))
            audio = av.AudioFrame.from_ndarray(track[None, i * samples : (i + 1) * samples], "s16", "mono")
            audio.sample_rate, audio.pts, audio.time_base = speech.RATE_HZ, i * samples, Fraction(1, speech.RATE_HZ)
            container.mux(sound.encode(audio))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))


def _mix(dialogue: Dialogue, sounds: Mapping[str, NDArray[np.int16]], samples: int) -> NDArray[np.int16]:
    track = np.zeros(samples, np.int16)
    for line in dialogue.lines:
        first = round(line.start_s * speech.RATE_HZ)
        track[first : first + len(sounds[line.id])] = sounds[line.id]
    return track


def _frames(dialogue: Dialogue, actors: Mapping[str, Actor], count: int) -> Iterator[face.Image]:
    """Letterboxed pictures [HEIGHT, WIDTH, RGB], with both actors side by side in the middle half."""
    resting = {name: face.draw(actors[name].looks, face.REST, 0.0, 0.0) for name in dialogue.actors}
    for i in range(count):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for place, name in enumerate(dialogue.actors):
            line = _speaking(dialogue, name, i / FRAME_HZ)
            half = resting[name] if line is None else _speaker(line, actors[name], i / FRAME_HZ)
            image[HEIGHT // 4 : HEIGHT * 3 // 4, place * face.WIDTH : (place + 1) * face.WIDTH] = half
        yield image


def _speaking(dialogue: Dialogue, actor: str, time_s: float) -> Line | None:
    """The actor's line at a time, or just before or after it, when the face moves from and to rest."""
    near = (u for u in dialogue.lines if u.start_s - _ONSET_S < time_s < u.end_s + _ONSET_S)
    return next((line for line in near if line.actor == actor), None)


def _speaker(line: Line, actor: Actor, time_s: float) -> face.Image:
    """The speaker's face. The mouth opens at a fixed rate, so that the picture does not show the cue of the sound."""
    away = max(line.start_s - time_s, time_s - line.end_s, 0.0)
    shown = face.blend(1 - away / _ONSET_S, face.EXPRESSIONS[line.cue.shown["visual"]])
    talk = abs(np.sin(np.pi * face.TALK_HZ * (time_s - line.start_s))) if away == 0 else 0.0
    return face.draw(actor.looks, shown, time_s, float(talk))
