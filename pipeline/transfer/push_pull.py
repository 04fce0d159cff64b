"""`push` and `pull`: the shards, states and manifest of a recipe, to and from a remote cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.cache.home import Home
from pipeline.cache.record import FITS, Record
from pipeline.cache.remote_inventory import Inventory
from pipeline.cache.store import Store
from pipeline.console import BYTES, bar, console
from pipeline.corpus import pulled_manifest
from pipeline.corpus.lock_file import lock_path, read_lock
from pipeline.corpus.open_corpus import Options, remember
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.errors import InputError, RemoteError
from pipeline.plan.session import Session
from pipeline.transfer.final_records import held, local_weights, lock

THREADS = 8
"""Objects on their way at once."""
SURE_S = 43_200.0
"""How long no `gc` of another machine can take an object that no index names: half of what it leaves alone."""


def push(
    home: Home, options: Options, *, text: bool = True, relock: bool = False, repair: bool = False
) -> dict[str, Any]:
    """`affectory push`: sends what is final and not there yet, then the indexes, the manifest and the lock.

    text: whether transcripts go with the manifest. repair: looks also whether what indexes name is really there.
    Raises InputError without a remote, RemoteError where it fails.
    """
    remote = _remote(home, options)
    session = Session.open(home, options)
    with session.pinned():
        found = held(session)
        theirs = {stage: remote.index(stage) for stage in found.indexes}
        chosen = {stage: [_agreed(r, theirs[stage]) for r in records] for stage, records in found.indexes.items()}
        believed = set() if repair else {r.object for records in theirs.values() for r in records.values()}
        records = {r.object: r for records in chosen.values() for r in records if r.object not in believed}
        sent = _send(remote, session.catalogue.store, records.values())
        indexes = {stage: remote.publish(stage, records) for stage, records in chosen.items() if records}
        _push_manifest(session, remote, text)
    recipe = session.corpus.recipe
    if recipe.reader.licence:
        console.print(f"{recipe.name}: {recipe.reader.licence}")
    if found.incomplete:
        console.print(f"Not pushed, since not final: {found.missing()}")
    answer = {"dataset": recipe.name, "remote": remote.url, "objects": len(sent), "bytes": sum(sent)}
    if _whole(options) and not found.incomplete:
        answer["lock"] = lock(session, indexes, relock)
    return answer


def pull(home: Home, options: Options, *, split: str = "") -> dict[str, Any]:
    """`affectory pull`: the manifest, then the shards and states of the recipe that are not here.

    split: train, valid or test of the protocol; shards without such a row stay there. Raises InputError without a
    remote or a pushed manifest, RemoteError where it cannot be reached.
    """
    remote = _remote(home, options)
    path = recipe_path(options.dataset)
    agreed = read_lock(lock_path(path)).manifest if options.locked else None
    pulled = pulled_manifest.latest(remote, path.stem, agreed)
    store = Store(home.cache, remote)
    store.bring(pulled.record)
    store.adopt(pulled.record)
    pulled_manifest.note(home.root, home_name(path), pulled)
    session = Session.open(home, options)
    with session.pinned():
        found = held(session, split)
        records = [record for stage in found.indexes.values() for record in stage]
        got = _fetch(session.catalogue.store, records)
    remember(home, options)
    if found.incomplete:
        console.print(f"Not on the remote: {found.missing()}")
    return {
        "dataset": path.stem,
        "remote": remote.url,
        "manifest": pulled.digest,
        "objects": len(got),
        "bytes": sum(got),
        "missing": dict(found.incomplete),
    }


# --- push ------------------------------------------------------------------------------------------------------


def _remote(home: Home, options: Options) -> Inventory:
    if not options.url:
        raise InputError("which remote? Give REMOTE=s3://bucket/prefix, or set AFFECTORY_REMOTE")
    remote = Inventory(options.url, home.cache)
    remote.check()
    return remote


def _agreed(mine: Record, theirs: Mapping[str, Record]) -> Record:
    """The first one pushed, unless ours has fewer rows that failed. A state is always ours: our rows stand on it."""
    other = theirs.get(mine.key)
    if other is None or mine.stage.endswith(FITS) or len(mine.reasons) < len(other.reasons):
        return mine
    return other


def _send(remote: Inventory, store: Store, records: Collection[Record]) -> list[int]:
    """Uploads what is here and not there; the bytes of each object sent.

    An object that nothing names yet may be what an upload left that broke off. One that has been so for long is sent
    again, since a `gc` elsewhere may just be deleting it.
    """
    standing = {file.place: file for file in remote.files("objects")} if records else {}
    now = time.time()

    def lacks(record: Record) -> bool:
        file = standing.get(remote.place(record))
        return file is None or file.size != record.size or file.older(SURE_S, now)

    def send(record: Record, moved: Callable[[int], None]) -> None:
        remote.put(record, store.bring(record))
        moved(record.size)

    return _moved("push", [record for record in records if store.here(record) and lacks(record)], send)


def _push_manifest(session: Session, remote: Inventory, text: bool) -> None:
    found, store, recipe = session.corpus.manifest, session.catalogue.store, session.corpus.recipe
    if not found.media:
        return
    record = pulled_manifest.save(store, recipe.name, found if text else found.without_text(), local_weights(recipe))
    remote.send(record, store.open(record))
    remote.publish(record.stage, [record], newest=True)


# --- pull ------------------------------------------------------------------------------------------------------


def _fetch(store: Store, records: Iterable[Record]) -> list[int]:
    """Brings what is not here; the bytes of each object. An action is noted when its object has come."""
    remote = store.remote
    if remote is None or store.failure is not None:
        raise RemoteError("the remote went away, or an index on it is damaged: `affectory verify --remote` says which")
    todo = {record.object: record for record in records if not store.here(record)}

    def fetch(record: Record, moved: Callable[[int], None]) -> None:
        remote.fetch(record, store.path(record), moved)

    got = _moved("pull", list(todo.values()), fetch)
    for record in records:
        store.adopt(record)
    return got


def _moved(what: str, todo: Sequence[Record], move: Callable[[Record, Callable[[int], None]], None]) -> list[int]:
    """Moves objects, several at once, under a bar of bytes. What has been moved stays so where one fails."""
    with bar(what, BYTES, sum(record.size for record in todo)) as moved, ThreadPoolExecutor(THREADS) as pool:
        try:
            list(pool.map(lambda record: move(record, moved), todo))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [record.size for record in todo]


def _whole(options: Options) -> bool:
    """True where a call is about all of a recipe as it is written: only that is worth a lock."""
    return not (options.modality or options.features or options.changes or options.protocol)
