"""RAVDESS (Livingstone and Russo, 2018): 24 actors speak two sentences in eight emotions, and sing them in six."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from manifests._actors import clips, folds, named
from pipeline.reader import Download, Fold, Labels, Reader
from pipeline.utterance import Audio, Utterance, Video

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
_AUDIO_VIDEO, _VIDEO_ONLY, _AUDIO_ONLY = "01", "02", "03"
_NAME = re.compile(r"(0[123])-(0[12]-0[1-8]-0[12]-0[12]-0[12]-(?:0[1-9]|1\d|2[0-4]))\.(?:wav|flac|mp4)")
_PARTS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
PARTS = {f"{actor:02}": str(number) for number, actors in enumerate(_PARTS, start=1) for actor in actors}
"""actor -> fold, by Luna-Jiménez et al., Multimodal Emotion Recognition on RAVDESS Dataset, Sensors 2021."""


@dataclass(frozen=True, kw_only=True)
class Ravdess(Reader):
    """Reads the clips of RAVDESS by their names, at any depth: speech and song, audio-only, video-only, or both in one.

    An utterance is what one actor says or sings once. Its id is the name without the first part, which says the
    modality: `01-06-01-02-01-12`. The sound is that of the audio-only file (`03-`), or else of the full clip (`01-`);
    the pictures are those of the full clip, or else of the video-only file (`02-`). If there are several such files, as
    in copies that hold everything twice, the one nearest to the root counts. Each utterance is a dialogue.

    Annotations: `emotion`, `channel` (speech or song), `intensity` (normal or strong), `repetition`.

    Label protocols: `emotion`, the eight of speech; `song`, the six of song; `both`, the eight of speech and song.
    """

    layout: ClassVar[str] = "<anywhere>/<01|02|03>-<channel>-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav"
    obtain: ClassVar[str] = (
        "`affectory fetch` brings the sound of all speech. Song, and pictures (Video_Speech_Actor_01.zip to _24.zip), "
        "are at https://zenodo.org/records/1188976: unpack them into the same folder, at any depth."
    )
    licence: ClassVar[str] = (
        "RAVDESS is under CC BY-NC-SA 4.0: not for commercial use; share features under the same licence."
    )
    labels: ClassVar[Mapping[str, Labels]] = {
        "emotion": named(EMOTIONS, "emotion", "song", channel="speech"),
        "song": named(EMOTIONS[:6], "emotion", "speech", channel="song"),
        "both": named(EMOTIONS, "emotion", "no emotion"),
    }
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "emotion": {"neutral": 96, **dict.fromkeys(EMOTIONS[1:], 192)},
        "song": {"neutral": 92, **dict.fromkeys(EMOTIONS[1:6], 184)},
        "both": {"neutral": 188, **dict.fromkeys(EMOTIONS[1:6], 376), **dict.fromkeys(EMOTIONS[6:], 192)},
    }
    published: ClassVar[Mapping[str, str]] = {
        "emotion": "The 1,440 utterances of speech: 60 of each of 24 actors. The folds of `cv` are those of "
        "Luna-Jiménez et al. 2021, by actor, whose next fold validates here.",
        "song": "The 1,012 utterances of song: 44 of each of 23 actors; actor 18 does not sing.",
        "both": "The 2,452 utterances of speech and song.",
    }

    downloads: ClassVar[Sequence[Download]] = (
        Download(
            url="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
            name="Audio_Speech_Actors_01-24.zip",
            bytes=208_468_073,
            md5="bc696df654c87fed845eb13823edef8a",
            unpacked=1_000_000_000,
        ),
    )

    def scan(self, root: Path) -> list[Utterance]:
        """Every utterance of which there is a file."""
        files: dict[str, dict[str, str]] = {}
        for (modality, name), path in clips(root, [root], _NAME):
            files.setdefault(name, {}).setdefault(modality, path)
        if not files:
            raise self.missing(root)
        return [_utterance(name, files[name]) for name in sorted(files)]

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`cv`: the five folds by actor of Luna-Jiménez et al.; `official`: the first of them, as none is published."""
        return folds(rows, protocol, PARTS)


def _utterance(name: str, files: Mapping[str, str]) -> Utterance:
    channel, emotion, intensity, statement, repetition, actor = name.split("-")
    sound = files.get(_AUDIO_ONLY) or files.get(_AUDIO_VIDEO)
    pictures = files.get(_AUDIO_VIDEO) or files.get(_VIDEO_ONLY)
    return Utterance(
        id=name,
        dialogue=name,
        turn=0,
        speaker=actor,
        text=_STATEMENTS[int(statement) - 1],
        audio=(Audio(path=sound),) if sound else (),
        video=(Video(path=pictures),) if pictures else (),
        labels={
            "emotion": EMOTIONS[int(emotion) - 1],
            "channel": ("speech", "song")[int(channel) - 1],
            "intensity": ("normal", "strong")[int(intensity) - 1],
            "repetition": int(repetition),
        },
    )
