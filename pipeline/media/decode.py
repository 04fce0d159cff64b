"""Decodes the rows of a job in a child process, ahead of the stages, within a bound of memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.media.child import Child
from pipeline.media.files import remembered, stamp
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Frames, Stage, Waveform
from pipeline.utterance import MISSING, Audio, Utterance, Video

AHEAD_BYTES = 256 * 2**20
DEADLINE_S = 60.0

Decoded = dict[str, Any] | Unreadable
"""The input of each stage by the stage's name, or why there is none."""


def decoded(
    kind: str, rows: Sequence[Utterance], root: Path, wanted: Sequence[Sequence[tuple[str, Stage]]], memory: Path
) -> Iterator[tuple[Utterance, Decoded]]:
    """Each row with what its stages see of it: `kind` is "text", "audio" or "video".

    `wanted` holds, for each row, the names and stages that need it. Audio and video are decoded in a child process
    with a deadline for each clip, while the caller works on those before; a decoder that crashes or hangs costs its
    clip alone. A file that is not, or not any more, what the manifest says gives IO_ERROR: its values would stand
    under the key of other bytes. `memory` remembers digests, see `pipeline.corpus.manifest.build`.
    """
    if kind == "text":
        for row, stages in zip(rows, wanted, strict=True):
            yield row, _text(row, stages)
        return
    ahead = _Ahead(AHEAD_BYTES)
    thread = threading.Thread(
        target=_feed, args=(kind, rows, Files(kind, rows, root, memory), wanted, ahead), daemon=True
    )
    thread.start()
    try:
        yield from iter(ahead.get, None)
    finally:
        ahead.closed.set()
        thread.join()


def read(kind: str, source: Audio | Video, root: Path, stages: Sequence[Stage]) -> list[Any]:
    """Decodes one stretch for some stages, in this process. Raises Unreadable."""
    found: list[Any] = import_module(f"pipeline.media.{kind}").decode(source, root / source.path, stages)
    return found


def _text(row: Utterance, stages: Sequence[tuple[str, Stage]]) -> Decoded:
    if row.text is None:  # a transcript that was left out may come back
        return Unreadable(Reason.ABSENT if row.text_digest is None else Reason.IO_ERROR)
    return Unreadable(Reason.NO_TEXT) if not row.text.strip() else {name: row.text for name, _ in stages}


class _Ahead:
    """A queue between the feeding thread and the caller, bounded by the bytes in it."""

    def __init__(self, limit: int) -> None:
        self.closed = threading.Event()
        self._limit, self._held = limit, 0
        self._queue: queue.Queue[tuple[Utterance, Decoded, int] | BaseException | None] = queue.Queue()
        self._room = threading.Condition()

    def put(self, row: Utterance, found: Decoded) -> None:
        size = 0 if isinstance(found, Unreadable) else sum(map(_size, found.values()))
        with self._room:
            while self._held > 0 and self._held + size > self._limit and not self.closed.is_set():
                self._room.wait(0.2)
            self._held += size
        self._queue.put((row, found, size))

    def finish(self, error: BaseException | None) -> None:
        self._queue.put(error)

    def get(self) -> tuple[Utterance, Decoded] | None:
        entry = self._queue.get()
        if isinstance(entry, BaseException):
            raise entry
        if entry is None:
            return None
        row, found, size = entry
        with self._room:
            self._held -= size
            self._room.notify()
        return row, found


def _size(value: Waveform | Frames) -> int:
    array: np.ndarray[Any, Any] = value.samples if isinstance(value, Waveform) else value.images
    return array.nbytes


@cache
def _child() -> Child:
    """This process's decoding child, kept from job to job; it ends with this process."""
    return Child(prepare=import_module("pipeline.media.video").prepare)


class Files:
    """The media files of some rows: each looked at once now, and hashed only where it is not as it was remembered."""

    def __init__(self, kind: str, rows: Sequence[Utterance], root: Path, memory: Path) -> None:
        self.root = root
        sources = [source for row in rows if (source := getattr(row, kind)) is not None]
        self._stamps = {path: stamp(path) for path in sorted({str(root / source.path) for source in sources})}
        self._digests = remembered(self._stamps, memory)

    def sound(self, source: Audio | Video) -> bool:
        """True where the file has the bytes that the manifest says."""
        return self._digests[str(self.root / source.path)] == source.digest

    def untouched(self, source: Audio | Video) -> bool:
        """True where the file has not been changed since it was looked at; one look."""
        path = str(self.root / source.path)
        return stamp(path) == self._stamps[path]


def _feed(
    kind: str, rows: Sequence[Utterance], files: Files, wanted: Sequence[Sequence[tuple[str, Stage]]], ahead: _Ahead
) -> None:
    error = None
    try:
        child = _child()
        for row, stages in zip(rows, wanted, strict=True):
            if ahead.closed.is_set():
                break
            ahead.put(row, _decode(child, kind, row, files, stages))
    except BaseException as caught:
        error = caught
    ahead.finish(error)


def _decode(child: Child, kind: str, row: Utterance, files: Files, stages: Sequence[tuple[str, Stage]]) -> Decoded:
    source: Audio | Video | None = getattr(row, kind)
    if source is None:
        return Unreadable(Reason.ABSENT)
    if source.digest == MISSING:
        return Unreadable(Reason.MISSING_FILE, source.path)
    found = _read(child, kind, source, files.root, stages) if files.sound(source) else None
    if found is None or not files.untouched(source):  # also where it failed: that is a fact about other bytes
        return Unreadable(Reason.IO_ERROR, f"{source.path} is not what it was when the corpus was scanned")
    return found


def _read(child: Child, kind: str, source: Audio | Video, root: Path, stages: Sequence[tuple[str, Stage]]) -> Decoded:
    try:
        found = child.call(read, kind, source, root, [stage for _, stage in stages], deadline_s=DEADLINE_S)
    except Unreadable as why:
        return why
    return {name: value for (name, _), value in zip(stages, found, strict=True)}
