"""Starts a table for the reader `table`: one row for each clip in a folder, with cells left to fill in."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import InputError

VIDEO = {
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv"),
}
AUDIO = {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".wma"}
TEXT = {".txt"}

_KINDS = {suffix: kind for kind, known in (("video", VIDEO), ("audio", AUDIO), ("text", TEXT)) for suffix in known}
_LONGEST_TEXT = 100_000  # bytes; the csv module reads no cell of more than 131,072 characters


@dataclass
class _Clip:
    """The files of one stem in one folder, by kind, as paths relative to the root."""

    name: str
    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def path(self, kind: str) -> str:
        return self.files[kind][0] if self.files[kind] else ""


def write(folder: Path, out: str = "utterances.csv") -> dict[str, Any]:
    """Writes the table `out` inside `folder`, with a row for each clip in this folder and those below, sorted by path.

    A clip is a video file, an audio file, or one of each with the same stem; `<stem>.txt` beside it is its transcript.
    The cells for dialogue, speaker, split and label are left empty. Hidden files, such as AppleDouble's, are ignored.
    Links that lead outside are left out, and so are names that are not Unicode or have control characters.

    Returns the path of the table, the number of rows, the numbers of rows with text, audio and video, and the files
    left out. Raises InputError if the table exists, if there are no clips, or if a clip has two files of one kind.
    """
    target = folder / out
    if target.suffix != ".csv" or not _is_inside(folder, target):
        raise InputError(f"{out!r} is not a .csv inside {folder}")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    clips, skipped = _clips(folder)
    if not clips:
        raise InputError(f"no clips in {folder}: known are {', '.join(sorted(VIDEO | AUDIO))}")
    _check(folder, clips)
    rows = [_row(folder, clip, name) for clip, name in zip(clips, _ids(clips), strict=True)]
    columns = _columns(clips)
    _write(target, columns, rows)
    counts = {kind: sum(bool(row[kind]) for row in rows) for kind in ("text", "audio", "video") if kind in columns}
    return {"table": str(target), "rows": len(rows), "with": counts, "skipped": skipped}


def _clips(folder: Path) -> tuple[list[_Clip], list[str]]:
    """The clips, sorted by path, and the media files left out."""
    clips: dict[str, _Clip] = {}
    skipped = []
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        kind = _KINDS.get(path.suffix.lower())
        if kind and _is_inside(folder, path) and _is_plain(name):
            stem = str(PurePosixPath(name).with_suffix(""))
            clips.setdefault(stem, _Clip(stem)).files[kind].append(name)
        elif kind:
            skipped.append(name.encode(errors="replace").decode())
    return [clip for _, clip in sorted(clips.items()) if clip.path("video") or clip.path("audio")], skipped


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file():
            yield path


def _check(folder: Path, clips: Sequence[_Clip]) -> None:
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


def _ids(clips: Sequence[_Clip]) -> list[str]:
    """A unique id for each clip, its path without the suffix and with `_` for all but letters, digits, `-` and `.`.

    If the ids of two clips would be the same, each ends with a digest of its path.
    """
    safe = [re.sub(r"[^\w.-]+", "_", clip.name) for clip in clips]
    counts = Counter(safe)
    return [
        name if counts[name] == 1 else f"{name}-{hashlib.sha256(clip.name.encode()).hexdigest()[:12]}"
        for name, clip in zip(safe, clips, strict=True)
    ]


def _columns(clips: Sequence[_Clip]) -> list[str]:
    media = [kind for kind in ("audio", "video") if any(clip.path(kind) for clip in clips)]
    return ["utterance", "dialogue", "speaker", "split", "text", *media, "label"]


def _row(folder: Path, clip: _Clip, name: str) -> dict[str, str]:
    """The cells that are known. The sound of a clip without an audio file is that of its video."""
    video = clip.path("video")
    return {
        "utterance": name,
        "text": _transcript(folder / clip.path("text")) if clip.path("text") else "",
        "audio": clip.path("audio") or video,
        "video": video,
    }


def _transcript(file: Path) -> str:
    """The text on one line, with a replacement character for a byte that is not UTF-8."""
    return " ".join(file.read_text(encoding="utf-8-sig", errors="replace").replace("\0", " ").split())


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
    return path.resolve().is_relative_to(folder.resolve())


def _is_plain(name: str) -> bool:
    """True if a name is Unicode without control characters, so that a CSV can hold it."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
