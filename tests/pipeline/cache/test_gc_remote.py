"""`gc --remote`: superseded indexes and unnamed objects go when they are old; whatever may still be read stays."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from pipeline.cache import gc_remote, in_use
from pipeline.cache.gc import DAY
from pipeline.cache.home import Home
from pipeline.cache.remote_inventory import Inventory
from pipeline.cache.store import Store
from pipeline.corpus import release_file
from pipeline.corpus.lock_file import Lock, lock_path, write_lock
from pipeline.corpus.release_file import agreed_digests
from pipeline.errors import RemoteError
from pipeline.transfer.final_records import lock, saved_manifest
from tests.pipeline.cache.test_gc import KEY, MONTHS, STAGE, stage
from tests.pipeline.cache.test_verify import put
from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.teams import push


def collect(there, home, days, *now):
    return gc_remote.collect(there, home, days, agreed_digests(home), *now)


def delete(there, home, days, *now):
    return gc_remote.delete(there, home, days, agreed_digests(home), *now)


@pytest.fixture
def home(extracted):
    return Home(extracted.home)


@pytest.fixture
def there(extracted, bucket):
    push(extracted, bucket)
    return Inventory(bucket, extracted.home / "cache")


def superseded(there, small):
    """Publishes records that lose to those that stand there; their index's place."""
    mfcc = stage(small, "audio_mfcc")
    losers = [replace(record, object="0" * 64) for record in there.index(mfcc).values()]
    digest = there.publish(mfcc, losers)
    there.publish(mfcc, [replace(losers[0], key=KEY)])
    return next(file.place for file in there.files("index") if digest in file.place)


def loose(there, raw=b"loose"):
    """An object that no index names, as a push leaves it that has not come to its index."""
    put(there, f"objects/ab/{'c' * 62}.parquet", raw)
    return f"objects/ab/{'c' * 62}.parquet"


def test_a_remote_that_was_pushed_to_holds_nothing_for_nothing_however_old(there, home):
    assert collect(there, home, 30, time.time() + MONTHS).bytes == 0


def test_a_remote_is_left_alone_without_being_named(affectory, there, bucket, extracted, monkeypatch):  # noqa: F811
    loose(there)
    monkeypatch.setenv("AFFECTORY_HOME", str(extracted.home))
    monkeypatch.setenv("AFFECTORY_REMOTE", bucket)
    monkeypatch.setattr(time, "time", lambda: 1e11)
    before = there.files("objects")
    assert "remote" not in json.loads(affectory("gc", "--delete", "--json")[1])
    assert there.files("objects") == before


def test_what_a_push_under_way_has_uploaded_stays_for_a_day(there, home):
    place = loose(there)
    now = next(file.modified for file in there.files("objects") if file.place == place)
    assert delete(there, home, 1, now + DAY - 60).objects == ()
    assert place in {file.place for file in there.files("objects")}
    assert [file.place for file in delete(there, home, 1, now + DAY + 60).objects] == [place]
    assert place not in {file.place for file in there.files("objects")}


def test_a_superseded_index_goes_when_it_is_old_and_the_answers_stay(there, home, extracted, tmp_path):
    place, before = superseded(there, extracted), dict(there.index(stage(extracted, "audio_mfcc")))
    now = time.time()
    assert delete(there, home, 30, now + 29 * DAY).indexes == ()
    assert [file.place for file in delete(there, home, 30, now + 31 * DAY).indexes] == [place]
    after = Inventory(there.url, tmp_path).index(stage(extracted, "audio_mfcc"))
    assert after == before and KEY in after


def test_the_newest_index_of_a_stage_stays_though_its_records_are_an_older_ones(there, home, extracted):
    mfcc = stage(extracted, "audio_mfcc")
    records = list(there.index(mfcc).values())
    there.publish(mfcc, [replace(records[0], key=KEY)])
    there.publish(mfcc, records, newest=True)
    assert collect(there, home, 30, time.time() + MONTHS).indexes == ()
    assert len(there.segments(mfcc)) == 3


