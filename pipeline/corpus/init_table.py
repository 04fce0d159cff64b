"""Starts a table for the reader `table`: one row for each clip in a folder, with cells left to fill in."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import InputError
from pipeline.text_file import read_text

VIDEO = {
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".vob"),
}
AUDIO = {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".wma", ".amr"}
TEXT = {".txt"}

_KINDS = {suffix: kind for kind, known in (("video", VIDEO), ("audio", AUDIO), ("text", TEXT)) for suffix in known}
_LONGEST_TEXT = 100_000  # bytes; the csv module reads no cell of more than 131,072 characters


@dataclass
class Clip:
    """The files of one stem in one folder, by kind, as paths relative to the root."""

    name: str
    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def path(self, kind: str) -> str:
        """The first file of a kind, "text", "audio" or "video"; "" if there is none."""
        return self.files[kind][0] if self.files[kind] else ""


def write(folder: Path, out: str = "utterances.csv", encoding: str = "utf-8") -> dict[str, Any]:
    """Writes the table `out` inside `folder`, with a row for each clip in this folder and those below, sorted by path.

    A clip is a video file, an audio file, or one of each with the same stem; `<stem>.txt` beside it is its transcript.
    The cells for dialogue, speaker, split and label are left empty. Hidden files, such as AppleDouble's, are ignored.
    Links that lead outside are left out, and so are names that are not Unicode or have control characters. encoding:
    that of the transcripts.

    Returns the path of the table, the number of rows, the numbers of rows with text, audio and video, and the files
    left out by the reason why. Raises InputError if the table exists, if there are no clips, if a clip has two files of
    one kind, or if a transcript is in another encoding.
    """
    target = folder / out
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    if target.suffix != ".csv" or not _is_inside(folder, target):
        raise InputError(f"{out!r} is not a .csv inside {folder}")
    clips, left_out = clips_in(folder)
    if not clips:
        raise InputError(f"no clips in {folder}: known are {', '.join(sorted(VIDEO | AUDIO))}")
    _check(folder, clips)
    rows = [_row(folder, clip, name, encoding) for clip, name in zip(clips, _ids(clips), strict=True)]
    columns = _columns(clips)
    _write(target, columns, rows)
    counts = {kind: sum(bool(row[kind]) for row in rows) for kind in ("text", "audio", "video") if kind in columns}
    return {"table": str(target), "rows": len(rows), "with": counts, "left_out": left_out}


def clips_in(folder: Path) -> tuple[list[Clip], dict[str, list[str]]]:
    """The clips of a folder and those below, sorted by path, and the files left out by the reason why; see `write`."""
    clips: dict[str, Clip] = {}
    left_out: dict[str, list[str]] = {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if why := _why_not(folder, path, name):
            left_out.setdefault(why, []).append(name.encode(errors="replace").decode())
        else:
            stem = str(PurePosixPath(name).with_suffix(""))
            clips.setdefault(stem, Clip(stem)).files[_KINDS[path.suffix.lower()]].append(name)
    heard = [clip for _, clip in sorted(clips.items()) if clip.path("video") or clip.path("audio")]
    if alone := [path for clip in clips.values() if clip not in heard for path in clip.files["text"]]:
        left_out["a transcript without a clip"] = sorted(alone)
    return heard, left_out


def _why_not(folder: Path, path: Path, name: str) -> str:
    """Why a file is not taken as a clip or a transcript; "" if it is."""
    if not path.is_file():
        return "a linked folder, which is not searched" if path.is_dir() else "a link that leads nowhere"
    if path.suffix.lower() not in _KINDS:
        return f"{path.suffix.lower()} is no ending of clips that is known" if path.suffix else "no ending"
    if not _is_inside(folder, path):
        return "a link that leads out of the folder"
    return "" if _is_plain(name) else "a name that is not Unicode, or that has control characters"


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (path.is_symlink() or path.is_file()):
            yield path


def _check(folder: Path, clips: Sequence[Clip]) -> None:
    """Raises InputError listing the clips with two files of one kind, and the files too long for a transcript."""
    wrong = []
    for clip in clips:
        wrong += [f"{' and '.join(paths)}: keep one of them" for paths in clip.files.values() if len(paths) > 1]
        wrong += [
            f"{name}: too long for a transcript"
            for name in clip.files["text"]
            if (folder / name).stat().st_size > _LONGEST_TEXT
        ]
    if wrong:
        raise InputError("\n".join(wrong))


def _ids(clips: Sequence[Clip]) -> list[str]:
    """A unique id for each clip, its path without the suffix and with `_` for all but letters, digits, `-` and `.`.

    If the ids of two clips would be the same, each ends with a digest of its path.
    """
    safe = [re.sub(r"[^\w.-]+", "_", clip.name) for clip in clips]
    counts = Counter(safe)
    return [
        name if counts[name] == 1 else f"{name}-{hashlib.sha256(clip.name.encode()).hexdigest()[:12]}"
        for name, clip in zip(safe, clips, strict=True)
    ]


def _columns(clips: Sequence[Clip]) -> list[str]:
    media = [kind for kind in ("audio", "video") if any(clip.path(kind) for clip in clips)]
    return ["utterance", "dialogue", "speaker", "split", "text", *media, "label"]


def _row(folder: Path, clip: Clip, name: str, encoding: str) -> dict[str, str]:
    """The cells that are known. The sound of a clip without an audio file is that of its video."""
    video = clip.path("video")
    return {
        "utterance": name,
        "text": _transcript(folder / clip.path("text"), encoding) if clip.path("text") else "",
        "audio": clip.path("audio") or video,
        "video": video,
    }


def _transcript(file: Path, encoding: str) -> str:
    """The text on one line."""
    return " ".join(read_text(file, encoding).split())


def _write(target: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    try:
        with target.open("x", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
    except FileExistsError as error:
        raise InputError(f"{target} exists and is not overwritten") from error


def _is_inside(folder: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _is_plain(name: str) -> bool:
    """True if a name is Unicode without control characters, so that a CSV can hold it."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
