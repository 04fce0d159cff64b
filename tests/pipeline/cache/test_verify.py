"""`verify`: everything sound is passed, everything damaged listed and set aside; a remote is read and never changed."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cache import verify
from pipeline.cache.record import encode
from pipeline.cache.remote_inventory import Inventory
from pipeline.cache.store import Store
from pipeline.errors import RemoteError
from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.teams import push

STAGE, KEY = "5" * 64, "a" * 64


def flip(path: Path, place: int = -20) -> None:
    """One bit of a file."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def largest(cache: Path, suffix: str) -> Path:
    return max((cache / "objects").rglob(f"*{suffix}"), key=lambda path: (path.stat().st_size, path))


def reasons(found: verify.Verified) -> list[str]:
    return [damage.why for damage in found.damaged]


def unreadable(monkeypatch: pytest.MonkeyPatch, bad: Path, code: int) -> None:
    """Has reading one file end in an OSError, as a failing disk or the rights of its owner would."""
    read = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path == bad:
            raise OSError(code, os.strerror(code), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)


@pytest.fixture
def cache(extracted):
    return extracted.home / "cache"


# --- here ------------------------------------------------------------------------------------------------------


def test_a_sound_cache_passes_and_everything_in_it_is_counted(cache):
    found = verify.verify(cache)
    files = [path for path in (cache / "objects").rglob("*") if path.is_file()]
    assert found.damaged == () and found.unreferenced == 0
    assert found.records == len(list(cache.glob("actions/*/*.json")))
    assert (found.objects, found.bytes) == (len(files), sum(path.stat().st_size for path in files))


@pytest.mark.parametrize("suffix", [".parquet", ".safetensors"])
def test_an_object_with_one_flipped_bit_is_listed_set_aside_and_made_again(extracted, cache, suffix):
    bad = largest(cache, suffix)
    flip(bad)
    found = verify.verify(cache)
    assert [each.place for each in found.damaged] == [bad.relative_to(cache).as_posix()]
    assert not bad.exists() and [path.name for path in (cache / "corrupt").iterdir()] == [bad.parent.name + bad.name]
    assert verify.verify(cache).damaged == ()
    assert extracted.extract() or extracted.count("calls")
    assert verify.verify(cache).damaged == ()


def test_a_damaged_action_is_listed_and_removed_and_its_object_is_then_named_by_nothing(cache):
    bad = next(cache.glob("actions/*/*.json"))
    flip(bad)
    found = verify.verify(cache)
    assert [each.place for each in found.damaged] == [bad.relative_to(cache).as_posix()]
    assert not bad.exists() and found.unreferenced == 1 and verify.verify(cache).damaged == ()


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_an_action_that_cannot_be_read_is_listed_and_left_with_its_object(cache, monkeypatch, code):
    bad = next(cache.glob("actions/*/*.json"))
    unreadable(monkeypatch, bad, code)
    [damage] = verify.verify(cache).damaged
    assert damage.place == bad.relative_to(cache).as_posix() and os.strerror(code) in damage.why
    monkeypatch.undo()
    assert bad.exists() and verify.verify(cache).damaged == ()


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_no_file_among_the_actions_is_listed(cache, kind):
    action = next(cache.glob("actions/*/*.json"))
    stray = action.with_name(f"{KEY}.json")
    stray.symlink_to(action) if kind == "link" else stray.mkdir()
    assert reasons(verify.verify(cache)) == ["it is no regular file"] and action.exists()


def test_an_object_that_nothing_names_is_counted_and_checked_too(cache):
    Store(cache).save(STAGE, KEY, lambda path: path.write_bytes(b"values"), suffix=".safetensors")
    Store(cache).action(STAGE, KEY).unlink()
    found = verify.verify(cache)
    assert found.unreferenced == 1 and not found.damaged
    record = next(path for path in cache.rglob("*.safetensors") if path.read_bytes() == b"values")
    flip(record, 0)
    assert reasons(verify.verify(cache)) == ["it has other bytes than its name says"]


def test_an_action_whose_object_is_gone_is_listed_and_left(cache):
    action = next(cache.glob("actions/*/*.json"))
    record = json.loads(action.read_text())
    Store(cache).path(next(r for path, r in Store(cache).records() if path == action)).unlink()
    [damage] = verify.verify(cache).damaged
    assert damage.why == f"its object {record['object'][:12]} is gone" and action.exists()


def test_an_object_that_is_no_shard_though_its_digest_is_right_is_found(cache):
    record = Store(cache).save(STAGE, KEY, lambda path: path.write_bytes(b"PAR1 not"), suffix=".parquet")
    [why] = reasons(verify.verify(cache))
    assert "is no shard" in why and Store(cache).find(STAGE, KEY) is None and not Store(cache).here(record)


