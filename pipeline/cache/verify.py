"""`verify`: checks that everything in the cache, and on a remote, is what its name says."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blake3 import blake3

from pipeline.cache import shards
from pipeline.cache.record import DamagedError, ForeignError, Record, Segment, read_action
from pipeline.cache.remote import BLOCK, Remote
from pipeline.cache.remote_inventory import File, Inventory
from pipeline.cache.store import Store
from pipeline.console import BYTES, bar
from pipeline.errors import InputError

THREADS = 8
NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{62}\.(parquet|safetensors)")
"""The path of an object below `objects`."""


@dataclass(frozen=True)
class Damage:
    """A file that is not as it should be, by its path in the cache or on the remote, and why."""

    place: str
    why: str


@dataclass(frozen=True)
class Verified:
    """The result of a check.

    records: the number of actions, or of a remote's indexes. objects, bytes: the objects that were read, and their
    size. unreferenced: the number of objects that no record names.
    """

    records: int
    objects: int
    bytes: int
    unreferenced: int
    damaged: tuple[Damage, ...]

    def answer(self) -> dict[str, Any]:
        """The result as data for JSON."""
        return asdict(self)


# --- the cache -------------------------------------------------------------------------------------------------


def verify(cache: Path, remote: Remote | None = None) -> Verified:
    """Checks every action and every object of a cache, also objects that no action names.

    Damaged objects are set aside and damaged actions removed, so that they are fetched or made again. An action that
    cannot be read is reported and left. So is an action whose object is gone, unless `remote` has the object.
    """
    store = Store(cache)
    paths = sorted((cache / "actions").glob("*/*.json"))
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(_read_action, paths))
    records = [result for result in results if isinstance(result, Record)]
    damaged = [result for result in results if isinstance(result, Damage)]
    by_path: dict[Path, list[Record]] = {}
    for record in records:
        by_path.setdefault(store.path(record), []).append(record)
    objects = {path: path.lstat().st_size for path in sorted((cache / "objects").glob("*/*"))}
    damaged += _objects(store, objects, by_path)
    damaged += _lost(store, records, by_path.keys() - objects.keys(), remote)
    unreferenced = len(objects.keys() - by_path.keys())
    return Verified(len(results), len(objects), sum(objects.values()), unreferenced, tuple(damaged))


def _read_action(path: Path) -> Record | Damage | None:
    """The record of an action; None if the file has just gone. A damaged action is removed."""
    place = f"actions/{path.parent.name}/{path.name}"
    try:
        return read_action(path)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        with suppress(OSError):
            path.unlink()
        return Damage(place, str(error))
    except OSError as error:  # the disk or its rights are at fault, the record may be sound
        return Damage(place, f"it cannot be read, so it is left as it is: {error.strerror}")


def _objects(store: Store, sizes: Mapping[Path, int], named: Mapping[Path, list[Record]]) -> Iterator[Damage]:
    with bar("verify", BYTES, sum(sizes.values())) as moved, ThreadPoolExecutor(THREADS) as pool:
        reasons = list(pool.map(lambda path: _why(path, named.get(path, []), moved), sizes))
    for path, why in zip(sizes, reasons, strict=True):
        if why:
            _set_aside(store, path, named.get(path, []))
            yield Damage(path.relative_to(store.root).as_posix(), why)


def _why(path: Path, records: list[Record], moved: Callable[[int], None]) -> str:
    """Why an object is damaged; empty for a sound object, and for one that has just gone."""
    name = f"{path.parent.name}/{path.name}"
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return "it is no regular file"
        if not NAME.fullmatch(name):
            return "its name is no object's"
        if _digest(path, moved) != name.partition(".")[0].replace("/", ""):
            return "it has other bytes than its name says"
        if any(record.size != path.stat().st_size for record in records):
            return "its action gives another size"
        if path.suffix == ".parquet" and any("manifest" not in record.about for record in records):
            shards.open_table(path, ["utterance"])
    except FileNotFoundError:
        return ""
    except (InputError, OSError) as error:
        return str(error)
    return ""


def _digest(path: Path, moved: Callable[[int], None]) -> str:
    """The BLAKE3 of a file, which is read and not mapped: a bad sector then raises OSError instead of SIGBUS."""
    hasher = blake3()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hasher.update(block)
            moved(len(block))
    return hasher.hexdigest()


def _set_aside(store: Store, path: Path, records: Iterable[Record]) -> None:
    """Moves an object to `corrupt`, and removes the actions that name it."""
    aside = store.root / "corrupt"
    with suppress(OSError):
        aside.mkdir(parents=True, exist_ok=True)
        path.replace(aside / f"{path.parent.name}{path.name}")
    for record in records:
        store.distrust(record)


def _lost(store: Store, records: Iterable[Record], gone: Iterable[Path], remote: Remote | None) -> Iterator[Damage]:
    """The actions whose objects are neither here nor on the remote."""
    not_here = set(gone)
    for record in records:
        if store.path(record) in not_here and not (remote and remote.has(record)):
            yield Damage(f"actions/{record.stage}/{record.key}.json", f"its object {record.object[:12]} is gone")


# --- a remote --------------------------------------------------------------------------------------------------


def verify_remote(url: str, cache: Path) -> Verified:
    """Reads every index of a remote and every object that an index names. Changes nothing there and keeps nothing here.

    Raises RemoteError if the remote cannot be reached.
    """
    remote = Inventory(url, cache)
    remote.check()
    files = {file.place: file for file in remote.files("objects")}
    places = [(stage, segment) for stage in remote.stages() for segment in remote.segments(stage)]
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(lambda place: _read_index(remote, *place), places))
    damaged = [result for result in results if isinstance(result, Damage)]
    named = [record for result in results if not isinstance(result, Damage) for record in result]
    records = {(remote.place(record), record.size): record for record in named}
    size = sum(record.size for record in records.values())
    with bar("verify", BYTES, size) as moved, ThreadPoolExecutor(THREADS) as pool:
        damaged += filter(None, pool.map(partial(_object, remote, files, moved), records.values()))
    unnamed = files.keys() - {place for place, _ in records}
    return Verified(len(results), len(records), size, len(unnamed), tuple(damaged))


def _read_index(remote: Inventory, stage: str, segment: Segment) -> list[Record] | Damage:
    try:
        return remote.read(stage, segment)
    except ForeignError as error:
        return Damage(f"index/{stage}/{segment.name}", str(error))


def _object(
    remote: Inventory, files: Mapping[str, File], moved: Callable[[int], None], record: Record
) -> Damage | None:
    """The damage of a remote's object; None for a sound one."""
    place = remote.place(record)
    if place not in files:
        return Damage(place, "an index names it, and it is not there")
    if files[place].size != record.size:
        return Damage(place, f"it has {files[place].size:,} bytes, its record says {record.size:,}")
    try:
        sound = remote.digest(record, moved) == record.object
    except ForeignError as error:
        return Damage(place, str(error))
    return None if sound else Damage(place, "it has other bytes than its name says")
