"""A cache, or a remote, whose keys are of another edition: refused in one line, read by nothing, freed when asked."""

from __future__ import annotations

import pytest

from pipeline.cache import gc, keys
from pipeline.cache.home import EDITION, Home
from pipeline.cache.remote import Remote
from pipeline.cache.store import Store
from pipeline.errors import InputError
from pipeline.transfer import push_pull
from tests.small import Small, views
from tests.teams import options, other, pull  # noqa: F401 - a fixture among them


@pytest.fixture
def first(extracted: Small) -> Small:
    """A team whose cache is of the first edition, which noted nothing."""
    views(extracted.session())
    (extracted.home / "cache" / EDITION).unlink()
    return extracted


def content(small: Small) -> dict[str, bytes]:
    kept = (path for path in small.home.rglob("*") if path.is_file() and path.suffix != ".sqlite")
    return {str(path.relative_to(small.home)): path.read_bytes() for path in kept}


def test_a_new_cache_notes_its_edition(extracted):
    assert (extracted.home / "cache" / EDITION).read_text() == f"{keys.KEY_VERSION}\n"
    assert Home(extracted.home).edition == keys.KEY_VERSION


def test_a_cache_of_the_first_edition_is_refused_in_one_line_and_left_as_it_is(first):
    before = content(first)
    for work in (first.session, first.extract, lambda: push_pull.push(Home(first.home), options(first, "file:///x"))):
        with pytest.raises(InputError, match=r"edition 1 .* `affectory gc --delete` frees their space") as refused:
            work()
        assert "\n" not in str(refused.value)
    assert content(first) == before


@pytest.mark.slow
def test_gc_frees_it_whenever_it_was_used_and_then_the_home_is_as_new(first):
    home = Home(first.home)
    assert gc.collect(home, 30).bytes > 0 and content(first)
    gc.delete(home, 30)
    assert not list((first.home / "cache" / "actions").rglob("*.json"))
    assert not [path for path in (first.home / "cache" / "objects").rglob("*") if path.is_file()]
    assert not list((first.home / "views").glob("*/column.json"))
    assert first.extract()["audio_mfcc"] == 60 and home.edition == keys.KEY_VERSION


def test_a_cache_of_a_later_edition_is_refused_too(extracted):
    (extracted.home / "cache" / EDITION).write_text("3\n")
    with pytest.raises(InputError, match="holds features of edition 3 of the keys, and this version reads edition 2"):
        extracted.session()


def test_a_remote_of_the_first_edition_says_that_it_has_to_be_pushed_again(extracted, other, tmp_path):  # noqa: F811
    url = f"file://{tmp_path / 'remote'}"
    remote, store = Remote(url, tmp_path / "elsewhere"), Store(tmp_path / "elsewhere")
    stage = keys.digest("manifest", other.path.stem)
    record = store.save(stage, "a" * 64, lambda path: path.write_bytes(b"rows"), suffix=".parquet")
    remote.send(record, store.open(record))
    remote.publish(stage, [record])
    with pytest.raises(InputError, match="edition 1 of the keys, of which this version reads nothing"):
        pull(other, url)
