"""The lock of a recipe: when it is written, what it says, and what `--locked` refuses."""

from __future__ import annotations

import shutil

import pytest

from pipeline.cache.remote import Remote
from pipeline.corpus.lock_file import lock_path, read_lock
from pipeline.errors import InputError, RemoteError
from tests.teams import extract, pull, push


def test_push_writes_a_short_lock_and_says_what_differs_before_it_is_replaced(pushed, bucket):
    path = lock_path(pushed.path)
    assert len(path.read_text().splitlines()) < 20
    before = path.read_text()
    pushed.recipe = pushed.recipe.replace("n_mfcc = 5", "n_mfcc = 6")
    pushed.extract()
    differing = push(pushed, bucket)["lock"]["differing"]
    assert [line[:12] for line in sorted(differing)] == 2 * ["+ audio_mfcc"] + 2 * [
        "- audio_mfcc"
    ] and path.read_text() == before
    push(pushed, bucket, relock=True)
    assert path.read_text() != before and push(pushed, bucket)["lock"]["differing"] == []


def test_locked_uses_what_the_lock_names_though_the_cache_holds_another(pushed, other, bucket):
    other.path.write_text(other.recipe)
    shutil.copy(lock_path(pushed.path), lock_path(other.path))
    assert pull(other, bucket, locked=True)["missing"] == {}
    assert extract(other, bucket, locked=True) == {}
    lost = max((other.home / "cache" / "objects").rglob("*.parquet"), key=lambda path: path.stat().st_size)
    lost.chmod(0o644)
    lost.unlink()
    assert extract(other, bucket, locked=True) == {} and lost.exists()


def test_locked_refuses_what_the_lock_does_not_name(pushed, bucket):
    pushed.recipe = pushed.recipe.replace("n_mfcc = 5", "n_mfcc = 6")
    with pytest.raises(InputError, match="not in the lock: audio_mfcc: 60"):
        extract(pushed, bucket, locked=True)


def test_locked_refuses_another_manifest(pushed, bucket):
    pushed.edit("Ses01F_impro01_F000", ": ", ": Well, ")
    with pytest.raises(InputError, match=r"the manifest here is \w+, .*lock.json names"):
        extract(pushed, bucket, locked=True)


def test_a_lock_is_written_without_a_remote_and_only_of_everything(extracted):
    extract(extracted, "", relock=True)
    assert len(read_lock(lock_path(extracted.path)).stages) == 10
    assert extract(extracted, "", locked=True) == {}


def test_an_index_that_was_changed_under_a_lock_is_refused(pushed, other, bucket):
    other.path.write_text(other.recipe)
    shutil.copy(lock_path(pushed.path), lock_path(other.path))
    remote = Remote(bucket, pushed.home / "cache")
    [stage] = [node.digest for node, _ in pushed.session().catalogue.wanted if node.name == "audio_mfcc"]
    [segment] = remote.segments(stage)
    place = remote._full(f"index/{stage}/{segment.name}")
    raw = remote._files.cat_file(place)
    remote._files.pipe_file(place, raw.replace(b'"seconds"', b'"SECONDS"', 1))
    with pytest.raises(RemoteError, match="is damaged"):
        pull(other, bucket, locked=True)
