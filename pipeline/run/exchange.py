"""How driver and workers pass shards to each other: through one cache that all see, or each with a cache of its own
and a remote between them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

from pipeline.cache import keys
from pipeline.cache.home import Home
from pipeline.cache.record import Record
from pipeline.cache.store import Store
from pipeline.cache.weights import pinned_digest
from pipeline.corpus.manifest import media_digests
from pipeline.corpus.recipe_file import corpus_root
from pipeline.errors import InputError, RemoteError
from pipeline.plan.jobs import ExtractJob, FitJob, Job
from pipeline.reader import Reader
from pipeline.reason import Outcome, Reason


@dataclass(frozen=True)
class Place:
    """Where a machine finds its own copy of a corpus: see `pipeline.corpus.recipe_file.corpus_root`."""

    dataset: str
    written: str
    reader: Reader

    def ready(self) -> str:
        """The corpus's root on this machine, made where the reader can make it. Raises InputError where it is not."""
        root = corpus_root(self.dataset, "", self.written, Home().root)
        self.reader.prepare(root)
        if not root.is_dir():
            raise self.reader.missing(root)
        return str(root)


@dataclass(frozen=True)
class Exchange:
    """Sent to workers with every job.

    cache: the driver's. remote: the URL of the remote, or "". apart: None where workers see the driver's cache and
    corpus, else where each finds its own copy of the corpus; then it saves to a cache of its own, and to the remote.
    """

    cache: Path
    remote: str = ""
    apart: Place | None = None

    def store(self) -> Store:
        """This process's store: it verifies each object once."""
        return _store(self.cache if self.apart is None else Home().cache, self.remote)

    def localised(self, job: Job) -> Job:
        """The job as this machine can do it: over its own copy of the corpus.

        A row whose media differ fails for now when it is decoded, see `pipeline.media.decode`. A fit cannot do
        without it: it raises InputError.
        """
        if self.apart is None:
            return job
        _refuse_other_weights(job)
        root = Path(self.apart.ready())
        if isinstance(job, FitJob) and (found := _differing(job, root)):
            raise InputError(f"{root} is not the driver's copy of the corpus: the media of {found[0]} differ")
        return replace(job, root=root)

    def offer(self, store: Store, jobs: Sequence[Job]) -> Sequence[Job]:
        """The jobs, once what they read, and the driver alone has, is where workers apart can get it."""
        if self.apart is not None and store.remote is not None:
            for ref in {ref.object: ref for job in jobs for ref in job.reads}.values():
                if store.here(ref):
                    store.remote.send(ref, store.open(ref))
        return jobs

    def share(self, store: Store, outcome: Outcome) -> Outcome:
        """Puts what a job saved where the driver can get it; the records go with the outcome only where they must."""
        if self.apart is None:
            return replace(outcome, saved=[])
        if store.remote is None:
            raise RemoteError(f"{self.remote} went away: what was computed cannot be handed on")
        for record in outcome.saved:
            if store.here(record):
                store.remote.put(record, store.open(record))
        return outcome


def adopt(store: Store, records: list[Record]) -> None:
    """Notes what a worker saved in a cache of its own; rows whose reason may pass make it provisional."""
    for record in records:
        provisional = any(Reason(reason).transient for reason in record.reasons.values())
        store.adopt(record, provisional)


def marks(*paths: Path) -> dict[Path, int]:
    """By which another machine knows whether a path there is the same file or folder, and not one of the same name.

    What is not there, the media behind a pulled manifest say, is not asked for.
    """
    return {path: path.stat().st_ino for path in paths if path.exists()}


def shares(cache: Path, known: Mapping[Path, int]) -> bool:
    """True on a worker that uses the driver's cache: it sees the same files, and was given no other home."""
    own = os.environ.get("AFFECTORY_HOME")
    seen = all(path.exists() and path.stat().st_ino == mark for path, mark in known.items())
    return seen and (not own or Home().cache == cache)


@contextmanager
def token(cache: Path) -> Iterator[Path]:
    """A file that only those see who share the cache's disk: the same path may stand on another disk too."""
    folder = cache / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="seen-") as file:
        yield Path(file.name)


@cache
def _store(root: Path, url: str) -> Store:
    from pipeline.cache.remote import Remote

    return Store(root, Remote(url, root) if url else None)


def _refuse_other_weights(job: Job) -> None:
    """Raises InputError where a local file of weights is not, on this machine, what the driver's key says."""
    for node in [run.node for run in job.runs] if isinstance(job, ExtractJob) else [job.node]:
        for f in fields(node.stage):
            name, wanted = getattr(node.stage, f.name), node.params[f.name]
            if f.metadata.get("source") and wanted != name and not pinned_digest(name):
                path = Path(name).expanduser()
                found = keys.file_digest(path) if path.is_dir() else media_digests([path], Home().memory)[path]
                if found != wanted:
                    raise InputError(f"{name} is not here, or is not the driver's copy of these weights")


def _differing(job: FitJob, root: Path) -> list[str]:
    """Utterances whose media of this job's kind are not, here, what the manifest says."""
    rows = (*job.train, *job.valid)
    kind = {"audio": "audio", "visual": "video"}.get(job.modality)
    media = {row.id: found for row in rows if kind and (found := getattr(row, kind)) is not None}
    digests = media_digests(sorted({root / each.path for each in media.values()}), Home().memory)
    return [name for name, each in media.items() if digests[root / each.path] != each.digest]
