"""Finds and parses MELD's files: its three tables, its folders of clips, and a list of clips with reported faults."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from manifests._cells import Row, refuse_stray
from pipeline.errors import InputError
from pipeline.text_file import regular

TABLES = {name: f"{name}_sent_emo.csv" for name in ("train", "dev", "test")}
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
TWIN = "final_videos_test"
FAIR_TABLES = {part: f"realigned_{name}" for part, name in TABLES.items()}
TIMES, FACES = "MELD_video_realignment_timestamps.csv", "MELD_active_speaker_face_bboxes.csv"
"""The files of MELD-FAIR, see `manifests._meld_fair`."""

# Numbers are issues of github.com/declare-lab/MELD; the lengths are those of the tables themselves.
_REPORTS: Mapping[str, tuple[str, ...]] = {
    "no clip in the release, MELD#22, MELD#27": ("dev_dia110_utt7",),
    "moov atom missing, MELD#39, MELD#52": ("train_dia125_utt3",),
    "wrongly cut, MELD#20": ("train_dia309_utt0", "test_dia38_utt4", "test_dia220_utt0"),
    "about 0.1 s long": (
        *("train_dia71_utt0", "train_dia179_utt8", "train_dia312_utt9", "train_dia332_utt1", "train_dia406_utt2"),
        *("train_dia523_utt10", "train_dia598_utt3", "dev_dia99_utt3", "dev_dia108_utt5"),
    ),
    "annotated as less than 10 ms long": ("train_dia338_utt3", "test_dia155_utt3"),
    "disturbed sound, MELD#9": (
        *("train_dia164_utt5", "train_dia529_utt2", "train_dia682_utt1", "train_dia793_utt0"),
        *("train_dia1008_utt1", "train_dia1029_utt1"),
    ),
    "text and video out of step, MELD#9": (
        *(f"train_dia241_utt{utterance}" for utterance in range(1, 14)),
        *("train_dia485_utt0", "train_dia757_utt7"),
    ),
    "reported without sound, MELD#47": ("test_dia263_utt7",),
}
KNOWN: Mapping[str, str] = {name: report for report, names in _REPORTS.items() for name in names}
"""The fault reported of an utterance's clip, with its source, by id."""

COLUMNS = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
)
_FOLLOWED = {*TABLES.values(), *FOLDERS.values(), *FAIR_TABLES.values(), TIMES, FACES}
_TIME = re.compile(r"(\d{1,2}):(\d\d):(\d\d),(\d{1,6})", re.ASCII)

_ESCAPED = 0xDC00
_CHARACTER = {byte: bytes([byte]).decode("cp1252", errors="replace") for byte in range(0x80, 0x100)}
# Keys: a byte that is not UTF-8, and the control character with the number of such a byte.
_LEFT_OVER = {_ESCAPED + byte: character for byte, character in _CHARACTER.items()} | {
    byte: character for byte, character in _CHARACTER.items() if byte < 0xA0
}

Listing = Mapping[PurePosixPath, frozenset[str]]
"""The names of the files in each folder, by the folder's path from the root."""


@dataclass(frozen=True)
class Clips:
    """The clips of one part: their `paths` from the root by the file's name, and the `folder` of those missing."""

    folder: PurePosixPath
    paths: Mapping[str, str]

    def path(self, name: str) -> str:
        """The path of a clip, or of the place where it ought to be."""
        return self.paths.get(name) or str(self.folder / name)


def listing(root: Path) -> Listing:
    """Lists the folder `root` and every folder below it, the nearest to the root first, then by name.

    Hidden entries, such as AppleDouble's `._*`, are left out. Only links to a table or to a folder of clips are
    followed. Raises InputError for those that lead outside the root.
    """
    names: dict[PurePosixPath, frozenset[str]] = {}
    linked: list[PurePosixPath] = []
    waiting = [PurePosixPath()]
    while waiting:
        folder = waiting.pop()
        folders, files, links = _entries(root / folder)
        names[folder] = frozenset(files)
        waiting += [folder / name for name in folders]
        linked += [folder / name for name in links]
    refuse_stray(root, sorted(linked))
    names |= {path: frozenset(_entries(root / path)[1]) for path in linked if path.name in FOLDERS.values()}
    return dict(sorted(names.items(), key=lambda item: (len(item[0].parts), item[0])))


def _entries(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """The names of a folder's folders, of all its other entries, and of the links to follow; none if unreadable."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return [], [], []
    folders = [entry.name for entry in visible if entry.is_dir(follow_symlinks=False)]
    links = [entry.name for entry in visible if entry.is_symlink() and entry.name in _FOLLOWED]
    return folders, [entry.name for entry in visible if not entry.is_dir(follow_symlinks=False)], links


def tables(files: Listing) -> dict[str, PurePosixPath]:
    """The path of each table that is there, by part.

    Of several copies, the git repository's is taken, whose counts are the published ones, rather than that of the tar
    with the clips: the one in data/MELD, else one in a folder with all three tables (the tar keeps train's apart), else
    the nearest to the root, then the first by name.
    """
    paths = {}
    for part, name in TABLES.items():
        if folders := [folder for folder, names in files.items() if name in names]:
            paths[part] = min(folders, key=lambda folder: _strangeness(folder, files[folder])) / name
    return paths


def _strangeness(folder: PurePosixPath, names: frozenset[str]) -> tuple[bool, bool]:
    return folder.parts[-2:] != ("data", "MELD"), not names.issuperset(TABLES.values())


def clips(files: Listing, part: str) -> Clips:
    """The clips in every folder with the part's name; of a clip that several of them have, the first one's."""
    folders = [folder for folder in files if folder.name == FOLDERS[part]]
    paths = {name: str(folder / name) for folder in reversed(folders) for name in files[folder]}
    fullest = max(folders, key=lambda folder: len(files[folder]), default=PurePosixPath(FOLDERS[part]))
    return Clips(fullest, paths)


def read(root: Path, path: PurePosixPath, required: Sequence[str] = COLUMNS) -> list[Row]:
    """The rows of a table. Raises InputError if it is not CSV, lacks a column, or has a row of another length."""
    try:
        lines = csv.reader(io.StringIO(_decoded(regular(root / path).read_bytes()), newline=""), strict=True)
        columns = next(lines, [])
        cells = [(f"{path}:{lines.line_num}", row) for row in lines if row]
    except (csv.Error, OSError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    wrong = [f"{path}:1: no column {name!r}" for name in required if name not in columns]
    wrong += [f"{at}: {len(row)} cells, {len(columns)} columns" for at, row in cells if len(row) != len(columns)]
    if wrong:
        raise InputError("\n".join(wrong))
    return [Row(root, at, dict(zip(columns, row, strict=True))) for at, row in cells]


def seconds(row: Row, name: str) -> float:
    """The time in a cell, such as `0:16:16,059`; the digits after the comma, however many, are a decimal fraction."""
    time = _TIME.fullmatch(row.cells[name].strip())
    if not time:
        row.wrong(f"{name} = {row.cells[name]!r} is not a time such as 00:16:16,059")
        return 0.0
    hours, minutes, rest = int(time[1]), int(time[2]), float(f"{time[3]}.{time[4]}")
    return round(3600 * hours + 60 * minutes + rest, 6)


def _decoded(data: bytes) -> str:
    """Decodes UTF-8, with or without a byte order mark; leftovers of Windows-1252 become the characters they were."""
    return data.decode("utf-8-sig", errors="surrogateescape").translate(_LEFT_OVER)
