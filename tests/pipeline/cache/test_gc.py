"""`gc`: what nobody used goes, when asked to; what is used, young, pinned, locked or named stays."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cache import gc, gc_remote, in_use, verify
from pipeline.cache.gc import DAY
from pipeline.cache.home import Home
from pipeline.cache.remote_inventory import Inventory
from pipeline.cache.store import Store
from pipeline.cli.extract import extracted as extract_command
from pipeline.corpus.lock_file import Lock, lock_path, locked_indexes, write_lock
from pipeline.errors import RemoteError
from pipeline.plan.estimate import views
from pipeline.plan.session import Session
from pipeline.transfer.final_records import lock
from tests.pipeline.cache.test_verify import put
from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.pipeline.transfer.test_push_pull import options, other, pull, push  # noqa: F401 - a fixture
from tests.small import Small

STAGE, KEY = "5" * 64, "a" * 64
MONTHS = 60 * DAY


def collect_there(there, home, days, *now):
    return gc_remote.collect(there, home, days, locked_indexes(home), *now)


def delete_there(there, home, days, *now):
    return gc_remote.delete(there, home, days, locked_indexes(home), *now)


def files(cache: Path) -> set[str]:
    return {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()} - {"pins/gate"}


def stage(small: Small, name: str) -> str:
    return next(node.digest for node, _ in small.session().catalogue.wanted if node.name == name)


def age(small: Small, *names: str, days: float = 60.0) -> None:
    """Makes what stands of these stages, or of all, as old as that, as if it had not been used since."""
    cache, then = small.home / "cache", time.time() - days * DAY
    digests = {stage(small, name) for name in names}
    for path, record in list(Store(cache).records()):
        if not names or record.stage.removesuffix(".fit") in digests:
            os.utime(path, (then, then))
            os.utime(Store(cache).path(record), (then, then))


def names(waste: gc.Waste) -> set[str]:
    return {each.name for each in waste.stages}


@pytest.fixture
def home(extracted):
    return Home(extracted.home)


# --- here ------------------------------------------------------------------------------------------------------


def test_nothing_of_a_cache_that_was_used_today_is_collected(home):
    assert gc.collect(home, 1).bytes == 0


def test_without_delete_nothing_is_deleted_and_with_it_what_was_listed(extracted, home):
    age(extracted)
    before = files(home.cache)
    waste = gc.collect(home, 30)
    assert files(home.cache) == before
    assert names(waste) == {"text_word2vec", "text_cnn", "audio_mfcc", "audio_opensmile"}
    assert waste.bytes == sum((home.cache / f).stat().st_size for f in before if f.startswith(("actions", "objects")))
    assert gc.delete(home, 30) == waste
    assert not {f for f in files(home.cache) if f.startswith(("actions", "objects"))}


def test_only_stages_that_nobody_used_go_and_the_next_run_makes_them_alone(extracted, home):
    age(extracted, "audio_mfcc")
    assert names(gc.delete(home, 30)) == {"audio_mfcc"}
    assert verify.verify(home.cache).damaged == ()
    assert extracted.extract() == {"audio_mfcc": 60}


def test_a_hit_counts_as_a_use_for_every_action_it_reads(extracted, home):
    age(extracted)
    assert extracted.extract() == {}
    assert gc.collect(home, 1).bytes == 0


def test_an_action_may_have_been_used_up_to_a_day_after_its_use_was_noted(extracted, home):
    age(extracted, "audio_mfcc", days=30.9)
    assert gc.collect(home, 30).stages == ()
    age(extracted, "audio_mfcc", days=31.1)
    assert names(gc.collect(home, 30)) == {"audio_mfcc"}


@pytest.mark.parametrize("days", [0, 0.001, 1])
def test_nothing_younger_than_a_day_goes_whatever_is_asked_for(extracted, home, days):
    (Store(home.cache).root / "corrupt").mkdir()
    (Store(home.cache).root / "corrupt" / KEY).write_text("set aside just now")
    Store(home.cache).save(STAGE, KEY, lambda path: path.write_bytes(b"loose"), suffix=".parquet")
    Store(home.cache).action(STAGE, KEY).unlink()
    age(extracted, days=0.9)
    before = files(home.cache)
    gc.delete(home, days)
    assert files(home.cache) == before


def test_an_object_goes_only_with_the_last_action_that_names_it(extracted, home):
    record = next(r for _, r in Store(home.cache).records() if r.stage == stage(extracted, "audio_mfcc"))
    age(extracted, "audio_mfcc")
    Store(home.cache).adopt(replace(record, key=KEY))
    gc.delete(home, 30)
    assert Store(home.cache).open(replace(record, key=KEY)).exists()
    assert [r.key for _, r in Store(home.cache).records() if r.stage == record.stage] == [KEY]


def test_an_object_that_nothing_names_goes_after_a_day(home):
    store = Store(home.cache)
    path = store.path(store.save(STAGE, KEY, lambda file: file.write_bytes(b"loose"), suffix=".parquet"))
    store.action(STAGE, KEY).unlink()
    assert gc.collect(home, 30).unreferenced == ()
    os.utime(path, (time.time() - 2 * DAY,) * 2)
    assert [item.path for item in gc.delete(home, 30).unreferenced] == [path] and not path.exists()


def test_what_was_set_aside_goes_when_it_is_old(home):
    (home.cache / "corrupt").mkdir()
    (home.cache / "corrupt" / "bad").write_text("damaged")
    assert gc.collect(home, 30).corrupt == ()
    assert len(gc.collect(home, 30, time.time() + 40 * DAY).corrupt) == 1


def test_what_a_live_run_has_pinned_stays_with_its_states_and_the_rest_goes(extracted, home):
    age(extracted)
    kept = {stage(extracted, name) for name in ("text_word2vec", "text_cnn")}
    with in_use.pinned(home.cache, kept):
        waste = gc.delete(home, 30)
    assert names(waste) == {"audio_mfcc", "audio_opensmile"}
    assert {record.stage.removesuffix(".fit") for _, record in Store(home.cache).records()} == kept
    assert verify.verify(home.cache).damaged == ()


def test_while_a_run_is_live_objects_that_nothing_names_stay(home):
    store = Store(home.cache)
    path = store.path(store.save(STAGE, KEY, lambda file: file.write_bytes(b"loose"), suffix=".parquet"))
    store.action(STAGE, KEY).unlink()
    os.utime(path, (time.time() - 2 * DAY,) * 2)
    with in_use.pinned(home.cache, ["6" * 64]):
        assert gc.delete(home, 30).unreferenced == () and path.exists()


def test_an_action_that_is_used_after_it_was_listed_stays_with_its_object(extracted, home, monkeypatch):
    age(extracted, "audio_mfcc")
    waste = gc.collect(home, 30)
    used = waste.stages[0].actions[0].path
    os.utime(used)
    monkeypatch.setattr(gc, "collect", lambda *_: waste)
    gc.delete(home, 30)
    [record] = [r for path, r in Store(home.cache).records() if path == used]
    assert Store(home.cache).open(record).exists() and verify.verify(home.cache).damaged == ()


def test_a_pulled_manifest_stays_for_as_long_as_it_stands_for_the_corpus(extracted, other, bucket):  # noqa: F811
    push(extracted, bucket)
    pull(other, bucket)
    gc.delete(Home(other.home), 30, time.time() + MONTHS)
    other.recipe = other.recipe.replace("channels = 4", "channels = 5")
    other.path.write_text(other.recipe)
    assert {r.about.get("stage") for _, r in Store(other.home / "cache").records()} == {None}
    assert other.session().corpus.manifest.rows


def test_copies_of_indexes_stay_as_long_as_what_they_name(extracted, home, bucket):
    push(extracted, bucket)
    month = time.time() - 40 * DAY
    for copy in (home.cache / "index").iterdir():
        os.utime(copy, (month, month))
    assert gc.collect(home, 30).indexes == ()
    age(extracted)
    assert len(gc.delete(home, 30).indexes) >= 6 and len(list((home.cache / "index").iterdir())) == 0


def test_what_is_used_under_a_lock_counts_as_used(extracted, home):
    extract_command(Session.open(home, options(extracted, "")), relock=True)
    age(extracted)
    extract_command(Session.open(home, options(extracted, "", locked=True)))
    assert gc.collect(home, 30).stages == ()


def columns(small):
    return sorted((small.home / "views").glob("*"))


def grow_old(small, days=60.0):
    for path in columns(small):
        os.utime(path / "column.json", (time.time() - days * DAY,) * 2)


def test_columns_of_views_that_nobody_used_are_listed_then_deleted_and_made_again(extracted, home):
    views(extracted.session(features=("sound",)))
    [path] = columns(extracted)
    assert gc.collect(home, 30).views == ()
    grow_old(extracted)
    waste = gc.collect(home, 30)
    assert [item.path for item in waste.views] == [path] and waste.bytes == sum(
        f.stat().st_size for f in path.iterdir()
    )
    assert columns(extracted) == [path]
    assert gc.delete(home, 30) == waste and columns(extracted) == []
    views(extracted.session(features=("sound",)))
    assert columns(extracted) == [path]


def test_making_a_view_that_is_there_counts_as_a_use_of_it(extracted, home):
    views(extracted.session(features=("sound",)))
    grow_old(extracted)
    views(extracted.session(features=("sound",)))
    assert gc.delete(home, 30).views == () and len(columns(extracted)) == 1


def test_columns_stay_while_a_run_is_live_and_one_that_was_used_since_it_was_listed(extracted, home, monkeypatch):
    views(extracted.session(features=("sound",)))
    grow_old(extracted)
    with in_use.pinned(home.cache, ["6" * 64]):
        assert gc.delete(home, 30).views == ()
    waste = gc.collect(home, 30)
    views(extracted.session(features=("sound",)))
    monkeypatch.setattr(gc, "collect", lambda *_: waste)
    gc.delete(home, 30)
    assert len(waste.views) == len(columns(extracted)) == 1


def test_the_command_lists_by_default_and_deletes_when_told_to(affectory, extracted, monkeypatch):  # noqa: F811
    monkeypatch.setenv("AFFECTORY_HOME", str(extracted.home))
    age(extracted, "audio_mfcc")
    before = files(extracted.home / "cache")
    code, out, err = affectory("gc", "--json")
    listed = json.loads(out)
    assert code == 0 and [each["name"] for each in listed["stages"]] == ["audio_mfcc"] and "audio_mfcc" in err
    assert files(extracted.home / "cache") == before and not listed["deleted"]
    deleted = json.loads(affectory("gc", "--delete", "--json")[1])
    assert deleted["stages"] == listed["stages"] and files(extracted.home / "cache") < before
    assert affectory("gc", "--older-than", "0")[0] == 2


# --- there -----------------------------------------------------------------------------------------------------


@pytest.fixture
def there(extracted, bucket):
    push(extracted, bucket)
    return Inventory(bucket, extracted.home / "cache")


def superseded(there, small):
    """Publishes records that lose to those that stand there; their index's place."""
    mfcc = stage(small, "audio_mfcc")
    mine = [replace(record, object="0" * 64) for record in there.index(mfcc).values()]
    digest = there.publish(mfcc, mine)
    there.publish(mfcc, [replace(mine[0], key=KEY)])
    return next(file.place for file in there.files("index") if digest in file.place)


