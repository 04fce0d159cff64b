"""`verify`: everything in the cache, and on a remote, is what its name says."""

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
from pipeline.cache.record import DamagedError, Record, decode
from pipeline.cache.remote import BLOCK, ForeignError, Remote
from pipeline.cache.remote_inventory import File, Inventory
from pipeline.cache.store import PROVISIONAL, Store
from pipeline.console import BYTES, bar
from pipeline.errors import InputError

THREADS = 8
NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{62}\.(parquet|safetensors)")


@dataclass(frozen=True)
class Damage:
    """What is not as it should be, by its place below the cache or the remote, and why."""

    place: str
    why: str


@dataclass(frozen=True)
class Verified:
    """What was checked: indexes (of a remote) or actions, objects and their bytes; objects that nothing names."""

    records: int
    objects: int
    bytes: int
    unreferenced: int
    damaged: tuple[Damage, ...]

    def answer(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


# --- here ------------------------------------------------------------------------------------------------------


def verify(cache: Path, remote: Remote | None = None) -> Verified:
    """Checks every action, and every object whether an action names it or not.

    What is damaged is set aside, so that it is fetched or made again. An object that is not here but on `remote` is
    no damage; one that is nowhere is listed, and its action left.
    """
    store = Store(cache)
    paths = sorted((cache / "actions").glob("*/*.json"))
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(_action, paths))
    records = [found for found in read if isinstance(found, Record)]
    damaged = [found for found in read if isinstance(found, Damage)]
    by_path: dict[Path, list[Record]] = {}
    for record in records:
        by_path.setdefault(store.path(record), []).append(record)
    objects = {path: path.lstat().st_size for path in sorted((cache / "objects").glob("*/*"))}
    damaged += _objects(store, objects, by_path)
    damaged += _lost(store, records, by_path.keys() - objects.keys(), remote)
    unreferenced = len(objects.keys() - by_path.keys())
    return Verified(len(read), len(objects), sum(objects.values()), unreferenced, tuple(damaged))


def _action(path: Path) -> Record | Damage | None:
    """A sound record, without counting as its use. A damaged one is removed; None for one that has just gone."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DamagedError("it is no regular file")
        record = decode(path.read_bytes())
        if (record.stage, record.key) != (path.parent.name, path.stem.removesuffix(PROVISIONAL)):
            raise DamagedError("it is the record of another key")
    except FileNotFoundError:
        return None
    except (DamagedError, OSError) as error:
        with suppress(OSError):
            path.unlink()
        return Damage(f"actions/{path.parent.name}/{path.name}", str(error))
    return record


def _objects(store: Store, sizes: Mapping[Path, int], named: Mapping[Path, list[Record]]) -> Iterator[Damage]:
    with bar("verify", BYTES, sum(sizes.values())) as moved, ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda path: _why(path, named.get(path, []), moved), sizes))
    for path, why in zip(sizes, found, strict=True):
        if why:
            _set_aside(store, path, named.get(path, []))
            yield Damage(path.relative_to(store.root).as_posix(), why)


def _why(path: Path, records: list[Record], moved: Callable[[int], None]) -> str:
    """What is wrong with an object; nothing for a sound one, or one that has just gone."""
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
    """By reading, not by a map of the file: a sector that can't be read is an error then, not the process's end."""
    hasher = blake3()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hasher.update(block)
            moved(len(block))
    return hasher.hexdigest()


def _set_aside(store: Store, path: Path, records: Iterable[Record]) -> None:
    """Moves an object out of the way, and forgets the actions that name it."""
    aside = store.root / "corrupt"
    aside.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        path.replace(aside / f"{path.parent.name}{path.name}")
    for record in records:
        store.distrust(record)


def _lost(store: Store, records: Iterable[Record], gone: Iterable[Path], remote: Remote | None) -> Iterator[Damage]:
    away = set(gone)
    for record in records:
        if store.path(record) in away and not (remote and remote.has(record)):
            yield Damage(f"actions/{record.stage}/{record.key}.json", f"its object {record.object[:12]} is gone")


# --- there -----------------------------------------------------------------------------------------------------


def verify_remote(url: str, cache: Path) -> Verified:
    """Reads every index on a remote and every object that one names; nothing there is changed and nothing kept.

    Raises RemoteError where it cannot be reached.
    """
    there = Inventory(url, cache)
    there.check()
    files = {file.place: file for file in there.files("objects")}
    places = [(stage, segment) for stage in there.stages() for segment in there.segments(stage)]
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(lambda place: _index(there, *place), places))
    damaged = [found for found in read if isinstance(found, Damage)]
    records = {(there.place(r), r.size): r for found in read if not isinstance(found, Damage) for r in found}
    with bar("verify", BYTES, sum(r.size for r in records.values())) as moved, ThreadPoolExecutor(THREADS) as pool:
        damaged += filter(None, pool.map(partial(_object, there, files, moved), records.values()))
    size = sum(record.size for record in records.values())
    unnamed = files.keys() - {place for place, _ in records}
    return Verified(len(read), len(records), size, len(unnamed), tuple(damaged))


def _index(there: Inventory, stage: str, segment: Any) -> list[Record] | Damage:
    try:
        return there.read(stage, segment)
    except ForeignError as error:
        return Damage(f"index/{stage}/{segment.name}", str(error))


def _object(there: Inventory, files: Mapping[str, File], moved: Callable[[int], None], record: Record) -> Damage | None:
    place = there.place(record)
    if place not in files:
        return Damage(place, "an index names it, and it is not there")
    if files[place].size != record.size:
        return Damage(place, f"it has {files[place].size:,} bytes, its record says {record.size:,}")
    try:
        sound = there.digest(record, moved) == record.object
    except ForeignError as error:
        return Damage(place, str(error))
    return None if sound else Damage(place, "it has other bytes than its name says")
