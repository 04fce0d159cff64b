"""A remote that cannot be reached for a while: the work goes on without it, and it is asked again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from pipeline.cache import store as store_module
from pipeline.cache.remote import Remote
from pipeline.cache.store import AWAY_S, CorruptError, Store
from pipeline.errors import RemoteError
from pipeline.run.exchange import OwnCache
from pipeline.run.outcome import Outcome
from tests.pipeline.cache.test_store import KEY, STAGE, save
from tests.teams import other, pull, push  # noqa: F401 - a fixture

LATE = "b" * 64


class Flaky(Remote):
    """A remote that can be reached while `up`. asked: how often it was tried."""

    up, asked = True, 0

    def _reach(self, call):
        self.asked += 1
        if not self.up:
            raise RemoteError(f"{self.url} cannot be reached")
        return super()._reach(call)


@dataclass
class Site:
    """A store whose one object is on a remote alone, and a clock that a test sets."""

    store: Store
    remote: Flaky
    clock: list[float] = field(default_factory=lambda: [1000.0])

    def find(self):
        return self.store.find(STAGE, KEY)


@pytest.fixture
def site(tmp_path, monkeypatch):
    remote = Flaky(f"file://{tmp_path}/remote", tmp_path / "cache")
    pushed = Store(tmp_path / "cache")
    record = save(pushed)
    remote.put(record, pushed.path(record))
    remote.publish(STAGE, [record])
    pushed.path(record).unlink()
    pushed.action(STAGE, KEY).unlink()
    found = Site(Store(tmp_path / "cache", remote), remote)
    monkeypatch.setattr(store_module, "time", SimpleNamespace(monotonic=lambda: found.clock[0]))
    return found


def test_a_remote_that_could_not_be_reached_is_asked_again_after_a_while_and_not_before(site):
    site.remote.up = False
    assert site.find() is None
    site.remote.up, site.remote.asked = True, 0
    site.clock[0] += AWAY_S - 1
    assert site.find() is None and site.remote.asked == 0
    site.clock[0] += 2
    assert site.store.open(site.find()).read_bytes() == b"values"


def test_a_remote_that_stays_away_is_warned_of_once_and_tried_once_in_that_time(site, caplog):
    site.remote.up = False
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            site.remote.asked = 0
            assert [site.find() for _ in range(5)] == [None] * 5 and site.remote.asked == 1
            site.clock[0] += AWAY_S + 1
    assert caplog.text.count("going on without the remote") == 1


def test_an_index_that_was_read_before_answers_nothing_while_its_remote_is_away(site):
    record = site.find()
    site.remote.up = False
    with pytest.raises(CorruptError):
        site.store.open(record)
    for _ in range(3):
        assert site.store.listing(STAGE) == {} and site.find() is None
        site.clock[0] += AWAY_S + 1
    site.remote.up = True
    assert site.store.listing(STAGE) == {KEY: True}


def test_an_object_that_could_not_be_fetched_is_fetched_when_the_remote_is_back(site):
    record = site.find()
    site.remote.up = False
    with pytest.raises(CorruptError, match="made again"):
        site.store.open(record)
    site.remote.up = True
    site.clock[0] += AWAY_S + 1
    assert site.store.open(site.find()).read_bytes() == b"values"


def test_the_share_of_a_job_fails_if_the_remote_is_away_and_that_of_the_next_job_does_not(site):
    exchange = OwnCache(site.remote.url, location=None)
    first, second = save(site.store, b"one", KEY[:-1] + "0"), save(site.store, b"two", LATE)
    site.remote.up = False
    assert site.store.final(STAGE, "c" * 64) is None, "a question that fails too"
    with pytest.raises(RemoteError, match="cannot be reached"):
        exchange.share(site.store, Outcome("text", saved=[first]))
    site.remote.up = True
    assert exchange.share(site.store, Outcome("text", saved=[second])).saved == [second]
    assert Remote(site.remote.url, site.store.root).has(second)


def test_a_pull_whose_remote_went_away_is_an_error(extracted, other, tmp_path, monkeypatch):  # noqa: F811
    url = f"file://{tmp_path}/shared"
    push(extracted, url)

    def gone(remote, stage):
        raise RemoteError(f"{remote.url} cannot be reached")

    monkeypatch.setattr(Remote, "index", gone)
    with pytest.raises(RemoteError, match="went away"):
        pull(other, url)
