"""`gc`: lists the files of this home that nobody has used for a while, and deletes them if asked to.

An action goes by its last use, which is noted at most once a day. An object goes if no remaining action names it.
Actions are deleted before objects, so that a `gc` that is killed leaves no action without its object.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cache import keys
from pipeline.cache.home import EDITION, Home
from pipeline.cache.in_use import TOUCH_S, gate, live
from pipeline.cache.record import FITS, REFERENCES, DamagedError, Record, decode, read_action
from pipeline.cache.verify import NAME
from pipeline.errors import InputError

DAY = 86_400.0
"""Seconds. No younger file is deleted: a run may be about to write an action that names it."""

KINDS = ("unreferenced", "indexes", "corrupt", "views")
"""The kinds of waste beside the actions and objects of unused stages."""


@dataclass(frozen=True)
class Leftover:
    """A file, or the folder of a view's column.

    size: in bytes. changed: its time of change in nanoseconds, which tells whether it has been used since.
    """

    path: Path
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> Leftover:
        """Raises FileNotFoundError if there is no such file."""
        status = path.lstat()
        return cls(path, status.st_size, status.st_mtime_ns)

    def older(self, seconds: float, now: float) -> bool:
        """True if its last change was more than so many seconds before `now`."""
        return now - self.changed / 1e9 > seconds


@dataclass(frozen=True)
class Unused:
    """The actions of a stage that nobody has used, and the objects that only they name."""

    stage: str
    name: str
    actions: tuple[Leftover, ...]
    objects: tuple[Leftover, ...]

    @property
    def bytes(self) -> int:
        """The size of actions and objects."""
        return sum(item.size for item in (*self.actions, *self.objects))


@dataclass(frozen=True)
class Waste:
    """All that may be deleted.

    stages: unused actions with their objects. unreferenced: objects that no action names. indexes: copies of indexes of
    which no record remains. corrupt: files that were set aside. views: unused columns. pinned: the stages of live runs,
    of which nothing is deleted.
    """

    stages: tuple[Unused, ...]
    unreferenced: tuple[Leftover, ...]
    indexes: tuple[Leftover, ...]
    corrupt: tuple[Leftover, ...]
    views: tuple[Leftover, ...]
    pinned: frozenset[str]

    @property
    def bytes(self) -> int:
        """The size of everything."""
        rest: int = sum(item.size for kind in KINDS for item in getattr(self, kind))
        return rest + sum(unused.bytes for unused in self.stages)

    def answer(self) -> dict[str, Any]:
        """The waste as data for JSON."""
        stages = [
            {
                "stage": unused.stage,
                "name": unused.name,
                "actions": len(unused.actions),
                "objects": len(unused.objects),
                "bytes": unused.bytes,
            }
            for unused in self.stages
        ]
        kinds = {name: summed(getattr(self, name)) for name in KINDS}
        return {"stages": stages, **kinds, "pinned": len(self.pinned), "bytes": self.bytes}


def summed(items: Iterable[Any]) -> dict[str, int]:
    """The number of files and their bytes."""
    sizes = [item.size for item in items]
    return {"files": len(sizes), "bytes": sum(sizes)}


@dataclass(frozen=True)
class _Action:
    item: Leftover
    record: Record


def collect(home: Home, days: float, now: float | None = None) -> Waste:
    """Lists what was not used for `days`, at least 1, and no live run has pinned. Deletes nothing.

    Of a cache whose keys are of another edition everything is listed, whenever it was used. Raises InputError if an
    action cannot be read, since it may name any object.
    """
    now, pinned = time.time() if now is None else now, live(home.cache)
    outdated = home.edition not in (0, keys.KEY_VERSION)
    actions, manifests = list(_actions(home.cache)), set() if outdated else set(pulled_manifests(home))
    limit, young = (-math.inf, -math.inf) if outdated else (max(days, 1) * DAY, DAY)
    expired = [a for a in actions if _expired(a, limit, now) and not _kept(a.record, pinned, manifests)]
    expired_paths = {action.item.path for action in expired}
    remaining = [action.record for action in actions if action.item.path not in expired_paths]
    named = manifests | {record.object for record in remaining}
    objects = {d: item for d, item in _objects(home.cache) if item.older(young, now) and d not in named}
    stages = tuple(_by_stage(expired, objects))
    claimed = {action.record.object for action in expired}
    loose = () if pinned else tuple(item for digest, item in objects.items() if digest not in claimed)
    loose += tuple(_items(home.root / "pulled")) if outdated else ()
    indexes = tuple(_indexes(home.cache, remaining, limit, now))
    corrupt = tuple(item for item in _items(home.cache / "corrupt") if now - item.path.lstat().st_ctime > limit)
    views = () if pinned else tuple(item for item in _views(home) if item.older(limit + TOUCH_S, now))
    return Waste(stages, loose, indexes, corrupt, views, pinned)


def delete(home: Home, days: float, now: float | None = None) -> Waste:
    """Deletes what `collect` lists, and returns it. A run that starts meanwhile waits until this is done."""
    with gate(home.cache, exclusive=True):
        waste = collect(home, days, now)
        for unused in waste.stages:
            _unlink(unused.actions)
        named = named_objects(home)  # also by actions that were used after they were listed
        for unused in waste.stages:
            _unlink(item for item in unused.objects if digest_of(item.path) not in named)
        _unlink(item for item in waste.unreferenced if digest_of(item.path) not in named)
        _unlink([*waste.indexes, *waste.corrupt])
        _remove_views(waste.views)
        if home.edition != keys.KEY_VERSION and not waste.pinned:
            (home.cache / EDITION).unlink(missing_ok=True)  # the next run notes its own
    return waste


def pulled_manifests(home: Home) -> Iterator[str]:
    """The objects of pulled manifests and releases, each of which replaces a corpus that is not on this machine."""
    for path in (home.root / "pulled").glob("*.json"):
        with suppress(DamagedError, FileNotFoundError):
            yield decode(path.read_bytes()).object
    for path in (home.root / "releases").glob("*.json"):
        with suppress(ValueError, KeyError, TypeError, FileNotFoundError):
            yield str(json.loads(path.read_bytes())["manifest"]["object"])


def named_objects(home: Home) -> set[str]:
    """Every object that an action of this cache names, whether the object is here or not."""
    return {action.record.object for action in _actions(home.cache)}


def digest_of(path: Path) -> str:
    """The digest in the path of an object."""
    return f"{path.parent.name}{path.stem}"


def unpinned(stage: str, pinned: frozenset[str]) -> bool:
    """True if no live run uses a stage, given by the folder of its shards, of its states or of its references."""
    return stage.removesuffix(FITS).removesuffix(REFERENCES) not in pinned


def _kept(record: Record, pinned: frozenset[str], manifests: set[str]) -> bool:
    return not unpinned(record.stage, pinned) or record.object in manifests


def _expired(action: _Action, limit: float, now: float) -> bool:
    """True if an action was not used for `limit` seconds, however long after the last note its last use was."""
    return action.item.older(limit + TOUCH_S, now)


def _actions(cache: Path) -> Iterator[_Action]:
    """Every sound action; reading it here counts as no use. Damaged ones are never used, and `verify` removes them."""
    for path in sorted((cache / "actions").glob("*/*.json")):
        try:
            yield _Action(Leftover.of(path), read_action(path))
        except (FileNotFoundError, DamagedError):
            continue
        except OSError as error:
            raise InputError(f"{path} cannot be read, so it may name any object: {error.strerror}") from error


def _objects(cache: Path) -> Iterator[tuple[str, Leftover]]:
    for path in sorted((cache / "objects").glob("*/*")):
        if NAME.fullmatch(f"{path.parent.name}/{path.name}"):
            with suppress(FileNotFoundError):
                yield digest_of(path), Leftover.of(path)


def _by_stage(expired: Iterable[_Action], objects: Mapping[str, Leftover]) -> Iterator[Unused]:
    """The unused actions of each stage. An object that several stages name is listed with the first."""
    left, groups = dict(objects), dict[str, list[_Action]]()
    for action in expired:
        groups.setdefault(action.record.stage, []).append(action)
    for stage, actions in groups.items():
        items = [item for action in actions if (item := left.pop(action.record.object, None))]
        name = str(actions[0].record.about.get("stage", "manifest"))
        yield Unused(stage, name, tuple(action.item for action in actions), tuple(items))


def _indexes(cache: Path, remaining: Iterable[Record], limit: float, now: float) -> Iterator[Leftover]:
    """Old copies of indexes, without those that name a remaining action, since a lock may need them."""
    kept = {(record.stage, record.key) for record in remaining}
    for item in _items(cache / "index"):
        if item.older(limit, now) and kept.isdisjoint(_names(item.path)):
            yield item


def _names(index: Path) -> set[tuple[str, str]]:
    """The stage and key of each record of an index; none of a damaged index, which is never used."""
    try:
        return {(str(record["stage"]), str(record["key"])) for record in json.loads(index.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _items(folder: Path) -> Iterator[Leftover]:
    for path in sorted(folder.glob("*")):
        with suppress(FileNotFoundError):
            yield Leftover.of(path)


def _views(home: Home) -> Iterator[Leftover]:
    """Every complete column, with the time of its last use."""
    for note in sorted((home.root / "views").glob("[!.]*/column.json")):
        with suppress(FileNotFoundError):
            size = sum(file.lstat().st_size for file in note.parent.iterdir())
            yield Leftover(note.parent, size, note.lstat().st_mtime_ns)


def _remove_views(items: Iterable[Leftover]) -> None:
    """Renames each column before deleting it, so that a `gc` that is killed leaves no half of one under its name."""
    for item in items:
        with suppress(FileNotFoundError):
            if (item.path / "column.json").lstat().st_mtime_ns == item.changed:
                aside = item.path.with_name(f".{item.path.name}.{uuid.uuid4().hex}")
                item.path.rename(aside)
                shutil.rmtree(aside)


def _unlink(items: Iterable[Leftover]) -> None:
    """Deletes the files that have not been used since they were listed."""
    for item in items:
        with suppress(FileNotFoundError, IsADirectoryError):
            if item.path.lstat().st_mtime_ns == item.changed:
                item.path.unlink()
