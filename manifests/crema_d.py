"""CREMA-D (Cao et al., 2014): 91 actors speak twelve sentences in six emotions: 7,442 clips, with raters' votes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from manifests._actors import clips, folds, named
from manifests._cells import Row, check, inside
from manifests._table_file import read as read_table
from pipeline.reader import Fold, Labels, Reader
from pipeline.utterance import Audio, Utterance, Value, Video

EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
_LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
_CLIP = rf"(1\d{{3}})_({'|'.join(SENTENCES)})_({'|'.join(EMOTIONS)})_({'|'.join(_LEVELS)})"
_NAME, _SOUND, _FILM = (re.compile(_CLIP + ending) for ending in ("", r"\.wav", r"\.(?:flv|mp4)"))
_WAV, _FLASH, _VOTES, _LIST = "AudioWAV", "VideoFlash", "processedResults/summaryTable.csv", "SentenceFilenames.csv"
_VOTED = {"VoiceVote": "voice", "FaceVote": "face", "MultiModalVote": "perceived"}
_KNOWN = {
    "1076_MTI_NEU_XX": "the film is very short and has no sound (README of CREMA-D)",
    "1076_MTI_SAD_XX": "no sound, and the film shows an error (README of CREMA-D)",
    "1064_TIE_SAD_XX": "the film has no duration (README of CREMA-D)",
    "1064_IEO_DIS_MD": "the film is a minute long and shows all emotions of this sentence (README of CREMA-D)",
}
_CLASSES = tuple(EMOTIONS.values())


@dataclass(frozen=True, kw_only=True)
class CremaD(Reader):
    """Reads the repository of CREMA-D as it is cloned, in the root or in a folder `CREMA-D` of it.

    Ids are the names of the clips, `1001_IEO_HAP_LO`: actor, sentence, emotion, level. There is a row for each clip in
    `SentenceFilenames.csv`, if the table is there, and for each file. The sound is that of `AudioWAV`, the pictures are
    those of `VideoFlash`; a copy without one of these folders does not have the modality. Each clip is a dialogue.

    Annotations: `emotion`, as it was acted, and its `level`; if the table of votes is there, `voice`, `face` and
    `perceived`, what most raters saw in the sound, in the pictures and in both, none for a tie; `known` faults.

    Label protocols: `emotion` is the acted one; `voice`, `face` and `perceived` are the raters'.
    """

    layout: ClassVar[str] = (
        "AudioWAV/<clip>.wav\nVideoFlash/<clip>.flv\nSentenceFilenames.csv\nprocessedResults/summaryTable.csv"
    )
    obtain: ClassVar[str] = (
        "Install git-lfs and clone https://github.com/CheyneyComputerScience/CREMA-D. Its zip, or a clone without "
        "git-lfs, has pointers in place of clips. Give the folder of the clone."
    )
    licence: ClassVar[str] = (
        "CREMA-D is under the Open Database License 1.0: name it, and share what is made of it alike."
    )
    labels: ClassVar[Mapping[str, Labels]] = {
        "emotion": named(_CLASSES, "emotion", "no emotion"),
        **{name: named(_CLASSES, name, "a tie of the votes, or no votes") for name in _VOTED.values()},
    }
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        name: dict(zip(_CLASSES, counts, strict=True))
        for name, counts in {
            "emotion": (1271, 1271, 1271, 1271, 1087, 1271),
            "voice": (986, 547, 645, 353, 3897, 370),
            "face": (968, 1057, 822, 1266, 2076, 783),
            "perceived": (1019, 1139, 1084, 1219, 1972, 589),
        }.items()
    }
    published: ClassVar[Mapping[str, str]] = {
        "emotion": "All 7,442 clips by the emotion that was acted (Cao et al. 2014). No split is published.",
        "voice": "The 6,798 clips in which most raters of the sound agree, by summaryTable.csv.",
        "face": "The 6,972 clips in which most raters of the pictures agree, by summaryTable.csv.",
        "perceived": "The 7,022 clips in which most raters of sound and pictures agree, by summaryTable.csv.",
    }

    def scan(self, root: Path) -> list[Utterance]:
        """Every clip, whether its files are there or not. Raises one InputError that lists the malformed votes."""
        folder = next((f for f in (root, root / "CREMA-D") if (f / _WAV).is_dir() or (f / _FLASH).is_dir()), None)
        if folder is None:
            raise self.missing(root)
        sounds, films = (_files(root, folder / name, pattern) for name, pattern in ((_WAV, _SOUND), (_FLASH, _FILM)))
        names = sorted({*sounds, *films, *_listed(root, folder / _LIST)})
        if not names:
            raise self.missing(root)
        votes = _votes(root, folder / _VOTES)
        base = PurePosixPath(folder.relative_to(root).as_posix())
        audio = {name: sounds.get(name, str(base / _WAV / f"{name}.wav")) for name in names} if sounds else {}
        video = {name: films.get(name, str(base / _FLASH / f"{name}.flv")) for name in names} if films else {}
        return [_utterance(name, audio.get(name), video.get(name), votes.get(name, {})) for name in names]

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`cv`: five folds by actor, actors 1001, 1006, ... in the first; `official`: the first of them."""
        speakers = {row.speaker or "" for row in rows}
        return folds(rows, protocol, {name: str((int(name) - 1001) % 5 + 1) for name in speakers})


def _files(root: Path, folder: Path, pattern: re.Pattern[str]) -> dict[str, str]:
    """clip -> its file."""
    files: dict[str, str] = {}
    for parts, path in clips(root, [folder], pattern):
        files.setdefault("_".join(parts), path)
    return files


def _rows(root: Path, path: Path) -> list[Row]:
    """The rows of a table whose column of clips is `FileName` or `Filename`; none if it is not there."""
    if not path.is_file() or not inside(root, path.relative_to(root).as_posix()):
        return []
    return [Row(root, f"{path.name}:{line}", row) for line, row in read_table(path)]


def _listed(root: Path, path: Path) -> list[str]:
    return [name for row in _rows(root, path) if _NAME.fullmatch(name := row.text("Filename") or "")]


def _votes(root: Path, path: Path) -> dict[str, dict[str, str]]:
    """clip -> annotation -> the emotion with most votes; none for a tie."""
    rows, letters = _rows(root, path), {emotion[0].upper(): emotion for emotion in _CLASSES}
    votes: dict[str, dict[str, str]] = {}
    for row in rows:
        single = {column: name for column, name in _VOTED.items() if ":" not in (row.text(column) or "")}
        found = {name: row.choice(column, letters) for column, name in single.items()}
        votes[row.text("FileName") or ""] = {name: emotion for name, emotion in found.items() if emotion}
    check(rows)
    return votes


def _utterance(name: str, sound: str | None, film: str | None, votes: Mapping[str, str]) -> Utterance:
    actor, sentence, emotion, level = name.split("_")
    labels: dict[str, Value] = {"emotion": EMOTIONS[emotion], "level": _LEVELS[level], **votes}
    return Utterance(
        id=name,
        dialogue=name,
        turn=0,
        speaker=actor,
        text=SENTENCES[sentence],
        audio=(Audio(path=sound),) if sound else (),
        video=(Video(path=film),) if film else (),
        labels=labels | ({"known": _KNOWN[name]} if name in _KNOWN else {}),
    )
