"""Opens a corpus: its raw release, or where that is not here the manifest that another team pushed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cache.home import Home
from pipeline.cache.record import Record
from pipeline.cache.store import Store
from pipeline.console import console
from pipeline.corpus import manifest, pulled_manifest
from pipeline.corpus.lock_file import Lock, lock_path, read_lock
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.recipe import Recipe
from pipeline.corpus.recipe_file import read_recipe, recipe_path
from pipeline.errors import InputError, RemoteError, closest
from pipeline.plan.catalogue import Planner
from pipeline.plan.jobs import ExtractJob, Job
from pipeline.plan.planned import Plan
from pipeline.run.driver import Corpus
from pipeline.run.exchange import Place
from pipeline.stage import RAW

if TYPE_CHECKING:
    from pipeline.cache.remote import Remote
    from pipeline.plan.session import Options


@dataclass(frozen=True)
class Opened:
    """A corpus and the cache it is worked with; `place` is where other machines find it."""

    corpus: Corpus
    store: Store
    place: Place


def open_corpus(home: Home, options: Options) -> Opened:
    """Reads recipe and manifest. Raises InputError for what is wrong with either, or with the lock where it counts."""
    path = recipe_path(options.dataset)
    if lock_path(path).exists():
        home.note_lock(lock_path(path))
    pulled = pulled_manifest.noted(home.root, path.stem)
    read = read_recipe(
        path,
        root=options.root,
        changes=options.changes,
        memory=home.memory,
        home=home.root,
        elsewhere=pulled.weights if pulled else None,
    )
    _known(options, read)
    remote = reachable(options.url, home.cache)
    lock = read_lock(lock_path(path)) if options.locked else None
    store = Store(home.cache, remote)
    found = _manifest(home, read, pulled, store)
    if lock is not None:
        _same_manifest(lock, found, path)
        store = Store(home.cache, remote, fixed(lock, remote, home.cache))
    place = Place(read.name, read.written_root, read.reader)
    return Opened(Corpus(read, found, options.protocol or read.protocol), store, place)


def reachable(url: str, cache: Path) -> Remote | None:
    """The remote, or None with a warning where it cannot be reached: the work then goes on locally."""
    if not url:
        return None
    from pipeline.cache.remote import Remote

    remote = Remote(url, cache)
    try:
        remote.check()
    except RemoteError as error:
        console.print(f"[yellow]going on without the remote: {error}[/yellow]")
        return None
    return remote


def fixed(lock: Lock, remote: Remote | None, cache: Path) -> dict[str, dict[str, Record]]:
    """The records a lock names, by stage and key. Raises RemoteError where an index is neither here nor there."""
    from pipeline.cache.remote import Remote

    source = remote or Remote("", cache)
    indexes = {stage: source.records(stage, digest) for stage, digest in lock.indexes.items()}
    return {stage: {record.key: record for record in records} for stage, records in indexes.items()}


def check_raw(found: Manifest, plan: Plan) -> None:
    """Raises InputError where a plan needs media or transcripts that are not here."""
    text = all(row.text is not None or row.text_digest is None for row in found.rows)
    absent = {kind for kind, modality in RAW.items() if (not text if modality == "text" else not found.media)}
    rows = Counter(name for job in plan.jobs for name in _raw_rows(job, absent))
    missing = {kind for job in plan.jobs for kind in _kinds(job) & absent}
    if rows:
        wanted = ", ".join(f"{name}: {count:,} rows" for name, count in sorted(rows.items()))
        raise InputError(
            f"these features are neither here nor on the remote, and {found.root} has no "
            f"{' or '.join(sorted(missing))} to compute them from: {wanted}. Pull them, or give "
            "ROOT=/path/to/the/corpus"
        )


def _kinds(job: Job) -> set[str]:
    """The raw input a job works from."""
    nodes = [run.node for run in job.runs] if isinstance(job, ExtractJob) else [job.node]
    return {kind for node in nodes for kind in node.stage.inputs}


def _raw_rows(job: Job, missing: set[str]) -> Iterator[str]:
    """The stage's name for each row of a job that is made from raw input that is missing."""
    if not isinstance(job, ExtractJob):
        rows = [*job.train, *job.valid] if missing & _kinds(job) else []
        yield from (f"{job.node.name} (fit)" for _ in rows)
        return
    for run in job.runs:
        if missing.intersection(run.node.stage.inputs):
            yield from (run.node.name for key in run.keys if key not in run.copies)


def _known(options: Options, read: Recipe) -> None:
    modalities = {m for selections in read.features.values() for m in selections}
    if options.modality and options.modality not in modalities:
        raise InputError(f"no modality {options.modality!r} in this recipe: {closest(options.modality, modalities)}")
    for name in set(options.features) - read.features.keys():
        raise InputError(f"no feature set {name!r} in this recipe: {closest(name, read.features)}")


def _manifest(home: Home, read: Recipe, pulled: pulled_manifest.Pulled | None, store: Store) -> Manifest:
    if read.root.exists() or pulled is None:
        return manifest.build(read.reader, read.root, home.memory)
    console.print(f"{read.root} is not here: going by the pulled manifest {pulled.digest[:12]}")
    return pulled.load(store, read.root)


def _same_manifest(lock: Lock, found: Manifest, recipe: Path) -> None:
    if found.digest != lock.manifest:
        raise InputError(
            f"the manifest here is {found.digest[:12]}, {lock_path(recipe)} names {lock.manifest[:12]}: this copy of "
            "the corpus is another one; leave out --locked, or agree on it with --relock"
        )


def bring_locked(planner: Planner) -> None:
    """Fetches what a lock names and is not here. Raises InputError naming what is asked for and is not in the lock,
    RemoteError where an object cannot be had."""
    plan = planner.plan()
    todo = plan.pending + Counter(name for job in plan.jobs for name in _names(job))
    if todo:
        wanted = ", ".join(f"{name}: {count:,}" for name, count in sorted(todo.items()))
        raise InputError(f"not in the lock: {wanted}. Leave out --locked, or agree on them with --relock")
    for node, scope in planner.wanted:
        for record in (planner.final(node, shard) for shard in planner.shards(node, scope) or ()):
            if record is not None:
                planner.store.open(record)


def _names(job: Job) -> list[str]:
    return [run.node.name for run in job.runs for _ in run.keys] if isinstance(job, ExtractJob) else [job.node.name]