def loose(there, raw=b"loose"):
    """An object that no index names, as a push leaves it that has not come to its index."""
    put(there, f"objects/ab/{'c' * 62}.parquet", raw)
    return f"objects/ab/{'c' * 62}.parquet"


def test_a_remote_that_was_pushed_to_holds_nothing_for_nothing_however_old(there, home):
    assert collect_there(there, home, 30, time.time() + MONTHS).bytes == 0


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
    assert delete_there(there, home, 1, now + DAY - 60).objects == ()
    assert place in {file.place for file in there.files("objects")}
    assert [file.place for file in delete_there(there, home, 1, now + DAY + 60).objects] == [place]
    assert place not in {file.place for file in there.files("objects")}


def test_a_superseded_index_goes_when_it_is_old_and_the_answers_stay(there, home, extracted, tmp_path):
    place, before = superseded(there, extracted), dict(there.index(stage(extracted, "audio_mfcc")))
    now = time.time()
    assert delete_there(there, home, 30, now + 29 * DAY).indexes == ()
    assert [file.place for file in delete_there(there, home, 30, now + 31 * DAY).indexes] == [place]
    after = Inventory(there.url, tmp_path).index(stage(extracted, "audio_mfcc"))
    assert after == before and KEY in after


def test_the_newest_index_of_a_stage_stays_though_its_records_are_an_older_ones(there, home, extracted):
    mfcc = stage(extracted, "audio_mfcc")
    records = list(there.index(mfcc).values())
    there.publish(mfcc, [replace(records[0], key=KEY)])
    there.publish(mfcc, records, newest=True)
    assert collect_there(there, home, 30, time.time() + MONTHS).indexes == ()
    assert len(there.segments(mfcc)) == 3


