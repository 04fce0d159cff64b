"""Examines media files side by side, each in a child process: one that crashes or hangs a decoder costs only itself."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from pipeline.console import bar
from pipeline.media.bounds import decoder_bound
from pipeline.media.child import DEADLINE_S, Child
from pipeline.media.doctor_file import examine, prepare
from pipeline.media.doctor_memory import Content
from pipeline.media.doctor_rules import AudioFacts, Examination, Kind, VideoFacts
from pipeline.reason import Reason, Unreadable

BYTES_PER_S = 2e6
"""The examination of a large file may take a second longer for so many bytes."""


def examined(paths: Mapping[Content, Path], workers: int) -> Generator[tuple[Content, Examination]]:
    """Examines the content of each path and yields the examinations as they come, under a live bar.

    If the caller stops early, no other file is begun, and the children that are at work are ended.
    """
    children = [Child(prepare=prepare, bound=decoder_bound()) for _ in range(min(workers, len(paths)))]
    idle: SimpleQueue[Child] = SimpleQueue()
    for child in children:
        idle.put(child)
    pool = ThreadPoolExecutor(max(1, len(children)))
    try:
        with bar("doctor", "streams", len(paths)) as advance:
            futures = {pool.submit(_examined, idle, content.kind, path): content for content, path in paths.items()}
            for future in as_completed(futures):
                advance(1)
                yield futures[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.close()
        pool.shutdown()


def _examined(idle: SimpleQueue[Child], kind: Kind, path: Path) -> Examination:
    """The examination of one file by a child that is idle."""
    child = idle.get()
    try:
        deadline_s = DEADLINE_S + path.stat().st_size / BYTES_PER_S
        facts: AudioFacts | VideoFacts = child.call(examine, kind, path, deadline_s=deadline_s)
    except FileNotFoundError:
        return Unreadable(Reason.MISSING_FILE, path.name)
    except OSError as error:
        return Unreadable(Reason.IO_ERROR, str(error))
    except Unreadable as error:
        return error
    finally:
        idle.put(child)
    return facts
