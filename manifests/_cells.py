"""The cells of a row of a table, read by kind; the errors of a row are collected."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from sys import intern

from pipeline.errors import InputError, closest
from pipeline.media.files import stays
from pipeline.utterance import Audio, Utterance, Value, Video

_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_PLAIN = re.compile(r"-?(?=[\d.]{1,16}$)(0|[1-9]\d*)(\.\d+)?", re.ASCII)
"""A decimal number of at most fifteen digits, so that a float holds it."""

MODALITIES = ("text", "audio", "video")

_TIMES = ("audio_start_s", "audio_end_s", "video_start_s", "video_end_s", "start_s", "end_s")
COLUMNS = {"utterance", *MODALITIES, "dialogue", "turn", "speaker", "session", "split", "audio_channel", *_TIMES}
_SPLITS = {"train": "train", "test": "test", **dict.fromkeys(("valid", "validation", "dev", "val"), "valid")}
_UNKNOWN = {"", "na", "n/a", "nan", "null", "none"}


class Row:
    """The cells of one row, read by kind. A cell that is wrong reads as None, and an error is added to `errors`."""

    __slots__ = ("cells", "errors", "place", "root")

    def __init__(self, root: Path, place: str, cells: Mapping[str, str]) -> None:
        self.root, self.place, self.cells = root, place, cells
        self.errors: list[str] = []

    def wrong(self, message: str) -> None:
        """Adds an error with the row's place."""
        self.errors.append(f"{self.place}: {message}")

    def text(self, name: str) -> str | None:
        """The cell; None if it is empty or there is no such column."""
        return self.cells.get(name) or None

    def number(self, name: str, hint: str = "") -> float | None:
        """A finite number; `hint` is added to the message about a cell that is none."""
        cell = self.cells.get(name)
        if not cell:
            return None
        try:
            return number(cell)
        except ValueError:
            self.wrong(f"{name} = {cell!r} is not a number{hint}")
            return None

    def count(self, name: str) -> int | None:
        """A whole number from 0."""
        value = self.number(name)
        if value is not None and (value < 0 or value != int(value)):
            self.wrong(f"{name} = {self.cells[name]!r} is not a whole number from 0")
            return None
        return None if value is None else int(value)

    def choice(self, name: str, known: Mapping[str, str]) -> str | None:
        """The value of a cell that is a key of `known`."""
        cell = self.text(name)
        if cell is not None and cell not in known:
            self.wrong(f"{name} = {cell!r}: {closest(cell, known)}")
        return None if cell is None else known.get(cell)

    def path(self, name: str) -> str | None:
        """A path that stays inside the root, as it is relative to it."""
        cell = self.text(name)
        if cell and cell.startswith("/") and PurePosixPath(cell).is_relative_to(self.root.absolute()):
            cell = PurePosixPath(cell).relative_to(self.root.absolute()).as_posix()
        if cell is not None and not stays(cell):
            self.wrong(f"{name} = {cell!r} is outside the root")
            return None
        return cell and intern(PurePosixPath(cell).as_posix() if "./" in cell or "//" in cell else cell)

    def span(self, prefix: str) -> tuple[float | None, float | None]:
        """The cells `<prefix>start_s` and `<prefix>end_s`, in seconds."""
        start, end = self.number(f"{prefix}start_s"), self.number(f"{prefix}end_s")
        if start is not None and start < 0:
            self.wrong(f"{prefix}start_s = {start} is negative")
        if end is not None and end <= (start or 0.0):
            self.wrong(f"{prefix}end_s = {end} is not after {prefix}start_s = {start or 0.0}")
        return start, end

    def utterance(self, turn: int, labels: Mapping[str, Value], own_audio: bool) -> Utterance:
        """The row as an utterance. own_audio: the table has an audio column; if not, the video's sound is used."""
        video, audio = self.path("video"), self.path("audio")
        video_span, audio_span, span = self.span("video_"), self.span("audio_"), self.span("")
        sound, sound_span = (audio, audio_span) if own_audio else (video, video_span)
        channel, name = self.count("audio_channel"), self.cells["utterance"]
        return Utterance(
            id=name,
            dialogue=intern(self.text("dialogue") or name),
            turn=turn,
            speaker=self.text("speaker"),
            text=self.text("text"),
            audio=(Audio(path=sound, start_s=sound_span[0], end_s=sound_span[1], channel=channel),) if sound else (),
            video=(Video(path=video, start_s=video_span[0], end_s=video_span[1]),) if video else (),
            start_s=span[0],
            end_s=span[1],
            split=self.choice("split", _SPLITS),
            session=self.text("session"),
            labels={name: value for name, value in labels.items() if value is not None},
        )


def inside(root: Path, path: str) -> bool:
    """True if a path is relative and stays inside the root, symbolic links followed."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        return False
    try:
        return (root / pure).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False


def refuse_stray(root: Path, paths: Iterable[PurePath]) -> None:
    """Raises one InputError that lists those of the paths, relative to the root, that leave it, links followed."""
    if stray := [f"{root / path} leads outside {root}" for path in paths if not inside(root, str(path))]:
        raise InputError("\n".join(stray))


def number(cell: str) -> float | None:
    """The finite number in a cell; None for an empty cell, `NaN` and the like. Raises ValueError for anything else."""
    try:
        if math.isfinite(value := float(cell)):
            return value
    except ValueError:
        pass
    if cell.strip().lower() in _UNKNOWN:
        return None
    raise ValueError(cell)


def are_numbers(cells: Iterable[str]) -> bool:
    """True if the cells of a column are numbers that a float holds as they are written.

    Codes are none: `007` would lose its zeros, and an id of 19 digits its last ones.
    """
    return all(_PLAIN.fullmatch(cell) or cell.strip().lower() in _UNKNOWN for cell in cells)


def whole(row: Row, name: str) -> int:
    """The whole number in a required cell; 0 if it is missing or wrong, which is an error of the row."""
    cell = row.cells.get(name, "").strip()
    if not _WHOLE.fullmatch(cell):
        row.wrong(f"{name} = {cell!r} is not a whole number from 0")
        return 0
    return int(cell)


def identifier(row: Row, name: str) -> str:
    """A cell that becomes part of a path. It is an error of the row if it is empty or not a single name."""
    cell = row.cells.get(name, "").strip()
    if not cell or cell == ".." or set("/\\\0") & set(cell):
        row.wrong(f"{name} = {cell!r} is not the name of a file")
    return cell


def check(rows: Iterable[Row]) -> None:
    """Raises one InputError that lists every error of the rows, if there are any."""
    if errors := [message for row in rows for message in row.errors]:
        raise InputError("\n".join(errors))
