"""The store: first writer wins, what is read is verified, nothing partial is ever seen."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pipeline.errors import SpaceError
from pipeline.store import CorruptError, Store

STAGE, KEY = "5" * 64, "a" * 64


def save(store, content=b"values", key=KEY, **options):
    return store.save(STAGE, key, lambda path: path.write_bytes(content), suffix=".parquet", **options)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_what_was_saved_is_found_by_key_with_the_same_bytes(store):
    record = save(store, seconds=1.5, reasons={"u": "too_short"}, about={"host": "h"})
    assert store.find(STAGE, KEY) == record
    assert store.open(store.find(STAGE, KEY)).read_bytes() == b"values"
    assert store.listing(STAGE) == {KEY: True}


def test_the_first_writer_wins_and_the_second_adopts_it(store):
    first, second = save(store, b"one"), save(store, b"two")
    assert second == first
    assert store.open(store.find(STAGE, KEY)).read_bytes() == b"one"


def test_a_final_shard_replaces_a_provisional_one_and_not_the_other_way_round(store):
    save(store, b"half", provisional=True)
    assert store.listing(STAGE) == {KEY: False}
    save(store, b"better half", provisional=True)
    assert store.open(store.find(STAGE, KEY)).read_bytes() == b"better half"
    save(store, b"whole")
    save(store, b"half again", provisional=True)
    assert store.open(store.find(STAGE, KEY)).read_bytes() == b"whole"
    assert store.listing(STAGE)[KEY] is True


def test_objects_are_read_only_and_named_by_their_bytes(store):
    record = save(store)
    path = store.path(record)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert path.name.startswith(record.object[2:])


def test_a_corrupt_object_is_set_aside_and_its_key_is_free_again(store):
    path = store.path(save(store))
    path.chmod(0o644)
    path.write_bytes(b"valueX")
    fresh = Store(store.root)
    with pytest.raises(CorruptError, match="made again"):
        fresh.open(fresh.find(STAGE, KEY))
    assert fresh.find(STAGE, KEY) is None
    assert [p.read_bytes() for p in (store.root / "corrupt").iterdir()] == [b"valueX"]
    save(fresh)
    assert fresh.open(fresh.find(STAGE, KEY)).read_bytes() == b"values"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": "other"}', b'{"key": "' + b"a" * 64 + b'"}'])
def test_a_damaged_action_serves_nothing(store, damage):
    save(store)
    action = store.root / "actions" / STAGE / f"{KEY}.json"
    action.chmod(0o644)
    action.write_bytes(damage)
    assert Store(store.root).find(STAGE, KEY) is None


def test_a_record_cannot_lead_out_of_the_cache(store):
    save(store)
    action = store.root / "actions" / STAGE / f"{KEY}.json"
    action.chmod(0o644)
    action.write_text(action.read_text().replace(store.path(save(store)).name[:62], "../../../../etc/passwd"))
    assert Store(store.root).find(STAGE, KEY) is None


def test_an_action_without_its_object_is_as_if_it_were_not_there(store):
    store.path(save(store)).unlink()
    assert store.find(STAGE, KEY) is None
    assert save(store) and store.open(store.find(STAGE, KEY)).read_bytes() == b"values"


def test_a_writer_that_fails_leaves_nothing(store):
    def broken(path: Path) -> None:
        path.write_bytes(b"half of it")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        store.save(STAGE, KEY, broken, suffix=".parquet")
    assert [p for p in store.root.rglob("*") if p.is_file()] == []


def test_a_full_disk_is_said_so_and_leaves_nothing(store):
    def full(path: Path) -> None:
        raise OSError(28, os.strerror(28))

    with pytest.raises(SpaceError, match="no space"):
        store.save(STAGE, KEY, full, suffix=".parquet")
    assert store.listing(STAGE) == {}
