"""CMU-MOSEI (Zadeh et al., 2018): 3,837 videos of one speaker each, cut into sentences with sentiment and six emotions.

It is read from the raw release, CMU_MOSEI.zip, or from the copy that the MMSA project distributes.
"""

from __future__ import annotations

import ast
import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import ClassVar

from manifests import _mmsa
from manifests._cells import Row, check, whole
from manifests._sentiment import (
    PROTOCOLS,
    SEVEN,
    derived,
    files,
    folds,
    lines,
    published,
    release_folders,
    score,
)
from pipeline.errors import InputError
from pipeline.reader import Fold, Labels, Reader
from pipeline.text_file import regular
from pipeline.utterance import Audio, Utterance, Value, Video

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
KNOWN = {"ZZzdvUdOTww": "text and media out of step, CMU-MultimodalSDK#278"}
"""The fault reported of a video, with its source."""

_TEXTS = "Transcript/Segmented/Combined"
_CLIPS, _FILMS, _SOUNDS = "Videos/Segmented/Combined", "Videos/Full/Combined", "Audio/Full/WAV_16000"
_NAMED = {"happy": "happiness", "sad": "sadness"}
_ANSWERS = {name: f"Answer.{_NAMED.get(name, name)}" for name in ("sentiment", *EMOTIONS)}
_VIDEO, _CLIP, _WORKER = "Input.VIDEO_ID", "Input.CLIP", "WorkerId"
# The id of the video ends at the first underscores before a number; it may end in an underscore itself.
_BYTES = re.compile(r"b(['\"]).*\1", re.DOTALL)
_LINE = re.compile(r"([^/\\\0]+?)___(\d{1,9})___([^_]+)___([^_]+)___(.*)", re.ASCII | re.DOTALL)

Clip = tuple[str, int]


def outwards(sentiment: float) -> int:
    """Rounds to -3..3 away from zero, the rule in CMU-MOSEI's own notes: 0.2 becomes 1."""
    return max(-3, min(3, math.ceil(sentiment) if sentiment > 0 else math.floor(sentiment)))


def _emotions(row: Utterance) -> tuple[int, ...] | None:
    values = [row.labels.get(name) for name in EMOTIONS]
    return None if None in values else tuple(int(float(value) > 0) for value in values if value is not None)