def test_an_index_that_a_lock_names_stays(there, home, extracted, tmp_path, monkeypatch):
    place = superseded(there, extracted)
    digest = place.rpartition("-")[2].removesuffix(".json")
    lock = {"manifest": "0" * 64, "stages": {f"audio_mfcc {stage(extracted, 'audio_mfcc')}": digest}}
    (tmp_path / "team.lock.json").write_text(json.dumps(lock))
    monkeypatch.setattr(gc_remote, "RECIPES", tmp_path)
    assert collect_there(there, home, 30, time.time() + MONTHS).indexes == ()


@pytest.mark.parametrize("noted", ["by opening its recipe", "by writing it"])
def test_an_index_that_the_lock_of_a_recipe_of_ones_own_names_stays(there, home, extracted, noted):
    path, place = lock_path(extracted.path), superseded(there, extracted)
    assert path.exists(), "the push wrote it"
    (home.root / "locks.txt").unlink()
    stages = {f"audio_mfcc {stage(extracted, 'audio_mfcc')}": place.rpartition("-")[2].removesuffix(".json")}
    if noted == "by writing it":
        path.unlink()
        lock(extracted.session(), {s.rpartition(" ")[2]: digest for s, digest in stages.items()}, relock=True)
    else:
        write_lock(path, Lock(manifest="0" * 64, stages=stages))
        extracted.session()
    assert collect_there(there, home, 30, time.time() + MONTHS).indexes == ()
    path.unlink()
    assert len(collect_there(there, home, 30, time.time() + MONTHS).indexes) == 1


