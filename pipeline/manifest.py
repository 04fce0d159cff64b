"""A recipe's corpus, scanned, checked and digested."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import keys
from pipeline.errors import InputError
from pipeline.reader import Reader
from pipeline.utterance import MISSING, Audio, Utterance, Video, in_order

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """Every utterance of the scan, in order, with the digests of its media.

    media: False where the manifest alone is here, as another team pushed it, and no media.
    """

    root: Path
    rows: tuple[Utterance, ...]
    media: bool = True

    @cached_property
    def digest(self) -> str:
        """Of everything but transcripts, which enter by their digests: the same with and without them."""
        return keys.digest("manifest", [_canonical(row) for row in self.rows])

    def without_text(self) -> Manifest:
        """The same with the digests of the transcripts in their place."""
        return replace(self, rows=tuple(map(without_text, self.rows)))


def build(reader: Reader, root: Path, memory: Path) -> Manifest:
    """Scans the corpus at `root`; `memory` remembers digests of media files by path, size and time of change.

    Raises InputError listing every offending row: duplicate ids, an end before its start, a path outside the root.
    """
    reader.prepare(root)
    rows = in_order(reader.scan(root))
    check(rows, root)
    return Manifest(root, tuple(_digested(rows, root, memory)))


def check(rows: Sequence[Utterance], root: Path) -> None:
    """Raises InputError listing every offending row; see `build`."""
    problems = list(_problems(rows, root))
    if problems:
        shown = "\n".join(problems[:50]) + (f"\n... and {len(problems) - 50} more" if len(problems) > 50 else "")
        raise InputError(f"{len(problems)} rows of the manifest are wrong:\n{shown}")


def _canonical(row: Utterance) -> dict[str, Any]:
    """A row as JSON, the same after Parquet, which turns whole numbers among others into fractions."""
    found = asdict(without_text(row))
    labels = {name: float(value) if isinstance(value, int) else value for name, value in row.labels.items()}
    return found | {"labels": {name: value for name, value in labels.items() if value is not None}}


def without_text(row: Utterance) -> Utterance:
    """The row with its transcript's digest in place of the transcript."""
    return replace(row, text=None, text_digest=keys.text_digest(row))


def _problems(rows: Sequence[Utterance], root: Path) -> Iterator[str]:
    if not rows:
        yield f"no utterance found in {root}"
    for name, count in Counter(row.id for row in rows).items():
        if count > 1:
            yield f"{name}: {count} rows have this id"
    outside = {path for path in {m.path for row in rows for m in _media(row)} if _escapes(path, root)}
    for row in rows:
        if row.start_s is not None and row.end_s is not None and row.end_s < row.start_s:
            yield f"{row.id}: ends at {row.end_s} s, before its start at {row.start_s} s"
        for media in _media(row):
            if media.path in outside:
                yield f"{row.id}: {media.path} lies outside {root}"
            if media.start_s is not None and media.end_s is not None and media.end_s < media.start_s:
                yield f"{row.id}: {media.path} is cut from {media.start_s} to {media.end_s} s"


def _media(row: Utterance) -> list[Audio | Video]:
    return [media for media in (row.audio, row.video) if media is not None]


def _escapes(path: str, root: Path) -> bool:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        return True
    try:
        return not (root / path).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # links that go round in circles, a name no file can have
        return True


def _digested(rows: Sequence[Utterance], root: Path, memory: Path) -> Iterator[Utterance]:
    paths = sorted({media.path for row in rows for media in _media(row)})
    found = media_digests([root / path for path in paths], memory)
    by_path = {path: found[root / path] for path in paths}
    for row in rows:
        audio = row.audio and replace(row.audio, digest=by_path[row.audio.path])
        video = row.video and replace(row.video, digest=by_path[row.video.path])
        yield replace(row, audio=audio, video=video)


def media_digests(paths: Sequence[Path], memory: Path) -> dict[Path, str]:
    """The digest of each file; `missing` where there is none to read, so that its arrival moves the key.

    A file is hashed once for each (path, size, time of change); each is looked at (stat) once.
    """
    memory.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(memory, timeout=60) as base:
        base.execute("create table if not exists digest (path text primary key, stamp text, digest text)")
        known = {path: (stamp, found) for path, stamp, found in base.execute("select path, stamp, digest from digest")}
        stamps = {path: _stamp(path) for path in paths}
        stale = [path for path in paths if stamps[path] and known.get(str(path), ("", ""))[0] != stamps[path]]
        with ThreadPoolExecutor() as pool:
            fresh = dict(zip(stale, pool.map(_digest, stale), strict=True))
        new = [(str(path), stamps[path], digest) for path, digest in fresh.items() if digest != MISSING]
        base.executemany("insert or replace into digest values (?, ?, ?)", new)
    base.close()
    return {p: fresh.get(p) or known[str(p)][1] if stamps[p] else MISSING for p in paths}


def _digest(path: Path) -> str:
    try:
        return keys.file_digest(path)
    except OSError as error:
        log.warning("%s counts as missing, it cannot be read: %s", path, error)
        return MISSING


def _stamp(path: Path) -> str | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return f"{status.st_size}:{status.st_mtime_ns}"
