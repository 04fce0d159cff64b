"""MELD-FAIR (Carneiro et al., 2023, doi 10.1016/j.neucom.2023.126271): where in MELD's clips each utterance really is.

Its CSV files are found by their names at any depth. `MELD_video_realignment_timestamps.csv` has a line for each stretch
of a clip, in order; `MELD_active_speaker_face_bboxes.csv` has a line for each frame of the joined stretches in which
the speaker's face was found. Both number the utterances of a dialogue by their start, and
`realigned_<part>_sent_emo.csv` say which number each has in MELD.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from manifests._cells import Row, check, whole
from manifests._meld import FACES, FAIR_TABLES, TIMES, Listing, read
from pipeline.errors import InputError

_ID = ("Split", "Dialogue ID", "Utterance ID")
_TIMES_COLUMNS = (*_ID, "Original Dialogue ID", "Original Utterance ID", "Start Time", "End Time")
_TABLE_COLUMNS = ("Dialogue_ID", "Original Utterance_ID", "Utterance_ID")
_BOX = ("X Left", "Y Top", "X Right", "Y Bottom")
_FACES_COLUMNS = {"Split": pa.string(), **dict.fromkeys((*_ID[1:], "Frame Number"), pa.int32())}
_FACES_COLUMNS |= dict.fromkeys(_BOX, pa.float64())

# Pixels and frames per second of MELD's clips; those of eight dialogues differ.
_SIZE, _RATE_HZ = (1280, 720), 24000 / 1001
_SMALL, _SMALL_RATE_HZ = (496, 384), 25.0
_SMALL_DIALOGUES = {("train", n) for n in (128, 203, 383, 517, 710, 967)} | {("dev", 88), ("test", 184)}

_SAME_FACE = 9 / 23
"""How much of two boxes, as intersection over union, is common if they show one face in one shot: FAIR's own bound."""
_SHORTEST_SHOT = 6
"""In how many frames a face must be found for a shot of its own, a quarter of a second."""

Crop = tuple[float, float, float, float]
Name = tuple[str, int, int]
"""Part, dialogue and utterance. The utterance has MELD's number, or FAIR's where this is said."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a clip: the name of its file, times in seconds of it, and the crop as fractions of the picture."""

    file: str
    start_s: float
    end_s: float
    crop: Crop | None = None


@dataclass(frozen=True)
class Realigned:
    """The stretches of an utterance's sound, and of its pictures, which are cut where the face moves elsewhere too."""

    sound: tuple[Piece, ...]
    pictures: tuple[Piece, ...]


@dataclass(frozen=True)
class Faces:
    """Where the speaker's face is in an utterance: frames [F], ascending; boxes [F, 4], in pixels, as in `_BOX`."""

    frames: NDArray[np.int32]
    boxes: NDArray[np.float64]


def realigned(root: Path, files: Listing, faces: bool) -> dict[Name, Realigned]:
    """The stretches of each utterance that FAIR has, by MELD's numbers. faces: whether pictures are cropped to them.

    Raises InputError if a file is missing, and one that lists the malformed rows.
    """
    tables = {part: read(root, _place(root, files, name), _TABLE_COLUMNS) for part, name in FAIR_TABLES.items()}
    times = read(root, _place(root, files, TIMES), _TIMES_COLUMNS)
    numbers = {
        (part, whole(row, "Dialogue_ID"), whole(row, "Utterance_ID")): whole(row, "Original Utterance_ID")
        for part, rows in tables.items()
        for row in rows
    }
    sound: dict[Name, list[Piece]] = defaultdict(list)
    for row in times:
        sound[_name(row, numbers)].append(_piece(row))
    check([*chain(*tables.values()), *times])
    boxes = _faces(root / _place(root, files, FACES)) if faces else {}
    cut = {}
    for name, own in sound.items():
        part, dialogue, _ = name
        pictures = _pictures(own, boxes.get(name), small=(part, dialogue) in _SMALL_DIALOGUES)
        cut[part, dialogue, numbers[name]] = Realigned(tuple(own), tuple(pictures))
    return cut


def _place(root: Path, files: Listing, name: str) -> PurePosixPath:
    """Where a file of FAIR's is, the nearest to the root."""
    for folder, names in files.items():
        if name in names:
            return folder / name
    raise InputError(f"no {name} below {root}: `make fetch DATASET=meld` gets it")


