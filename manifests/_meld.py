"""MELD on disk: its three tables, its folders of clips wherever they lie, and the clips known to be bad."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from manifests._cells import Row, refuse_stray
from pipeline.errors import InputError

TABLES = {name: f"{name}_sent_emo.csv" for name in ("train", "dev", "test")}
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
TWIN = "final_videos_test"

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
"""What is reported of an utterance's clip, with where; by id."""

_COLUMNS = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
)
_FOLLOWED = {*TABLES.values(), *FOLDERS.values()}
_TIME = re.compile(r"(\d{1,2}):(\d\d):(\d\d),(\d{1,6})", re.ASCII)

_ESCAPED = 0xDC00
_CHARACTER = {byte: bytes([byte]).decode("cp1252", errors="replace") for byte in range(0x80, 0x100)}
# A byte that isn't UTF-8, and the control character with the number of the byte.
_LEFT_OVER = {_ESCAPED + byte: character for byte, character in _CHARACTER.items()} | {
    byte: character for byte, character in _CHARACTER.items() if byte < 0xA0
}

Listing = Mapping[PurePosixPath, frozenset[str]]


@dataclass(frozen=True)
class Clips:
    """The clips of one part. `paths`: by name of the file, relative to the root; `folder`: where the others belong."""

    folder: PurePosixPath
    paths: Mapping[str, str]

    def path(self, name: str) -> str:
        """Where the clip is, or where it ought to be."""
        return self.paths.get(name) or str(self.folder / name)


def listing(root: Path) -> Listing:
    """Names of the files of each folder below `root`, by its path from there: the nearest first, then by name.

    Hidden entries are left out, AppleDouble's `._*` among them. Of links only those to a table or to a folder of clips
    are followed; raises InputError for those that lead outside the root.
    """
    found: dict[PurePosixPath, frozenset[str]] = {}
    linked: list[PurePosixPath] = []
    waiting = [PurePosixPath()]
    while waiting:
        here = waiting.pop()
        folders, files, links = _entries(root / here)
        found[here] = frozenset(files)
        waiting += [here / name for name in folders]
        linked += [here / name for name in links]
    refuse_stray(root, sorted(linked))
    found |= {path: frozenset(_entries(root / path)[1]) for path in linked if path.name in FOLDERS.values()}
    return dict(sorted(found.items(), key=lambda each: (len(each[0].parts), each[0])))


def _entries(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of its folders, of all else in it, and of the links that are to be followed; none if it can't be read."""
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return [], [], []
    inner = [entry.name for entry in seen if entry.is_dir(follow_symlinks=False)]
    links = [entry.name for entry in seen if entry.is_symlink() and entry.name in _FOLLOWED]
    return inner, [entry.name for entry in seen if not entry.is_dir(follow_symlinks=False)], links


def tables(listed: Listing) -> dict[str, PurePosixPath]:
    """The path of each table that is there, by part.

    Of several copies the git repository's is taken, whose counts are the published ones, not that of the tar with the
    clips: the one in data/MELD, else one with all three tables beside each other (the tar keeps train's apart), else
    the nearest to the root, then the first by name.
    """
    found = {}
    for part, name in TABLES.items():
        if places := [place for place, files in listed.items() if name in files]:
            found[part] = min(places, key=lambda place: _strangeness(place, listed[place])) / name
    return found


def _strangeness(place: PurePosixPath, files: frozenset[str]) -> tuple[bool, bool]:
    return place.parts[-2:] != ("data", "MELD"), not files.issuperset(TABLES.values())


def clips(listed: Listing, part: str) -> Clips:
    """What lies in the folders of the part's name; a clip in several of them is taken from the first."""
    places = [place for place in listed if place.name == FOLDERS[part]]
    paths = {name: str(place / name) for place in reversed(places) for name in listed[place]}
    fullest = max(places, key=lambda place: len(listed[place]), default=PurePosixPath(FOLDERS[part]))
    return Clips(fullest, paths)


def read(root: Path, path: PurePosixPath) -> list[Row]:
    """The rows of a table. Raises InputError for one that isn't CSV, or lacks a column or cells of a row."""
    try:
        lines = csv.reader(io.StringIO(_decoded((root / path).read_bytes()), newline=""), strict=True)
        columns = next(lines, [])
        cells = [(f"{path}:{lines.line_num}", each) for each in lines if each]
    except (csv.Error, OSError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    wrong = [f"{path}:1: no column {name!r}" for name in _COLUMNS if name not in columns]
    wrong += [f"{at}: {len(row)} cells, {len(columns)} columns" for at, row in cells if len(row) != len(columns)]
    if wrong:
        raise InputError("\n".join(wrong))
    return [Row(root, at, dict(zip(columns, row, strict=True))) for at, row in cells]


def seconds(row: Row, name: str) -> float:
    """`0:16:16,059` or `00:16:16,059`; the digits after the comma are a decimal fraction, however many there are."""
    found = _TIME.fullmatch(row.cells[name].strip())
    if not found:
        row.wrong(f"{name} = {row.cells[name]!r} is not a time such as 00:16:16,059")
        return 0.0
    hours, minutes, rest = int(found[1]), int(found[2]), float(f"{found[3]}.{found[4]}")
    return round(3600 * hours + 60 * minutes + rest, 6)


def _decoded(data: bytes) -> str:
    """UTF-8, with or without a mark, in which what is left over of Windows-1252 means what it meant there."""
    return data.decode("utf-8-sig", errors="surrogateescape").translate(_LEFT_OVER)
