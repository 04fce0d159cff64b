"""One bit anywhere, in an object or in the record of one: it is noticed, and nothing of it is served."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.cache import verify
from pipeline.cache.record import Record
from pipeline.cache.store import CorruptError, Store

FLIPS = 1_000


@pytest.fixture
def store(extracted):
    return Store(extracted.home / "cache")


def flipped(raw: bytes, bit: int) -> bytes:
    """The same but for one bit."""
    data = bytearray(raw)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def put(path: Path, raw: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(raw)


def served(root: Path, record: Record) -> bytes | None:
    """What a process that starts now is given for a record's key, None where it is told to make it again."""
    fresh = Store(root)
    found = fresh.find(record.stage, record.key)
    if found is None:
        return None
    try:
        return fresh.open(found).read_bytes()
    except CorruptError:
        assert fresh.find(record.stage, record.key) is None, "the key is not free again"
        return None


def test_of_a_thousand_flipped_bits_every_one_is_noticed_and_none_is_served(store):
    chance, kinds = random.Random(20), set()
    places = [(path, record) for action, record in store.records() for path in (action, store.path(record))]
    before = {path: path.read_bytes() for path, _ in places}
    assert all(served(store.root, record) == before[store.path(record)] for _, record in places)
    for _ in range(FLIPS):
        path, record = chance.choice(places)
        bit = chance.randrange(8 * len(before[path]))
        put(path, flipped(before[path], bit))
        assert served(store.root, record) is None, f"bit {bit} of {path}"
        put(path, before[path])
        put(store.action(record.stage, record.key), before[store.action(record.stage, record.key)])
        kinds.add(path.suffix)
    assert kinds == {".json", ".parquet", ".safetensors"}


def test_verify_finds_a_flipped_bit_in_every_file_of_the_cache_and_sets_all_aside(store):
    chance = random.Random(21)
    paths = [path for action, record in store.records() for path in (action, store.path(record))]
    for path in set(paths):
        raw = path.read_bytes()
        put(path, flipped(raw, chance.randrange(8 * len(raw))))
    found = verify.verify(store.root)
    assert {store.root / damage.place for damage in found.damaged} == set(paths)
    assert len(found.damaged) == len(set(paths)) and verify.verify(store.root) == verify.Verified(0, 0, 0, 0, ())


@pytest.mark.parametrize("suffix", [".json", ".parquet", ".safetensors"])
def test_what_one_flipped_bit_spoilt_is_made_again_and_nothing_else(extracted, store, suffix):
    places = {path: record for action, record in store.records() for path in (action, store.path(record))}
    path = max((path for path in places if path.suffix == suffix), key=lambda path: path.stat().st_size)
    put(path, flipped(path.read_bytes(), 8 * (path.stat().st_size // 2)))
    verify.verify(store.root)
    extracted.extract()
    [stage] = {name.removesuffix(" (fit)") for name in [*extracted.count("calls")][:1]}
    assert stage == places[path].about["stage"]
    assert verify.verify(store.root).damaged == ()
