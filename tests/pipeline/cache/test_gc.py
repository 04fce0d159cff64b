"""`gc`: what nobody used goes, when asked to; what is used, young, pinned or named stays."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cache import gc, in_use, verify
from pipeline.cache.gc import DAY
from pipeline.cache.home import Home
from pipeline.cache.record import REFERENCES
from pipeline.cache.store import Store
from pipeline.cli.extract import extracted as extract_command
from pipeline.errors import InputError
from pipeline.plan.session import Session
from tests.pipeline.cache.test_verify import unreadable
from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.small import Small, views
from tests.teams import options, other, pull, push  # noqa: F401 - a fixture

STAGE, KEY = "5" * 64, "a" * 64
MONTHS = 60 * DAY


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
    return {unused.name for unused in waste.stages}


@pytest.fixture
def home(extracted):
    return Home(extracted.home)


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
    left = {record.stage.removesuffix(".fit") for _, record in Store(home.cache).records()}
    assert {stage for stage in left if not stage.endswith(REFERENCES)} == kept
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
    unused = {stage.name for stage in gc.collect(home, 30).stages}
    assert unused == {"manifest"}, "the release itself is here, so the manifest's object is not read"


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


def test_a_damaged_action_is_left_for_verify_and_keeps_gc_from_nothing(extracted, home):
    age(extracted, "audio_mfcc")
    bad = next((home.cache / "actions" / stage(extracted, "text_cnn")).glob("*.json"))
    bad.chmod(0o644)
    bad.write_bytes(bad.read_bytes()[:-5])
    assert names(gc.delete(home, 30)) == {"audio_mfcc"}
    assert bad.exists() and len(verify.verify(home.cache).damaged) == 1


def test_while_an_action_cannot_be_read_nothing_is_deleted_since_it_may_name_any_object(extracted, home, monkeypatch):
    age(extracted)
    before = files(home.cache)
    bad = next((home.cache / "actions" / stage(extracted, "text_cnn")).glob("*.json"))
    unreadable(monkeypatch, bad, errno.EIO)
    with pytest.raises(InputError, match="may name any object"):
        gc.delete(home, 30)
    assert files(home.cache) == before
