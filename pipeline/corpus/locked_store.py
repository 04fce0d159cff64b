"""The store of a run with `--locked`: a key is cached if the lock names it, and in no other case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cache.in_use import note_use
from pipeline.cache.record import Record, Ref
from pipeline.cache.store import Store
from pipeline.corpus.lock_file import Lock
from pipeline.errors import RemoteError

if TYPE_CHECKING:
    from pipeline.cache.remote import Remote


class LockedStore(Store):
    """A store that answers from the records of a lock. Nothing is computed, so an object that is gone is an error.

    records: of the lock, by stage and key.
    """

    def __init__(self, root: Path, remote: Remote | None, records: Mapping[str, Mapping[str, Record]]) -> None:
        super().__init__(root, remote)
        self._records = records

    @classmethod
    def of(cls, lock: Lock, root: Path, remote: Remote | None) -> LockedStore:
        """The store of a lock. Raises RemoteError if an index that the lock names is neither here nor on the remote."""
        from pipeline.cache.remote import Remote

        source = remote or Remote("", root)
        indexes = {stage: source.records(stage, digest) for stage, digest in lock.indexes.items()}
        return cls(root, remote, {stage: {r.key: r for r in records} for stage, records in indexes.items()})

    def listing(self, stage: str) -> dict[str, bool]:
        """Every key of a stage in the lock; all of them are final."""
        return dict.fromkeys(self._records.get(stage, {}), True)

    def names(self, stage: str) -> list[str]:
        """The keys of a stage in the lock."""
        return list(self._records.get(stage, {}))

    def find(self, stage: str, key: str) -> Record | None:
        """The record of a key in the lock, whether its object is here or not."""
        return self._records.get(stage, {}).get(key)

    def final(self, stage: str, key: str) -> Record | None:
        """As `find`: a lock names final records only."""
        return self.find(stage, key)

    def note_use(self) -> None:
        """Notes a use of each object that is here. `gc` goes by the use of actions, which this store never reads."""
        for record in (record for records in self._records.values() for record in records.values()):
            action = self.action(record.stage, record.key)
            if action.exists():
                note_use(action)
            elif self.here(record):
                self.adopt(record)

    def _fetch(self, ref: Ref) -> None:
        if self.remote is None:
            raise RemoteError(f"object {ref.object[:12]}, which the lock names, is not here, and there is no remote")
        self.remote.fetch(ref, self.path(ref))