def _name(row: Row, numbers: Mapping[Name, int]) -> Name:
    """The utterance of a line, by FAIR's number."""
    name = row.cells["Split"], whole(row, "Dialogue ID"), whole(row, "Utterance ID")
    if name not in numbers:
        row.wrong(f"no table realigned_<part>_sent_emo.csv has {name[0]}, dialogue {name[1]}, utterance {name[2]}")
    return name


def _piece(row: Row) -> Piece:
    dialogue, utterance = whole(row, "Original Dialogue ID"), whole(row, "Original Utterance ID")
    start_s, end_s = row.number("Start Time"), row.number("End Time")
    if start_s is None or end_s is None or not 0 <= start_s < end_s:
        row.wrong(f"{row.cells['Start Time']} to {row.cells['End Time']} s is no stretch")
    return Piece(f"dia{dialogue}_utt{utterance}.mp4", start_s or 0.0, end_s or 0.0)


def _faces(path: Path) -> dict[Name, Faces]:
    """The faces of each utterance, by FAIR's numbers. Raises InputError."""
    options = csv.ConvertOptions(column_types=_FACES_COLUMNS, include_columns=list(_FACES_COLUMNS))
    try:
        table = csv.read_csv(path, convert_options=options).drop_null()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    table = table.sort_by([(name, "ascending") for name in (*_ID, "Frame Number")])
    numbers = np.column_stack([table[name].to_numpy() for name in (*_ID[1:], "Frame Number")])
    boxes = np.column_stack([table[name].to_numpy() for name in _BOX])
    parts = table["Split"].to_numpy()
    other = (parts[1:] != parts[:-1]) | (numbers[1:, :2] != numbers[:-1, :2]).any(axis=1)
    spans = pairwise([0, *(1 + np.flatnonzero(other)).tolist(), len(parts)] if len(parts) else [])
    faces = {}
    for first, last in spans:
        dialogue, utterance, _ = numbers[first].tolist()
        faces[str(parts[first]), dialogue, utterance] = Faces(numbers[first:last, 2], boxes[first:last])
    return faces


def _pictures(own: Sequence[Piece], faces: Faces | None, small: bool) -> Iterator[Piece]:
    """The pieces, each cut into shots that are cropped to the speaker's face; whole where FAIR found no face.

    Frames are counted in FAIR's own copy of the joined pieces, in which each piece has its length in whole frames.
    """
    rate_hz, size = (_SMALL_RATE_HZ, _SMALL) if small else (_RATE_HZ, _SIZE)
    edges = np.cumsum([0, *(round((piece.end_s - piece.start_s) * rate_hz) for piece in own)])
    for piece, (first, last) in zip(own, pairwise(edges.tolist()), strict=True):
        shots = [] if faces is None else _shots(faces, first, last)
        starts_s = [piece.start_s, *(round(piece.start_s + (frame - first) / rate_hz, 6) for frame, _ in shots[1:])]
        crops: Sequence[Crop | None] = [_crop(box, size) for _, box in shots] or [None]
        for start_s, end_s, crop in zip(starts_s, [*starts_s[1:], piece.end_s], crops, strict=True):
            yield replace(piece, start_s=start_s, end_s=end_s, crop=crop)


def _shots(faces: Faces, first: int, last: int) -> list[tuple[int, NDArray[np.float64]]]:
    """The first frame and the box [4] of each shot from frame `first` to before `last`, in which the face stays.

    The box is the median of those of the shot's frames. A shot too short to count belongs to the one before.
    """
    inside = (faces.frames >= first) & (faces.frames < last)
    frames, boxes = faces.frames[inside], faces.boxes[inside]
    if not len(frames):
        return []
    cuts = 1 + np.flatnonzero(_common(boxes[:-1], boxes[1:]) < _SAME_FACE)
    runs = list(zip(np.split(frames, cuts), np.split(boxes, cuts), strict=True))
    long = [run for run in runs if len(run[0]) >= _SHORTEST_SHOT] or [max(runs, key=lambda run: len(run[0]))]
    return [(int(frames[0]), np.median(boxes, axis=0)) for frames, boxes in long]


def _common(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union, [B], of boxes [B, 4] (left, top, right, bottom); 0 for boxes without area."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = np.maximum(sides, 0.0).prod(axis=1)
    joint = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1) - shared
    return np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0)


def _crop(box: NDArray[np.float64], size: tuple[int, int]) -> Crop:
    """A box in pixels as a crop in fractions of the picture, cut to it."""
    left, top, right, bottom = np.clip(box / [*size, *size], 0.0, 1.0).tolist()
    return round(left, 6), round(top, 6), round(right - left, 6), round(bottom - top, 6)