def test_an_action_that_gives_another_size_is_found(cache):
    store = Store(cache)
    record = store.save(STAGE, KEY, lambda path: path.write_bytes(b"values"), suffix=".safetensors")
    action = store.action(STAGE, KEY)
    action.chmod(0o644)
    action.write_bytes(encode(replace(record, size=7)))
    assert reasons(verify.verify(cache)) == ["its action gives another size"]


@pytest.mark.parametrize("kind", ["link", "folder", "name"])
def test_what_is_no_object_among_the_objects_is_set_aside(cache, kind):
    path = largest(cache, ".parquet")
    stray = path.parent / ("stray.txt" if kind == "name" else "0" * 62 + ".parquet")
    if kind == "link":
        stray.symlink_to(path)
    elif kind == "folder":
        stray.mkdir()
    else:
        stray.write_text("what is this")
    expected = "its name is no object's" if kind == "name" else "it is no regular file"
    assert reasons(verify.verify(cache)) == [expected]
    assert verify.verify(cache).damaged == () and path.exists()


def test_verifying_does_not_count_as_a_use(cache):
    actions = sorted(cache.glob("actions/*/*.json"))
    for action in actions:
        os.utime(action, (1e9, 1e9))
    verify.verify(cache)
    assert {action.stat().st_mtime for action in actions} == {1e9}


def test_the_command_ends_with_0_on_a_sound_cache_and_with_2_on_a_damaged_one(affectory, extracted, monkeypatch):  # noqa: F811
    monkeypatch.setenv("AFFECTORY_HOME", str(extracted.home))
    code, out, _ = affectory("verify", "--json")
    assert code == 0 and json.loads(out)["damaged"] == []
    flip(largest(extracted.home / "cache", ".parquet"))
    code, out, err = affectory("verify", "--json")
    assert code == 2 and len(json.loads(out)["damaged"]) == 1 and "other bytes" in err


# --- there -----------------------------------------------------------------------------------------------------


@pytest.fixture
def there(extracted, bucket, cache):
    """The inventory of a remote to which everything was pushed."""
    push(extracted, bucket)
    return Inventory(bucket, cache)


def listed(there):
    return [(file.place, file.size, file.modified) for folder in ("index", "objects") for file in there.files(folder)]


def biggest(there):
    return max(there.files("objects"), key=lambda file: file.size)


def put(there, place, raw):
    there._files.pipe_file(there._full(place), raw)


def test_a_sound_remote_passes_and_nothing_of_it_is_kept(there, bucket, tmp_path):
    found = verify.verify_remote(bucket, tmp_path / "empty")
    assert found.damaged == () and found.unreferenced == 0
    assert found.objects == len(there.files("objects")) and found.records == len(there.files("index"))
    assert not (tmp_path / "empty").exists()


def test_one_flipped_bit_on_the_remote_is_found_and_nothing_there_changes(there, bucket, tmp_path):
    place = biggest(there).place
    raw = bytearray(there._files.cat_file(there._full(place)))
    raw[len(raw) // 2] ^= 4
    put(there, place, bytes(raw))
    before = listed(there)
    [damage] = verify.verify_remote(bucket, tmp_path).damaged
    assert (damage.place, damage.why) == (place, "it has other bytes than its name says")
    assert listed(there) == before


def test_an_object_that_is_cut_short_or_gone_is_found(there, bucket, tmp_path):
    first, second = sorted(there.files("objects"), key=lambda file: file.size)[-2:]
    put(there, first.place, b"short")
    there.remove(second)
    damaged = {each.place: each.why for each in verify.verify_remote(bucket, tmp_path).damaged}
    assert damaged.keys() == {first.place, second.place}
    assert "5 bytes" in damaged[first.place] and "not there" in damaged[second.place]


def test_a_damaged_index_is_found_though_a_sound_copy_of_it_is_kept_here(there, bucket, cache):
    place = there.files("index")[0].place
    raw = there._files.cat_file(there._full(place))
    put(there, place, raw.replace(b'"seconds"', b'"SECONDS"', 1))
    assert [each.place for each in verify.verify_remote(bucket, cache).damaged] == [place]


def test_the_command_reads_the_remote_of_the_environment_where_none_is_named(
    affectory,  # noqa: F811
    there,
    bucket,
    extracted,
    monkeypatch,
):
    monkeypatch.setenv("AFFECTORY_HOME", str(extracted.home))
    assert affectory("verify", "--remote")[0] == 2  # nobody says which
    monkeypatch.setenv("AFFECTORY_REMOTE", bucket)
    there.remove(biggest(there))
    code, out, _ = affectory("verify", "--remote", "--json")
    answer = json.loads(out)
    assert code == 2 and not answer["damaged"] and len(answer["remote"]["damaged"]) == 1
    assert affectory("verify", "--json")[0] == 0


def test_an_unreachable_remote_is_a_remote_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RemoteError, match="cannot be reached"):
        verify.verify_remote(f"file://{tmp_path}/file/under", tmp_path)
