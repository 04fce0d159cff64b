"""The content-addressed cache: actions say what was asked, objects are the immutable bytes that answered.

    actions/<stage digest>/<key>.json       a record: object digest, recipe, versions, host, seconds, reasons
    objects/ab/cdef....parquet              named by the BLAKE3 of its bytes, read-only

Everything is written beside its place, flushed to disk, then linked in exclusively: the first writer wins and the
loser adopts the winner's. A crash at any moment leaves either nothing or a whole file.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import keys
from pipeline.errors import SpaceError

log = logging.getLogger(__name__)

PROVISIONAL = "~"
"""Ends the name of an action whose shard holds a transient reason: it serves, and is planned again next time."""


class CorruptError(Exception):
    """An object did not have the bytes its name says, or a record was no record; it has been set aside."""


@dataclass(frozen=True)
class Record:
    """An action: which object answers a key, and under which circumstances it was made."""

    key: str
    object: str
    suffix: str
    seconds: float = 0.0
    reasons: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


class Store:
    """The cache in one directory. Safe for any number of processes at once, without locks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[str] = set()

    def listing(self, stage: str) -> dict[str, bool]:
        """Every key of a stage, True where it is final and False where provisional; one directory listing."""
        folder = self.root / "actions" / stage
        found = [path.stem for path in folder.glob("*.json")]
        final = {name: True for name in found if not name.endswith(PROVISIONAL)}
        return {name.removesuffix(PROVISIONAL): False for name in found if name.endswith(PROVISIONAL)} | final

    def find(self, stage: str, key: str) -> Record | None:
        """The record of a key, the final one before a provisional one; None where its object is gone."""
        for name in (key, key + PROVISIONAL):
            record = self._read(stage, name)
            if record is not None and self.path(record).exists():
                return record
            if record is not None:  # its object is lost: whoever makes it again must be able to say so
                self._action(stage, name).unlink(missing_ok=True)
        return None

    def open(self, stage: str, key: str) -> Path:
        """The object's file, verified once per process.

        Raises CorruptError, after setting object and action aside, so that planning again makes it again.
        """
        record = self.find(stage, key)
        if record is None:
            raise CorruptError(f"{stage[:12]}/{key[:12]} has no object")
        path = self.path(record)
        if record.object not in self._verified:
            if keys.file_digest(path) != record.object:
                self._set_aside(stage, record)
                raise CorruptError(f"{path} does not hold the bytes its name says; it will be made again")
            self._verified.add(record.object)
        return path

    def save(
        self,
        stage: str,
        key: str,
        write: Callable[[Path], None],
        *,
        suffix: str,
        provisional: bool = False,
        seconds: float = 0.0,
        reasons: Mapping[str, str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Record:
        """Stores what `write` writes and returns the record that stands: ours, or that of whoever came first.

        Raises SpaceError on a full disk; nothing partial is left.
        """
        with _space(self.root), _beside(self.root) as temporary:
            write(temporary)
            digest = keys.file_digest(temporary)
            record = Record(key, digest, suffix, seconds, dict(reasons or {}), dict(about or {}))
            _link(temporary, self.path(record))
            self._verified.add(digest)
            return self._act(stage, record, provisional)

    def path(self, record: Record) -> Path:
        """Where a record's object lies."""
        return self.root / "objects" / record.object[:2] / f"{record.object[2:]}{record.suffix}"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder of the caller's own on the cache's disk, gone at the end; one that a kill leaves is swept later."""
        folder = self.root / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            yield Path(name)

    def rates(self) -> dict[str, tuple[float, float]]:
        """Seconds and bytes a row by stage name, over every shard here that was computed and not copied."""
        sums: dict[str, list[float]] = {}
        for path in (self.root / "actions").glob("*/*.json"):
            record = self._read(path.parent.name, path.stem)
            about = record.about if record else {}
            if record and about.get("computed"):
                total = sums.setdefault(about["stage"], [0.0, 0.0, 0.0, 0.0])
                parts = (record.seconds, about["computed"], about["bytes"], about["rows"])
                sums[about["stage"]] = [a + b for a, b in zip(total, parts, strict=True)]
        return {name: (s / computed, size / rows) for name, (s, computed, size, rows) in sums.items()}

    def _act(self, stage: str, record: Record, provisional: bool) -> Record:
        action = self._action(stage, record.key + (PROVISIONAL if provisional else ""))
        if provisional:
            action.unlink(missing_ok=True)
        with _beside(self.root) as temporary:
            temporary.write_text(json.dumps(asdict(record), indent=1, sort_keys=True))
            first = _link(temporary, action)
        if not provisional:
            self._action(stage, record.key + PROVISIONAL).unlink(missing_ok=True)
        return record if first else self.find(stage, record.key) or record

    def _read(self, stage: str, name: str) -> Record | None:
        try:
            raw = self._action(stage, name).read_text()
            record: Record | None = Record(**json.loads(raw))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            record = None
        if record is not None and record.key == name.removesuffix(PROVISIONAL) and _is_sound(record):
            return record
        log.warning("action %s/%s is damaged; it is set aside and made again", stage[:12], name[:12])
        self._action(stage, name).unlink(missing_ok=True)
        return None

    def _set_aside(self, stage: str, record: Record) -> None:
        aside = self.root / "corrupt"
        aside.mkdir(parents=True, exist_ok=True)
        path = self.path(record)
        log.warning("%s is corrupt; it is set aside and made again", path)
        with suppress(FileNotFoundError):  # another worker met it too
            path.replace(aside / f"{record.object}{record.suffix}")
        for name in (record.key, record.key + PROVISIONAL):
            self._action(stage, name).unlink(missing_ok=True)

    def _action(self, stage: str, name: str) -> Path:
        return self.root / "actions" / stage / f"{name}.json"


def _is_sound(record: Record) -> bool:
    """Types and values as we write them, so that no record leads out of the cache."""
    name = record.object
    digest = isinstance(name, str) and len(name) == 64 and all(c in "0123456789abcdef" for c in name)
    return digest and record.suffix in (".parquet", ".safetensors") and isinstance(record.reasons, dict)


@contextmanager
def _beside(root: Path) -> Any:
    folder = root / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _space(root: Path) -> Any:
    try:
        yield
    except OSError as error:
        if error.errno != 28:
            raise
        raise SpaceError(f"no space left on the disk of {root}") from error


def _link(source: Path, target: Path) -> bool:
    """Flushes `source` and links it in as `target`; False where somebody else's stands there already."""
    _sync(source)
    source.chmod(0o444)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    _sync(target.parent)
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
