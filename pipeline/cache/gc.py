"""`gc`: what nobody has used for a while, here. What goes is told first, and deleted only when asked to.

An action goes by its last use, which the store notes at most once a day; an object goes when no action that stays
names it. Actions are deleted first, then objects, so that a `gc` that is killed leaves nothing that leads nowhere.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cache.home import Home
from pipeline.cache.in_use import gate, live
from pipeline.cache.record import FITS, DamagedError, Record, decode
from pipeline.cache.store import PROVISIONAL, TOUCH_S
from pipeline.cache.verify import NAME

DAY = 86_400.0
"""Seconds; nothing younger is ever deleted: a run may be about to name it."""

KINDS = ("unreferenced", "indexes", "corrupt", "views")
"""What goes beside unused stages."""


@dataclass(frozen=True)
class Leftover:
    """A file, or the folder of a view's column, its bytes and its time of change in nanoseconds, by which one that was
    used meanwhile is left."""

    path: Path
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> Leftover:
        """Raises FileNotFoundError where it has gone."""
        status = path.lstat()
        return cls(path, status.st_size, status.st_mtime_ns)

    def older(self, seconds: float, now: float) -> bool:
        """By its time of change."""
        return now - self.changed / 1e9 > seconds


@dataclass(frozen=True)
class Unused:
    """Actions of a stage that nobody used, and the objects that they alone name."""

    stage: str
    name: str
    actions: tuple[Leftover, ...]
    objects: tuple[Leftover, ...]

    @property
    def bytes(self) -> int:
        """Of both."""
        return sum(item.size for item in (*self.actions, *self.objects))


@dataclass(frozen=True)
class Waste:
    """What may go: unused actions with their objects by stage, objects that nothing names, copies of indexes none of
    whose actions stays, what was set aside as corrupt, unused columns of views. pinned: the stages of live runs, which
    stay."""

    stages: tuple[Unused, ...]
    unreferenced: tuple[Leftover, ...]
    indexes: tuple[Leftover, ...]
    corrupt: tuple[Leftover, ...]
    views: tuple[Leftover, ...]
    pinned: frozenset[str]

    @property
    def bytes(self) -> int:
        """Of everything."""
        rest: int = sum(item.size for kind in KINDS for item in getattr(self, kind))
        return rest + sum(stage.bytes for stage in self.stages)

    def answer(self) -> dict[str, Any]:
        """As JSON-able data."""
        stages = [
            {
                "stage": each.stage,
                "name": each.name,
                "actions": len(each.actions),
                "objects": len(each.objects),
                "bytes": each.bytes,
            }
            for each in self.stages
        ]
        kinds = {name: summed(getattr(self, name)) for name in KINDS}
        return {"stages": stages, **kinds, "pinned": len(self.pinned), "bytes": self.bytes}


def summed(items: Iterable[Any]) -> dict[str, int]:
    """Files and their bytes."""
    sizes = [item.size for item in items]
    return {"files": len(sizes), "bytes": sum(sizes)}


@dataclass(frozen=True)
class _Action:
    item: Leftover
    record: Record


def collect(home: Home, days: float, now: float | None = None) -> Waste:
    """What was not used for `days`, at least 1, of any stage that no live run has pinned. Deletes nothing."""
    now, pinned = time.time() if now is None else now, live(home.cache)
    actions, noted = list(_actions(home.cache)), set(noted_objects(home))
    limit = max(days, 1) * DAY
    expired = [a for a in actions if _expired(a, limit, now) and not _kept(a.record, pinned, noted)]
    gone = {action.item.path for action in expired}
    staying = [action.record for action in actions if action.item.path not in gone]
    named = noted | {record.object for record in staying}
    objects = {d: item for d, item in _objects(home.cache) if item.older(DAY, now) and d not in named}
    stages = tuple(_by_stage(expired, objects))
    claimed = {action.record.object for action in expired}
    loose = () if pinned else tuple(item for digest, item in objects.items() if digest not in claimed)
    indexes = tuple(_indexes(home.cache, staying, limit, now))
    corrupt = tuple(item for item in _items(home.cache / "corrupt") if now - item.path.lstat().st_ctime > limit)
    views = () if pinned else tuple(item for item in _views(home) if item.older(limit + TOUCH_S, now))
    return Waste(stages, loose, indexes, corrupt, views, pinned)


def delete(home: Home, days: float, now: float | None = None) -> Waste:
    """Deletes what `collect` finds, which it returns. A run that starts meanwhile waits until it is done."""
    with gate(home.cache, exclusive=True):
        waste = collect(home, days, now)
        for stage in waste.stages:
            _unlink(stage.actions)
        named = {action.record.object for action in _actions(home.cache)}  # one that was used just now stays
        for stage in waste.stages:
            _unlink(item for item in stage.objects if digest_of(item.path) not in named)
        _unlink(item for item in waste.unreferenced if digest_of(item.path) not in named)
        _unlink([*waste.indexes, *waste.corrupt])
        _remove_views(waste.views)
    return waste


def noted_objects(home: Home) -> Iterator[str]:
    """The manifests that were pulled, which stand for corpora that are not here."""
    for path in (home.root / "pulled").glob("*.json"):
        with suppress(DamagedError, FileNotFoundError):
            yield decode(path.read_bytes()).object


def held_objects(home: Home) -> set[str]:
    """Every object that an action here names, wherever it lies."""
    return {action.record.object for action in _actions(home.cache)}


def digest_of(path: Path) -> str:
    """What an object's file is named by."""
    return f"{path.parent.name}{path.stem}"


