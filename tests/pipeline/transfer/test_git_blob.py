"""A file whose SHA-256 is not known is known by the id that git gives to its content, or by its publisher's MD5."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.console import Bars
from pipeline.errors import InputError, RemoteError
from pipeline.reader import Download
from pipeline.transfer import download as downloads
from pipeline.transfer.download import download
from pipeline.transfer.fetch_corpus import fetch_all
from tests.site import CONTENT, Site, cut, serving, whole

MOST = 1_000_000


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "WAITS_S", (0.0, 0.0))
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def blob() -> str:
    """The id that git itself gives to the content."""
    hashed = subprocess.run(["git", "hash-object", "--stdin"], input=CONTENT, capture_output=True, check=True)
    return hashed.stdout.decode().strip()


def item(site: Site, blob: str, most: int = MOST) -> Download:
    return site.item(bytes=most, sha256="", git_blob=blob)


def test_it_is_fetched_once_whatever_its_size_and_goes_on_where_it_broke(site: Site, tmp_path: Path, blob: str) -> None:
    site.replies = [cut(1000)]
    assert fetch_all([item(site, blob)], tmp_path, Bars()) == ["file"]
    assert (tmp_path / "file").read_bytes() == CONTENT and site.ranges == ["", "bytes=1000-"]
    assert fetch_all([item(site, blob)], tmp_path, Bars()) == []


def test_other_content_of_the_same_size_leaves_nothing(site: Site, tmp_path: Path, blob: str) -> None:
    site.replies = [whole(CONTENT[::-1])]
    with pytest.raises(RemoteError, match=f"and git does not name it {blob}"):
        download(item(site, blob), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("stated", "message"), [(MOST + 1, f"states {MOST + 1} bytes"), (None, "states no bytes")])
def test_a_file_that_is_larger_than_expected_or_of_no_stated_size_is_not_asked_for(
    site: Site, tmp_path: Path, blob: str, stated: int | None, message: str
) -> None:
    site.stated = stated
    with pytest.raises(RemoteError, match=message):
        download(item(site, blob), tmp_path / "file")
    assert site.seen == [] and list(tmp_path.iterdir()) == []


def test_another_file_at_its_place_is_refused(site: Site, tmp_path: Path, blob: str) -> None:
    (tmp_path / "file").write_bytes(CONTENT[::-1])
    with pytest.raises(InputError, match="move it elsewhere"):
        fetch_all([item(site, blob)], tmp_path, Bars())


def test_a_file_with_an_md5_is_fetched_once_and_other_content_of_its_size_leaves_nothing(
    site: Site, tmp_path: Path
) -> None:
    pinned = site.item(sha256="", md5=hashlib.md5(CONTENT).hexdigest())
    assert fetch_all([pinned], tmp_path, Bars()) == ["file"] and site.ranges == [""]
    assert fetch_all([pinned], tmp_path, Bars()) == []
    site.replies = [whole(CONTENT[::-1])]
    with pytest.raises(RemoteError, match="and its MD5 is not"):
        download(pinned, tmp_path / "wrong" / "file")
    assert list((tmp_path / "wrong").iterdir()) == []
