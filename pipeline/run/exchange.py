"""How driver and workers pass shards to each other: through one cache that all see, or through a remote between caches
of their own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol

from pipeline.cache.home import Home
from pipeline.cache.record import Record
from pipeline.cache.store import Store
from pipeline.corpus.open_corpus import CorpusLocation
from pipeline.errors import InputError, RemoteError
from pipeline.media.files import media_digests
from pipeline.plan.jobs import FitJob, Job, ReferenceJob
from pipeline.reason import Reason
from pipeline.run.outcome import Outcome
from pipeline.run.stage_calls import check_weights
from pipeline.utterance import Stretch


class Exchange(Protocol):
    """How shards pass between driver and workers. It is sent to workers with every job."""

    def store(self) -> Store:
        """This worker's store. It is kept for the life of the process, and verifies each object once."""

    def localised(self, job: Job) -> Job:
        """The job as this machine can do it. Raises InputError if it can't."""

    def offer(self, store: Store, jobs: Sequence[Job]) -> Sequence[Job]:
        """The jobs, once workers can get at what they read. store: the driver's."""

    def share(self, store: Store, outcome: Outcome) -> Outcome:
        """The outcome, once the driver can get at what was saved."""


@dataclass(frozen=True)
class SharedCache:
    """Workers see the driver's cache and corpus, so nothing has to be passed on.

    cache: the driver's. remote: the URL of a remote that is read through, or "".
    """

    cache: Path
    remote: str = ""

    def store(self) -> Store:
        """A store over the driver's cache."""
        return _store(self.cache, self.remote)

    def localised(self, job: Job) -> Job:
        """The same job."""
        return job

    def offer(self, store: Store, jobs: Sequence[Job]) -> Sequence[Job]:
        """The same jobs."""
        return jobs

    def share(self, store: Store, outcome: Outcome) -> Outcome:
        """The outcome without its records, which the driver finds in the cache."""
        return replace(outcome, saved=[])


@dataclass(frozen=True)
class OwnCache:
    """Each worker has a cache and a copy of the corpus of its own; shards pass through the remote.

    location: where each worker finds its copy of the corpus.
    """

    remote: str
    location: CorpusLocation

    def store(self) -> Store:
        """A store over the cache of this machine's home."""
        home = Home()
        home.check_edition()
        return _store(home.cache, self.remote)

    def localised(self, job: Job) -> Job:
        """The job over this machine's copy of the corpus.

        A row whose media differ fails for a transient reason when it is decoded, see `pipeline.media.decode`. Weights
        that differ, and media of a fit's rows that do, raise InputError.
        """
        for node in job.nodes:
            check_weights(node)
        if isinstance(job, ReferenceJob):
            return job  # the sample is part of the code
        root = Path(self.location.ready())
        if isinstance(job, FitJob) and (differing := _differing(job, root)):
            raise InputError(f"{root} is not the driver's copy of the corpus: the media of {differing[0]} differ")
        return replace(job, root=root)

    def offer(self, store: Store, jobs: Sequence[Job]) -> Sequence[Job]:
        """The jobs, once everything they read that only the driver has is on the remote."""
        if store.remote is not None:
            for ref in {ref.object: ref for job in jobs for ref in job.reads}.values():
                if store.here(ref):
                    store.remote.send(ref, store.open(ref))
        return jobs

    def share(self, store: Store, outcome: Outcome) -> Outcome:
        """The outcome with its records, once their objects are on the remote. Raises RemoteError if they can't be."""
        if store.remote is None:
            raise RemoteError(f"there is no remote to share what was computed, which should be {self.remote}")
        for record in outcome.saved:
            if store.here(record):
                store.remote.put(record, store.open(record))
        return outcome


def adopt(store: Store, records: list[Record]) -> None:
    """Notes what a worker saved in a cache of its own; rows with a transient reason make a record provisional."""
    for record in records:
        provisional = any(Reason(reason).transient for reason in record.reasons.values())
        store.adopt(record, provisional)


def inodes(*paths: Path) -> dict[Path, int]:
    """The inode of each path, by which a worker checks that it sees the same disk.

    Paths that do not exist, such as the media behind a pulled manifest, are left out.
    """
    return {path: path.stat().st_ino for path in paths if path.exists()}


def shares(cache: Path, known: Mapping[Path, int]) -> bool:
    """True on a worker that uses the driver's cache: it sees the same files, and was given no other home.

    known: inodes as the driver sees them.
    """
    own = os.environ.get("AFFECTORY_HOME")
    seen = all(path.exists() and path.stat().st_ino == inode for path, inode in known.items())
    return seen and (not own or Home().cache == cache)


@contextmanager
def token(cache: Path) -> Iterator[Path]:
    """A temporary file in the cache, which only those see who share its disk: another disk may have the same path."""
    folder = cache / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="seen-") as file:
        yield Path(file.name)


@cache
def _store(root: Path, url: str) -> Store:
    from pipeline.cache.remote import Remote

    return Store(root, Remote(url, root) if url else None)


def _differing(job: FitJob, root: Path) -> list[str]:
    """Utterances whose media of this job's kind are not, here, what the manifest says."""
    rows = (*job.train, *job.valid)
    kind = {"audio": "audio", "visual": "video"}.get(job.modality)
    media: dict[str, Sequence[Stretch]] = {row.id: getattr(row, kind) for row in rows if kind}
    paths = {root / stretch.path for stretches in media.values() for stretch in stretches}
    digests = media_digests(sorted(paths), Home().memory)
    return [name for name, stretches in media.items() if any(digests[root / s.path] != s.digest for s in stretches)]
