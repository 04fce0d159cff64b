"""Examines the media files of a corpus side by side, each in a child process, and remembers what was found.

A file that crashes or hangs the decoder costs itself alone. What was found stands under the digest of the file's
bytes and the versions of the code that found it, so that it is never taken for other bytes.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, cast

from pipeline.cache import keys
from pipeline.console import bar
from pipeline.media.child import Child
from pipeline.media.doctor_rules import Found, Pictures, Sound
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Utterance

DEADLINE_S = 60.0
"""What a file of any size may take."""
BYTES_PER_S = 2e6
"""What a large file may take beside that: a second for so many bytes."""
STOP_S = 5.0
"""How long an interrupted run waits for the files it has begun."""
SAVE_EVERY = 50
"""How many findings an interrupted run may lose."""

Kind = Literal["audio", "video"]
_WHOLE = (Reason.NOT_MEDIA, Reason.NO_AUDIO_STREAM, Reason.NO_VIDEO_STREAM)
_KINDS: Mapping[str, type[Sound | Pictures]] = {"audio": Sound, "video": Pictures}


@dataclass(frozen=True)
class Examination:
    """The sound or the pictures of one file, whose bytes have this digest."""

    kind: Kind
    digest: str
    path: Path


def examined(tasks: Sequence[Examination], memory: Path, workers: int) -> tuple[dict[tuple[Kind, str], Found], int]:
    """What is found, by kind and digest, and how much of it had to be looked for.

    `memory` remembers findings by digest, but for those worth another try (`Reason.transient`) and for a file that
    went away. Shows a live bar where there is something to do.
    """
    with _remembered(memory) as base:
        known = _known(base, tasks)
        todo = {(task.kind, task.digest): task for task in tasks if (task.kind, task.digest) not in known}
        for count, (task, found) in enumerate(_watched(list(todo.values()), workers), start=1):
            known[task.kind, task.digest] = found
            if not isinstance(found, Unreadable) or not _passing(found.reason):
                base.execute("insert or replace into found values (?, ?)", (_key(task), _packed(found)))
            if count % SAVE_EVERY == 0:
                base.commit()
    return known, len(todo)


def unreadable(rows: Iterable[Utterance], memory: Path) -> dict[tuple[str, str], Reason]:
    """By modality and utterance, the reason of each file that gives nothing whatever part of it is read.

    Of what `memory` holds, this alone does not depend on the stretch or on the decoder, so that extraction may take
    it over; it is remembered by the file's bytes and the versions of what examined it.
    """
    with _remembered(memory) as base:
        stored = dict(base.execute("select key, value from found"))
    found: dict[tuple[str, str], Reason] = {}
    for row in rows:
        for modality, kind, source in (("audio", "audio", row.audio), ("visual", "video", row.video)):
            if source is None or source.digest is None:
                continue
            kept = _unpacked(cast(Kind, kind), stored.get(_key(Examination(cast(Kind, kind), source.digest, memory))))
            if isinstance(kept, Unreadable) and kept.reason in _WHOLE:
                found[modality, row.id] = kept.reason
    return found


def examine(kind: Kind, path: Path) -> Sound | Pictures:
    """Examines one file, in this process. Raises Unreadable; see `pipeline.media.doctor_file`."""
    doctor = import_module("pipeline.media.doctor_file")
    found: Sound | Pictures = doctor.hear(path) if kind == "audio" else doctor.look(path)
    return found


def _passing(reason: Reason) -> bool:
    return reason.transient or reason is Reason.MISSING_FILE


@contextmanager
def _remembered(memory: Path) -> Iterator[sqlite3.Connection]:
    memory.parent.mkdir(parents=True, exist_ok=True)
    base = sqlite3.connect(memory, timeout=60)
    try:
        base.execute("create table if not exists found (key text primary key, value text)")
        yield base
    finally:
        base.commit()
        base.close()


def _key(task: Examination) -> str:
    doctor = import_module("pipeline.media.doctor_file")
    libraries = [keys.library_version(name) for name in ("av", "soundfile")]
    return keys.digest("doctor", doctor.VERSION, doctor.DECODERS, libraries, task.kind, task.digest)


def _known(base: sqlite3.Connection, tasks: Iterable[Examination]) -> dict[tuple[Kind, str], Found]:
    stored = dict(base.execute("select key, value from found"))
    found = {(task.kind, task.digest): _unpacked(task.kind, stored.get(_key(task))) for task in tasks}
    return {name: value for name, value in found.items() if value is not None}


def _packed(found: Found) -> str:
    if isinstance(found, Unreadable):
        return json.dumps({"reason": found.reason, "detail": found.detail})
    return json.dumps(asdict(found))


def _unpacked(kind: Kind, text: str | None) -> Found | None:
    """None for what is not there or was not written by `_packed`."""
    try:
        value = json.loads(text or "")
        if "reason" in value:
            return Unreadable(Reason(value["reason"]), str(value["detail"]))
        return _KINDS[kind](**value)
    except (ValueError, TypeError, KeyError):
        return None


def _watched(tasks: Sequence[Examination], workers: int) -> Iterator[tuple[Examination, Found]]:
    with bar("doctor", "streams", len(tasks)) as advance:
        for entry in _in_parallel(tasks, min(workers, len(tasks))):
            advance(1)
            yield entry


def _in_parallel(tasks: Iterable[Examination], workers: int) -> Iterator[tuple[Examination, Found]]:
    """What each task found, as it comes; threads that are told to stop finish the file they have."""
    todo: SimpleQueue[Examination] = SimpleQueue()
    done: SimpleQueue[tuple[Examination, Found] | BaseException | None] = SimpleQueue()
    for task in tasks:
        todo.put(task)
    threads = [threading.Thread(target=_work, args=(todo, done), daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            yield from _until_ended(done)
    finally:
        _stop(todo, threads)


def _stop(todo: SimpleQueue[Examination], threads: Sequence[threading.Thread]) -> None:
    with suppress(Empty):
        while True:
            todo.get_nowait()
    until = time.monotonic() + STOP_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _until_ended(
    done: SimpleQueue[tuple[Examination, Found] | BaseException | None],
) -> Iterator[tuple[Examination, Found]]:
    """Everything up to the end of one thread; raises what it raised."""
    while (entry := done.get()) is not None:
        if isinstance(entry, BaseException):
            raise entry
        yield entry


def _work(todo: SimpleQueue[Examination], done: SimpleQueue[Any]) -> None:
    try:
        with Child(prepare=import_module("pipeline.media.doctor_file").prepare) as child, suppress(Empty):
            while True:
                task = todo.get_nowait()
                done.put((task, _examined(child, task)))
        done.put(None)
    except BaseException as error:
        done.put(error)


def _examined(child: Child, task: Examination) -> Found:
    try:
        deadline_s = DEADLINE_S + task.path.stat().st_size / BYTES_PER_S
        found: Sound | Pictures = child.call(examine, task.kind, task.path, deadline_s=deadline_s)
    except FileNotFoundError:
        return Unreadable(Reason.MISSING_FILE, task.path.name)
    except OSError as error:
        return Unreadable(Reason.IO_ERROR, str(error))
    except Unreadable as why:
        return why
    return found