def unpinned(stage: str, pinned: frozenset[str]) -> bool:
    """True for a stage, or its states, that no live run uses."""
    return stage.removesuffix(FITS) not in pinned


def _kept(record: Record, pinned: frozenset[str], noted: set[str]) -> bool:
    return not unpinned(record.stage, pinned) or record.object in noted


def _expired(action: _Action, limit: float, now: float) -> bool:
    """A use within a day of the last one that was noted is not noted itself."""
    return action.item.older(limit + TOUCH_S, now)


def _actions(cache: Path) -> Iterator[_Action]:
    """Every sound action, read without counting as a use. Damaged ones serve nobody; `verify` removes them."""
    for path in sorted((cache / "actions").glob("*/*.json")):
        with suppress(FileNotFoundError, DamagedError):
            item, record = Leftover.of(path), decode(path.read_bytes())
            if (record.stage, record.key) == (path.parent.name, path.stem.removesuffix(PROVISIONAL)):
                yield _Action(item, record)


def _objects(cache: Path) -> Iterator[tuple[str, Leftover]]:
    for path in sorted((cache / "objects").glob("*/*")):
        if NAME.fullmatch(f"{path.parent.name}/{path.name}"):
            with suppress(FileNotFoundError):
                yield digest_of(path), Leftover.of(path)


def _by_stage(expired: Iterable[_Action], objects: Mapping[str, Leftover]) -> Iterator[Unused]:
    """Each object with the first stage that names it."""
    left, groups = dict(objects), dict[str, list[_Action]]()
    for action in expired:
        groups.setdefault(action.record.stage, []).append(action)
    for stage, actions in groups.items():
        found = [item for action in actions if (item := left.pop(action.record.object, None))]
        name = str(actions[0].record.about.get("stage", "manifest"))
        yield Unused(stage, name, tuple(action.item for action in actions), tuple(found))


def _indexes(cache: Path, staying: Iterable[Record], limit: float, now: float) -> Iterator[Leftover]:
    """Old copies, but for those a lock may need: their actions are still used."""
    kept = {(record.stage, record.key) for record in staying}
    for item in _items(cache / "index"):
        if item.older(limit, now) and kept.isdisjoint(_names(item.path)):
            yield item


def _names(index: Path) -> set[tuple[str, str]]:
    """The stage and key of each record of an index; none of a damaged one, which serves nobody."""
    try:
        return {(str(record["stage"]), str(record["key"])) for record in json.loads(index.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _items(folder: Path) -> Iterator[Leftover]:
    for path in sorted(folder.glob("*")):
        with suppress(FileNotFoundError):
            yield Leftover.of(path)


def _views(home: Home) -> Iterator[Leftover]:
    """Every whole column, by its last use."""
    for note in sorted((home.root / "views").glob("[!.]*/column.json")):
        with suppress(FileNotFoundError):
            size = sum(file.lstat().st_size for file in note.parent.iterdir())
            yield Leftover(note.parent, size, note.lstat().st_mtime_ns)


def _remove_views(items: Iterable[Leftover]) -> None:
    """Out of the way first, so that a `gc` that is killed leaves no half of a column."""
    for item in items:
        with suppress(FileNotFoundError):
            if (item.path / "column.json").lstat().st_mtime_ns == item.changed:
                aside = item.path.with_name(f".{item.path.name}.{uuid.uuid4().hex}")
                item.path.rename(aside)
                shutil.rmtree(aside)


def _unlink(items: Iterable[Leftover]) -> None:
    for item in items:
        with suppress(FileNotFoundError, IsADirectoryError):
            if item.path.lstat().st_mtime_ns == item.changed:
                item.path.unlink()