def test_an_index_that_a_lock_names_stays(there, home, extracted, tmp_path, monkeypatch):
    place = superseded(there, extracted)
    digest = place.rpartition("-")[2].removesuffix(".json")
    lock = {
        "manifest": "0" * 64,
        "manifest_object": "0" * 64,
        "stages": {f"audio_mfcc {stage(extracted, 'audio_mfcc')}": digest},
    }
    (tmp_path / "team.lock.json").write_text(json.dumps(lock))
    monkeypatch.setattr(release_file, "RECIPES", tmp_path)
    assert collect(there, home, 30, time.time() + MONTHS).indexes == ()


@pytest.mark.parametrize("noted", ["by opening its recipe", "by writing it"])
def test_an_index_that_the_lock_of_a_recipe_of_ones_own_names_stays(there, home, extracted, noted):
    path, place = lock_path(extracted.path), superseded(there, extracted)
    assert path.exists(), "the push wrote it"
    (home.root / "locks.txt").unlink()
    stages = {f"audio_mfcc {stage(extracted, 'audio_mfcc')}": place.rpartition("-")[2].removesuffix(".json")}
    if noted == "by writing it":
        path.unlink()
        session = extracted.session()
        indexes = {name.rpartition(" ")[2]: digest for name, digest in stages.items()}
        lock(session, saved_manifest(session), indexes, relock=True)
    else:
        write_lock(path, Lock(manifest="0" * 64, manifest_object="0" * 64, stages=stages))
        extracted.session()
    assert collect(there, home, 30, time.time() + MONTHS).indexes == ()
    path.unlink()
    assert len(collect(there, home, 30, time.time() + MONTHS).indexes) == 1


def test_what_a_live_run_here_uses_stays_on_the_remote(there, home, extracted):
    superseded(there, extracted)
    loose(there)
    with in_use.pinned(home.cache, [stage(extracted, "audio_mfcc")]):
        assert collect(there, home, 30, time.time() + MONTHS).bytes == 0
    assert collect(there, home, 30, time.time() + MONTHS).bytes > 0


def test_an_object_that_only_an_action_here_names_stays_on_the_remote(there, home):
    place = loose(there)
    record = next(r for _, r in Store(home.cache).records())
    Store(home.cache).adopt(replace(record, stage=STAGE, key=KEY, object="ab" + "c" * 62, size=5))
    assert place not in {f.place for f in collect(there, home, 1, time.time() + MONTHS).objects}


def test_what_is_named_while_gc_is_at_work_stays(there, home, extracted, monkeypatch):
    place = loose(there)
    record = next(r for _, r in Store(home.cache).records())
    late = replace(record, stage=stage(extracted, "audio_mfcc"), key=KEY, object="ab" + "c" * 62, size=5)
    now, remove = time.time() + MONTHS, gc_remote._remove

    def meanwhile(there, files):
        Inventory(there.url, home.cache).publish(late.stage, [late])
        remove(there, files)

    monkeypatch.setattr(gc_remote, "_remove", meanwhile)
    assert delete(there, home, 30, now).objects == ()
    assert place in {file.place for file in there.files("objects")}


def test_a_damaged_index_may_name_anything_so_nothing_is_deleted(there, home):
    loose(there)
    put(there, there.files("index")[0].place, b"[]")
    before = there.files("objects")
    with pytest.raises(RemoteError, match="other bytes"):
        delete(there, home, 30, time.time() + MONTHS)
    assert there.files("objects") == before


def test_files_that_are_no_objects_are_none_of_our_business(there, home):
    put(there, "objects/README.txt", b"by hand")
    assert collect(there, home, 1, time.time() + MONTHS).objects == ()


def test_half_an_upload_to_a_shared_folder_goes_after_a_day(extracted, home, tmp_path):
    push(extracted, f"file://{tmp_path}/shared")
    there = Inventory(f"file://{tmp_path}/shared", home.cache)
    part = tmp_path / "shared" / "objects" / "ab" / f"{'c' * 62}.parquet.17-1a2b3c4d.part"
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(b"half")
    assert delete(there, home, 30).bytes == 0
    assert len(delete(there, home, 30, time.time() + 2 * DAY).objects) == 1 and not part.exists()


def test_an_object_that_was_sent_again_since_it_was_listed_stays(there):
    place = f"objects/ab/{'c' * 62}.parquet"
    there._files.pipe_file(there._full(place), b"values")
    [file] = [file for file in there.files("objects") if file.place == place]
    there.remove(replace(file, modified=file.modified - 60))
    assert file in there.files("objects")
    there.remove(file)
    assert file not in there.files("objects")
