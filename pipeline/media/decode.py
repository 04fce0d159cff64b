"""Decodes the rows of a job in a child process, ahead of the stages that read them, within a bound of memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.dialogue import Context, Turn
from pipeline.media import audio, video
from pipeline.media.bounds import bound_this_process, decoder_bound
from pipeline.media.child import DEADLINE_S, Child
from pipeline.media.files import WITHOUT_BYTES, remembered, stamp
from pipeline.media.stretches import name
from pipeline.reason import Reason, Unreadable
from pipeline.stage import ID, Frames, Stage, Waveform
from pipeline.utterance import Stretch, Utterance

AHEAD_BYTES = 256 * 2**20
"""How many bytes may be decoded before the stages have read them."""

Decoded = dict[str, Any] | Unreadable
"""The input of each stage by the stage's name, or why there is none."""

_DECODERS: Mapping[str, Callable[..., list[Any]]] = {"audio": audio.decode, "video": video.decode}


def decoded(
    kind: str,
    rows: Sequence[Utterance],
    root: Path,
    wanted: Sequence[Sequence[tuple[str, Stage]]],
    memory: Path,
    before: Mapping[str, Sequence[Utterance]] | None = None,
) -> Iterator[tuple[Utterance, Decoded]]:
    """Yields each row with the input of its stages. `kind` is "text", "dialogue", "audio", "video" or "id".

    `wanted` holds, for each row, the names and the stages that read it; `before`, for "dialogue" alone, the turns
    before each row, at least as many as its stages read. Audio and video are decoded in a child process while the
    caller works on the rows before. Each clip has a deadline and a bound of memory, and a decoder that crashes, hangs
    or needs more costs only that clip. A file that differs from what the manifest says gives IO_ERROR, because its
    values would be cached under the key of other bytes. `memory` is the memo of digests, see
    `pipeline.media.files.remembered`.
    """
    if kind == ID:
        yield from ((row, {name: row.id for name, _ in stages}) for row, stages in zip(rows, wanted, strict=True))
        return
    if kind in ("text", "dialogue"):
        for row, stages in zip(rows, wanted, strict=True):
            turns = before.get(row.id, ()) if before and kind == "dialogue" else ()
            yield row, _text(row, stages, turns)
        return
    ahead = _Ahead(AHEAD_BYTES)
    files = ScannedFiles(kind, rows, root, memory)
    thread = threading.Thread(target=_feed, args=(kind, rows, files, wanted, ahead), daemon=True)
    thread.start()
    try:
        yield from iter(ahead.get, None)
    finally:
        ahead.closed.set()
        thread.join()


def read(kind: str, stretches: Sequence[Stretch], root: Path, stages: Sequence[Stage]) -> list[Any]:
    """Decodes the stretches of one row for some stages, in this process. Raises Unreadable."""
    return _DECODERS[kind](stretches, root, stages)


def _text(row: Utterance, stages: Sequence[tuple[str, Stage]], before: Sequence[Utterance]) -> Decoded:
    """The transcript, or for a stage that reads the dialogue the turns `before` and the transcript's own turn."""
    if row.text is None and row.text_digest is None:
        return Unreadable(Reason.ABSENT)
    for turn in (*before, row):
        if turn.text is None and turn.text_digest is not None:  # left out of a pulled manifest, and may come back
            return Unreadable(Reason.IO_ERROR, f"the transcript of {turn.id} is not here")
    if not row.text or not row.text.strip():
        return Unreadable(Reason.NO_TEXT)
    return {name: _turns((*before, row), stage.dialogue) if stage.dialogue else row.text for name, stage in stages}


def _turns(turns: Sequence[Utterance], context: Context) -> tuple[Turn, ...]:
    return tuple(Turn(t.text or "", t.speaker if context.speakers else None) for t in turns[-context.turns - 1 :])


