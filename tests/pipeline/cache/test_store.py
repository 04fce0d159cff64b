"""The store: first writer wins, what is read is verified, nothing partial is ever seen."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pipeline.cache.remote import Remote
from pipeline.cache.store import CorruptError, Store
from pipeline.errors import SpaceError

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


# --- with a remote ---------------------------------------------------------------------------------------------


def far(store, tmp_path):
    """A store whose one object stands on a remote alone, and that remote."""
    remote = Remote(f"file://{tmp_path}/remote", store.root)
    record = save(store)
    remote.put(record, store.path(record))
    store.path(record).unlink()
    return Store(store.root, remote), record


def test_an_action_outlives_a_remote_that_cannot_be_reached(store, tmp_path):
    held, record = far(store, tmp_path)
    assert held.find(STAGE, KEY) == record
    assert Store(store.root).find(STAGE, KEY) is None
    assert Store(store.root, held.remote).find(STAGE, KEY) == record


def test_a_provisional_shard_is_never_taken_for_a_final_one_whose_object_is_lost(store):
    final = save(store, b"whole")
    again = save(store, b"half", provisional=True)
    store.path(final).unlink()
    assert store.final(STAGE, KEY) is None and store.find(STAGE, KEY) == again


def test_what_is_fetched_replaces_whatever_stood_in_its_place(store, tmp_path):
    held, record = far(store, tmp_path)
    (tmp_path / "evil").write_bytes(b"evil!!")
    held.path(record).symlink_to(tmp_path / "evil")
    path = held.open(record)
    assert path.read_bytes() == b"values" and not path.is_symlink()


def test_an_object_that_vanishes_after_it_was_opened_is_fetched_again(store, tmp_path):
    held, record = far(store, tmp_path)
    held.open(record).unlink()
    assert held.open(record).read_bytes() == b"values"


def test_a_damaged_copy_of_an_index_is_read_from_the_remote_again(store, tmp_path):
    held, record = far(store, tmp_path)
    digest = held.remote.publish(STAGE, [record])
    for read in (lambda remote: remote.index(STAGE)[KEY], lambda remote: remote.records(STAGE, digest)[0]):
        copy = store.root / "index" / f"{digest}.json"
        copy.chmod(0o644)
        copy.write_bytes(b"[]")
        assert read(Remote(held.remote.url, store.root)) == record


def test_a_foreign_file_among_the_indexes_is_no_index(store, tmp_path):
    held, record = far(store, tmp_path)
    held.remote.publish(STAGE, [record])
    for name in ("²-" + "a" * 64, "1-" + "z" * 64, "notes", "1-.json"):
        (tmp_path / "remote" / "index" / STAGE / f"{name}.json").write_text("[]")
    assert Remote(held.remote.url, tmp_path / "elsewhere").index(STAGE) == {KEY: record}