def test_what_a_live_run_here_uses_stays_on_the_remote(there, home, extracted):
    superseded(there, extracted)
    loose(there)
    with in_use.pinned(home.cache, [stage(extracted, "audio_mfcc")]):
        assert collect_there(there, home, 30, time.time() + MONTHS).bytes == 0
    assert collect_there(there, home, 30, time.time() + MONTHS).bytes > 0


def test_an_object_that_only_an_action_here_names_stays_on_the_remote(there, home):
    place = loose(there)
    record = next(r for _, r in Store(home.cache).records())
    Store(home.cache).adopt(replace(record, stage=STAGE, key=KEY, object="ab" + "c" * 62, size=5))
    assert place not in {f.place for f in collect_there(there, home, 1, time.time() + MONTHS).objects}


def test_what_is_named_while_gc_is_at_work_stays(there, home, extracted, monkeypatch):
    place = loose(there)
    record = next(r for _, r in Store(home.cache).records())
    late = replace(record, stage=stage(extracted, "audio_mfcc"), key=KEY, object="ab" + "c" * 62, size=5)
    now, remove = time.time() + MONTHS, gc_remote._remove

    def meanwhile(there, files):
        Inventory(there.url, home.cache).publish(late.stage, [late])
        remove(there, files)

    monkeypatch.setattr(gc_remote, "_remove", meanwhile)
    assert delete_there(there, home, 30, now).objects == ()
    assert place in {file.place for file in there.files("objects")}


def test_a_damaged_index_may_name_anything_so_nothing_is_deleted(there, home):
    loose(there)
    put(there, there.files("index")[0].place, b"[]")
    before = there.files("objects")
    with pytest.raises(RemoteError, match="other bytes"):
        delete_there(there, home, 30, time.time() + MONTHS)
    assert there.files("objects") == before


def test_files_that_are_no_objects_are_none_of_our_business(there, home):
    put(there, "objects/README.txt", b"by hand")
    assert collect_there(there, home, 1, time.time() + MONTHS).objects == ()


def test_half_an_upload_to_a_shared_folder_goes_after_a_day(extracted, home, tmp_path):
    push(extracted, f"file://{tmp_path}/shared")
    there = Inventory(f"file://{tmp_path}/shared", home.cache)
    part = tmp_path / "shared" / "objects" / "ab" / f"{'c' * 62}.parquet.17-1a2b3c4d.part"
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(b"half")
    assert delete_there(there, home, 30).bytes == 0
    assert len(delete_there(there, home, 30, time.time() + 2 * DAY).objects) == 1 and not part.exists()


def test_a_damaged_action_is_left_for_verify_and_keeps_gc_from_nothing(extracted, home):
    age(extracted, "audio_mfcc")
    bad = next((home.cache / "actions" / stage(extracted, "text_cnn")).glob("*.json"))
    bad.chmod(0o644)
    bad.write_bytes(bad.read_bytes()[:-5])
    assert names(gc.delete(home, 30)) == {"audio_mfcc"}
    assert bad.exists() and len(verify.verify(home.cache).damaged) == 1


def test_an_object_that_was_sent_again_since_it_was_listed_stays(there):
    place = f"objects/ab/{'c' * 62}.parquet"
    there._files.pipe_file(there._full(place), b"values")
    [file] = [file for file in there.files("objects") if file.place == place]
    there.remove(replace(file, modified=file.modified - 60))
    assert file in there.files("objects")
    there.remove(file)
    assert file not in there.files("objects")