class _Ahead:
    """A queue between the decoding thread and the caller, bounded by the bytes in it."""

    def __init__(self, limit: int) -> None:
        self.closed = threading.Event()
        self._limit, self._held = limit, 0
        self._queue: queue.Queue[tuple[Utterance, Decoded, int] | BaseException | None] = queue.Queue()
        self._room = threading.Condition()

    def put(self, row: Utterance, inputs: Decoded) -> None:
        size = 0 if isinstance(inputs, Unreadable) else sum(map(size_bytes, inputs.values()))
        with self._room:
            while self._held > 0 and self._held + size > self._limit and not self.closed.is_set():
                self._room.wait(0.2)
            self._held += size
        self._queue.put((row, inputs, size))

    def finish(self, error: BaseException | None) -> None:
        self._queue.put(error)

    def get(self) -> tuple[Utterance, Decoded] | None:
        entry = self._queue.get()
        if isinstance(entry, BaseException):
            raise entry
        if entry is None:
            return None
        row, inputs, size = entry
        with self._room:
            self._held -= size
            self._room.notify()
        return row, inputs


def size_bytes(value: Waveform | Frames | str | tuple[Turn, ...]) -> int:
    """The size of sound or pictures; 0 for text, which is small."""
    if isinstance(value, Waveform):
        return value.samples.nbytes
    return value.images.nbytes if isinstance(value, Frames) else 0


@cache
def _child() -> Child:
    """The decoding child of this process, which is kept from job to job and ends with this process."""
    return Child(prepare=_prepare, bound=decoder_bound())


def _prepare() -> None:
    video.prepare()
    bound_this_process()


class ScannedFiles:
    """The media files of some rows, to be compared with what the manifest says of them."""

    def __init__(self, kind: str, rows: Sequence[Utterance], root: Path, memory: Path) -> None:
        self.root = root
        paths = {str(root / path) for row in rows for path in row.files(kind)}
        self._stamps = {path: stamp(path) for path in sorted(paths)}
        self._digests = remembered(self._stamps, memory)

    def as_scanned(self, stretch: Stretch) -> bool:
        """True if the file of a stretch has the bytes that the manifest says."""
        return self._digests[str(self.root / stretch.path)] == stretch.digest

    def unchanged(self, stretch: Stretch) -> bool:
        """True if the file still has the stamp it had at the beginning. Stats the file."""
        path = str(self.root / stretch.path)
        return stamp(path) == self._stamps[path]


def _feed(
    kind: str,
    rows: Sequence[Utterance],
    files: ScannedFiles,
    wanted: Sequence[Sequence[tuple[str, Stage]]],
    ahead: _Ahead,
) -> None:
    """Decodes the rows in order until the caller is done or an error ends the work; the caller then raises it."""
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


def _decode(
    child: Child, kind: str, row: Utterance, files: ScannedFiles, stages: Sequence[tuple[str, Stage]]
) -> Decoded:
    stretches: Sequence[Stretch] = getattr(row, kind)
    if not stretches:
        return Unreadable(Reason.ABSENT)
    for index, stretch in enumerate(stretches):
        if why := WITHOUT_BYTES.get(str(stretch.digest)):
            return Unreadable(why.reason, f"{name(stretches, index)}{why.detail}")
    changed = [stretch.path for stretch in stretches if not files.as_scanned(stretch)]
    inputs = {} if changed else _read(child, kind, stretches, files.root, stages)
    changed += [stretch.path for stretch in stretches if not files.unchanged(stretch)]
    if changed:  # also if decoding failed: other bytes failed
        return Unreadable(Reason.IO_ERROR, f"{changed[0]} is not what it was when the corpus was scanned")
    return inputs


def _read(
    child: Child, kind: str, stretches: Sequence[Stretch], root: Path, stages: Sequence[tuple[str, Stage]]
) -> Decoded:
    try:
        values = child.call(read, kind, stretches, root, [stage for _, stage in stages], deadline_s=DEADLINE_S)
    except Unreadable as error:
        return error
    return {name: value for (name, _), value in zip(stages, values, strict=True)}
