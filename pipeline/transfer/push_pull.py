"""`affectory push` and `pull`: shards, states and manifest of a recipe, to and from a remote cache."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.cache.atomic import writable
from pipeline.cache.home import Home
from pipeline.cache.record import FITS, Record
from pipeline.cache.remote_inventory import Inventory
from pipeline.cache.store import Store
from pipeline.console import BYTES, bar, print_line
from pipeline.corpus import pulled_manifest
from pipeline.corpus.fit_scope import labelled
from pipeline.corpus.lock_file import read_lock
from pipeline.corpus.open_corpus import Options, lock_of, remember
from pipeline.corpus.pulled_manifest import Pulled
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.corpus.release_file import released
from pipeline.errors import InputError, RemoteError
from pipeline.plan.session import Session
from pipeline.run.reference_job import open_session
from pipeline.transfer.final_records import check_whole, final_records, lock, missing_because, saved_manifest

THREADS = 8
"""The number of objects that are sent or fetched at the same time."""
SURE_S = 43_200.0
"""Seconds for which an object that no index names is safe from a `gc` of another machine: half of its limit."""


def push(
    home: Home, options: Options, *, text: bool = True, relock: bool = False, repair: bool = False
) -> dict[str, Any]:
    """Answers `affectory push`: sends the final objects that the remote lacks, then indexes and manifest; locks them.

    text: sends the transcripts with the manifest. repair: checks that the objects that indexes name are really there.
    Raises InputError if no remote is given, RemoteError if it fails.
    """
    if released(recipe_path(options.dataset)):
        raise InputError("a release is pushed by its name: --release NAME-VERSION (RELEASE=)")
    if not re.fullmatch(r"[^\ud800-\udfff]+", recipe_path(options.dataset).stem):
        raise InputError("others know a dataset by the name of its recipe, and this one is no UTF-8: rename the file")
    remote = reached(home, options)
    session = open_session(home, options)
    check_whole(session)
    if _whole(options):
        check_lock(home, recipe_path(options.dataset))
    with session.pinned():
        final = final_records(session)
        there = {stage: remote.index(stage) for stage in final.indexes}
        chosen = {stage: [_agreed(r, there[stage]) for r in records] for stage, records in final.indexes.items()}
        named = set() if repair else {r.object for records in there.values() for r in records.values()}
        records = {r.object: r for records in chosen.values() for r in records if r.object not in named}
        sent = send(remote, session.catalogue.store, records.values())
        indexes = {stage: remote.publish(stage, records) for stage, records in chosen.items() if records}
        shared = _push_manifest(session, remote, text)
    recipe = session.corpus.recipe
    if recipe.reader.licence:
        print_line(f"{recipe.name}: {recipe.reader.licence}")
    if final.incomplete:
        print_line(f"Not pushed, since not final: {final.missing()}")
    answer = {"dataset": recipe.name, "remote": remote.url, "objects": len(sent), "bytes": sum(sent)}
    if _whole(options) and not final.incomplete:
        answer["lock"] = lock(session, shared, indexes, relock)
    return answer


def pull(home: Home, options: Options, *, split: str = "") -> dict[str, Any]:
    """Answers `affectory pull`: fetches the manifest, then the shards and states of the recipe that are not here.

    split: train, valid or test, for only those shards that have such a row. Raises InputError if no remote is given or
    nobody has pushed the manifest, RemoteError if the remote cannot be reached.
    """
    remote = reached(home, options)
    path = recipe_path(options.dataset)
    release = released(path)
    agreed = read_lock(lock_of(home, path)) if options.locked and not release else None
    pulled = release.pulled if release else pulled_manifest.latest(remote, path.stem, agreed)
    store = Store(home.cache, remote)
    session = _opened(home, options, pulled, store)
    check_whole(session)
    with session.pinned():
        final = final_records(session, split)
        if release and final.incomplete:
            raise InputError(
                f"{release.label} has these features under other keys than this version: {final.missing()}"
            )
        if not release:
            pulled_manifest.note(home.root, home_name(path), pulled)
        store.adopt(pulled.record)
        records = [record for stage in final.indexes.values() for record in stage]
        fetched = _fetch(session.catalogue.store, records)
    remember(home, options)
    if final.incomplete:
        print_line(f"Not on the remote: {final.missing()}\n" + "\n".join(missing_because(session, remote)))
    return {
        "dataset": session.corpus.recipe.name,
        "remote": remote.url,
        "manifest": pulled.digest,
        "objects": len(fetched),
        "bytes": sum(fetched),
        "missing": dict(final.incomplete),
        "libraries": [verdict.answer() for verdict in session.verdicts],
    }


# --- push ------------------------------------------------------------------------------------------------------


def check_lock(home: Home, recipe: Path) -> None:
    """Says where the lock will be, if not beside the recipe. Raises InputError if it cannot be written anywhere."""
    place = lock_of(home, recipe, written=True)
    if not writable(place.parent):
        raise InputError(f"neither {recipe.parent} nor {home.root} can be written, and the lock goes to one of them")
    if place.parent != recipe.parent:
        print_line(f"{recipe.parent} cannot be written, so the lock will be {place}")


def reached(home: Home, options: Options) -> Inventory:
    """The remote of the options. Raises InputError if they name none, RemoteError if it cannot be reached."""
    if not options.url:
        raise InputError("which remote? Give REMOTE=s3://bucket/prefix, or set AFFECTORY_REMOTE")
    remote = Inventory(options.url, home.cache)
    remote.check()
    return remote


def _agreed(record: Record, index: Mapping[str, Record]) -> Record:
    """The record of the index, unless this one has fewer failed rows. A state is always ours: our rows depend on it."""
    other = index.get(record.key)
    if other is None or record.stage.endswith(FITS) or len(record.reasons) < len(other.reasons):
        return record
    return other


def send(remote: Inventory, store: Store, records: Collection[Record]) -> list[int]:
    """Uploads the objects that are here and not on the remote. Returns the bytes of each.

    An object that no index names may be left from a push that broke off, and is not sent again while it is young. An
    older one is, since a `gc` elsewhere may be about to delete it.
    """
    files = {file.place: file for file in remote.files("objects")} if records else {}
    now = time.time()

    def lacks(record: Record) -> bool:
        file = files.get(remote.place(record))
        return file is None or file.size != record.size or file.older(SURE_S, now)

    def send(record: Record, moved: Callable[[int], None]) -> None:
        remote.put(record, store.bring(record))
        moved(record.size)

    return _move("push", [record for record in records if store.here(record) and lacks(record)], send)


def _push_manifest(session: Session, remote: Inventory, text: bool) -> Record:
    """Sends the manifest, unless it was itself pulled. Returns the record of its object."""
    record = saved_manifest(session, text)
    if session.corpus.manifest.media:
        remote.send(record, session.catalogue.store.open(record))
        remote.publish(record.stage, [record], newest=True)
    return record


# --- pull ------------------------------------------------------------------------------------------------------


def _opened(home: Home, options: Options, pulled: Pulled, store: Store) -> Session:
    """A session on a pulled manifest, or on the raw release if that is here. Nothing is noted of a manifest that is
    refused: its rows and labels are checked first, as those of a scan are. Raises InputError."""
    session = open_session(home, options, pulled)
    recipe = session.corpus.recipe
    rows = pulled.load(store, recipe.root).rows if session.corpus.manifest.media else session.corpus.manifest.rows
    labelled(rows, recipe.labels)
    return session


def _fetch(store: Store, records: Iterable[Record]) -> list[int]:
    """Fetches the objects that are not here, then notes their records. Returns the bytes of each object."""
    remote = store.remote
    if remote is None or store.failure is not None:
        raise RemoteError(f"the remote went away: {store.failure or 'no remote'}")
    missing = {record.object: record for record in records if not store.here(record)}

    def fetch(record: Record, moved: Callable[[int], None]) -> None:
        remote.fetch(record, store.path(record), moved)

    sizes = _move("pull", list(missing.values()), fetch)
    for record in records:
        store.adopt(record)
    return sizes


def _move(name: str, records: Sequence[Record], move: Callable[[Record, Callable[[int], None]], None]) -> list[int]:
    """Moves objects, several at once, under a bar of bytes. If one fails, the finished ones are kept."""
    with bar(name, BYTES, sum(record.size for record in records)) as moved, ThreadPoolExecutor(THREADS) as pool:
        try:
            list(pool.map(lambda record: move(record, moved), records))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [record.size for record in records]


def _whole(options: Options) -> bool:
    """True if a call is about the whole recipe as it is written: only that is worth a lock."""
    return not (options.modality or options.features or options.changes or options.protocol)