@dataclass(frozen=True, kw_only=True)
class Mosei(Reader):
    """Reads the raw release or MMSA's copy, in the root or in a folder of it named after the corpus (MOSEI, CMU_MOSEI).

    The root is searched first, then these folders by name; in each, the raw release comes before the copy. The dialogue
    is the video and `turn` the clip. Ids are `<video>_<clip>`, with clips from 0, and in MMSA's copy with the clip's
    leading zeros.

    In the raw release, the transcripts define the clips, and ratings of others are ignored. Sound is cut out of the
    whole video's wav by the times of the transcript; pictures are read from the clip's own file, or if there is none,
    cut out of the whole video by the same times. Times before 0 count as 0; a clip without length is kept, and its
    extraction fails as too short. Ratings are means over workers; of several ratings of a clip by one worker, the first
    counts (files by name, then lines). The .csd of the CMU-MultimodalSDK is not read.

    Annotations: `sentiment` (-3 to 3); in the raw release also `happy`, `sad`, `anger`, `surprise`, `disgust`, `fear`
    (0 to 3), `raters` (their number) and, for some videos, `known` (a reported fault); in MMSA's copy `annotation`
    (Negative, Neutral, Positive) and, if filled in, `label_T`, `label_A`, `label_V`.

    Label protocols: `sentiment` is the number, to regress; `sentiment2` is below or above zero, without zeros;
    `sentiment2_nonneg` is below zero or not; `sentiment7` is the number rounded to -3..3, halves to the even neighbour
    as numpy rounds, and `sentiment7_sdk` away from zero as the corpus's own notes say; `emotions` are those above 0.
    """

    layout: ClassVar[str] = (
        "the raw release:\n"
        "Raw/Transcript/Segmented/Combined/<video>.txt\n"
        "Raw/Audio/Full/WAV_16000/<video>.wav\n"
        "Raw/Videos/Segmented/Combined/<video>_<n>.mp4\n"
        "Raw/Videos/Full/Combined/<video>.mp4\n"
        "Raw/Labels/*.csv\n"
        f"or MMSA's copy:\n{_mmsa.LAYOUT}"
    )
    obtain: ClassVar[str] = (
        "The copy is linked from https://github.com/thuiar/MMSA. The raw release, CMU_MOSEI.zip, was at "
        "http://immortal.multicomp.cs.cmu.edu/raw_datasets/, which no longer answers. "
        "Give the folder that holds either, or one above it."
    )
    labels: ClassVar[Mapping[str, Labels]] = {
        **PROTOCOLS,
        "sentiment7_sdk": derived(SEVEN, outwards),
        "emotions": Labels("multilabel", EMOTIONS, _emotions, lambda row: "not rated for all six emotions"),
    }
    licence: ClassVar[str] = (
        "CMU-MOSEI is for research; its videos belong to the people in them: share transcripts and features with care."
    )
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = dict.fromkeys(
        ("sentiment", "sentiment2_nonneg", "sentiment7", "sentiment7_sdk"),
        {"train": 16326, "valid": 1871, "test": 4659},
    )
    published: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            (*expected, "emotions"),
            "22,856 clips, 16,326 to train, 1,871 to validate and 4,659 to test: the folds of the CMU-MultimodalSDK as "
            "MMSA and its followers have them.",
        ),
        "sentiment2": "The same clips without those of sentiment 0, as papers since 2019 score Acc-2 and F1.",
    }

    encoding: str = "utf-8"

    def scan(self, root: Path) -> list[Utterance]:
        """Every clip, whether its media are there or not.

        Raises one InputError that lists the malformed lines of all files.
        """
        for folder in release_folders(root, "mosei"):
            for base in (folder / "Raw", folder):
                if transcripts := files(root, base / _TEXTS, ".txt"):
                    return self._raw(root, base, transcripts)
            if _mmsa.is_at(root, folder):
                return _mmsa.scan(root, folder, published("mosei"), self.encoding)
        raise self.missing(root)

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`official`: the published 2,249, 300 and 678 videos. `cv`: five folds by video, over all videos.

        A video that is not among the published ones has MMSA's part, or none. Raises InputError if a part of the
        official split has no row.
        """
        return folds(rows, protocol)

    def _raw(self, root: Path, base: PurePosixPath, transcripts: Sequence[PurePosixPath]) -> list[Utterance]:
        tables = files(root, base / "Labels", ".csv")
        if not tables:
            raise InputError(f"no {root / base}/Labels/*.csv: they hold what each worker answered. {self.obtain}")
        text_rows = [_text_row(root, *line) for path in transcripts for line in lines(root, path, self.encoding)]
        answers = [row for path in tables for row in _answers(root, path)]
        ratings = _ratings(answers)
        clips = _names(root / base / _CLIPS)
        utterances = [_utterance(row, base, clips, ratings) for row in text_rows]
        check([*text_rows, *answers])
        return utterances


def _text_row(root: Path, place: str, line: str) -> Row:
    """A line of a transcript, `video___clip___start___end___text`; the text may have underscores of its own.

    Some copies hold the text as Python prints bytes, `b'so good'`, which is read as the text that it stands for.
    """
    match = _LINE.fullmatch(line)
    names = ("video", "clip", "start", "end", "text")
    row = Row(root, place, dict(zip(names, (cell.strip() for cell in match.groups()), strict=True)) if match else {})
    if not match:
        row.wrong(f"not video___clip___start___end___text: {line!r}")
    elif _BYTES.fullmatch(text := row.cells["text"]):
        return Row(root, place, {**row.cells, "text": _printed(text)})
    return row


def _printed(text: str) -> str:
    """The text of bytes in the form in which Python prints them; as it is if it is no such form."""
    try:
        return str(ast.literal_eval(text).decode())
    except (ValueError, SyntaxError):
        return text


def _names(folder: Path) -> set[str]:
    """The names in a folder; none if it cannot be read."""
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()


def _utterance(
    row: Row, base: PurePosixPath, clips: set[str], ratings: Mapping[Clip, Mapping[str, Value]]
) -> Utterance:
    video, clip = row.cells.get("video", ""), int(row.cells.get("clip", 0))
    name = f"{video}_{clip}"
    start_s, end_s = _times(row)
    film = Video(path=str(base / _FILMS / f"{video}.mp4"), start_s=start_s, end_s=end_s)
    known = {"known": KNOWN[video]} if video in KNOWN else {}
    return Utterance(
        id=name,
        dialogue=video,
        turn=clip,
        text=row.text("text"),
        audio=(Audio(path=str(base / _SOUNDS / f"{video}.wav"), start_s=start_s, end_s=end_s),),
        video=(Video(path=str(base / _CLIPS / f"{name}.mp4")) if f"{name}.mp4" in clips else film,),
        start_s=start_s,
        end_s=end_s,
        split=published("mosei").get(video),
        labels={**ratings.get((video, clip), {}), **known},
    )


def _times(row: Row) -> tuple[float, float]:
    start_s, end_s = ((row.number(name) if row.cells else 0.0) for name in ("start", "end"))
    if start_s is None or end_s is None:
        if not row.errors:
            row.wrong("no start or no end")
        return 0.0, 0.0
    if end_s < start_s:
        row.wrong(f"ends at {end_s:g} s, before its start at {start_s:g} s")
    return max(0.0, start_s), max(0.0, end_s)


def _answers(root: Path, path: PurePosixPath) -> Iterator[Row]:
    """The rows of a table of workers' answers, which may be shorter than its header. Raises InputError if it is damaged
    or lacks a column."""
    raw = regular(root / path).read_bytes()
    text = raw.decode("utf-8-sig", errors="replace")  # what is not UTF-8 there is not read
    table = csv.DictReader(io.StringIO(text, newline=""), restval="")
    try:
        wanted = (_VIDEO, _CLIP, _WORKER, *_ANSWERS.values())
        if absent := [name for name in wanted if name not in (table.fieldnames or ())]:
            raise InputError("\n".join(f"{path}:1: no column {name!r}" for name in absent))
        for cells in table:
            yield Row(root, f"{path}:{table.line_num}", {name: cells[name] for name in wanted})
    except csv.Error as error:
        raise InputError(f"{path} can't be read: {error}") from error


def _ratings(answers: Iterable[Row]) -> dict[Clip, dict[str, Value]]:
    """Means over workers, by clip; a worker without an answer does not count in the mean of this answer."""
    clips: dict[Clip, dict[str, dict[str, float | None]]] = defaultdict(dict)
    for row in answers:
        video, worker = row.cells[_VIDEO].strip().rpartition("/")[2], row.cells[_WORKER].strip() or row.place
        scores = {name: score(row, column, _lowest(name)) for name, column in _ANSWERS.items()}
        clips[video, whole(row, _CLIP)].setdefault(worker, scores)
    return {clip: _means(list(workers.values())) for clip, workers in clips.items()}


def _lowest(name: str) -> float:
    return -3.0 if name == "sentiment" else 0.0


def _means(workers: Sequence[Mapping[str, float | None]]) -> dict[str, Value]:
    given = {name: [value for scores in workers if (value := scores[name]) is not None] for name in _ANSWERS}
    return {**{name: fmean(values) for name, values in given.items() if values}, "raters": len(workers)}
