"""A disk without hard links, such as exFAT, keeps a cache and a remote like any other."""

from __future__ import annotations

import errno
import os

import pytest

from pipeline.cache import atomic, verify
from pipeline.cache.home import Home
from pipeline.cache.remote_inventory import Inventory
from tests.teams import extract, pull, push


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV])
def linkless(monkeypatch, request):
    def refused(*places, **more):
        raise OSError(request.param, os.strerror(request.param), *places)

    monkeypatch.setattr(os, "link", refused)


def test_the_first_file_stays_and_none_is_half_written(linkless, tmp_path):
    assert atomic.write_new(tmp_path, tmp_path / "deep" / "a", b"first")
    assert not atomic.write_new(tmp_path, tmp_path / "deep" / "a", b"second")
    assert (tmp_path / "deep" / "a").read_bytes() == b"first" and not list((tmp_path / "partial").iterdir())


def test_a_folder_that_may_not_be_written_is_no_disk_without_links(monkeypatch, tmp_path):
    def refused(*places, **more):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), *places)

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(PermissionError):
        atomic.write_new(tmp_path, tmp_path / "a", b"first")


@pytest.mark.parametrize("linkless", [errno.EPERM], indirect=True)
def test_a_team_extracts_and_pushes_and_another_pulls(linkless, small, other, tmp_path):
    remote = f"file://{tmp_path / 'remote'}"
    assert small.extract(features=("sound",)) and not verify.verify(small.home / "cache").damaged
    push(small, remote)
    assert pull(other, remote)["objects"] > 0 and extract(other, remote, features=("sound",)) == {}


@pytest.mark.parametrize("linkless", [errno.EPERM], indirect=True)
def test_what_never_changes_on_a_remote_is_written_once(linkless, tmp_path):
    (tmp_path / "remote").mkdir()
    remote = Inventory(f"file://{tmp_path / 'remote'}", Home(tmp_path).cache)
    assert remote.put_new("releases/a-1.json", b"first") == b"first"
    assert remote.put_new("releases/a-1.json", b"second") == b"first"
