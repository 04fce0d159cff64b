"""Downloading, from a real server on this machine: what breaks off goes on, and nothing wrong gets a file's name."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import RemoteError
from pipeline.transfer import download as downloads
from pipeline.transfer.download import download
from tests.site import CONTENT, Handler, Site, cut, deaf, move, serving, status, well, whole


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "WAITS_S", (0.0, 0.0, 0.0, 0.0))
    with serving() as found:
        yield found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def part(root: Path, content: bytes, tag: str = '"v1"') -> None:
    (root / "file.part").write_bytes(content)
    (root / "file.part.tag").write_text(tag)


def test_a_file_appears_whole_and_nothing_else_does(site: Site, tmp_path: Path) -> None:
    sizes: list[int] = []
    download(site.item(), tmp_path / "a/file", sizes.append)
    assert (tmp_path / "a/file").read_bytes() == CONTENT
    assert names(tmp_path / "a") == ["file"]
    assert sizes[-1] == len(CONTENT) and site.ranges == [""]


def test_a_connection_that_breaks_goes_on_from_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.replies = [cut(100_000), cut(50_000)]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert site.ranges == ["", "bytes=100000-", "bytes=150000-"]
    assert [headers.get("If-Range") for headers in site.seen] == [None, '"v1"', '"v1"']


def test_an_earlier_run_is_gone_on_with_and_its_bytes_are_hashed_too(site: Site, tmp_path: Path) -> None:
    part(tmp_path, CONTENT[:200_000])
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and names(tmp_path) == ["file"]
    assert site.ranges == ["bytes=200000-"]


def test_a_part_that_is_complete_needs_no_server(site: Site, tmp_path: Path) -> None:
    part(tmp_path, CONTENT)
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and site.seen == []


@pytest.mark.parametrize("wrong", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_a_wrong_part_is_given_up_once_it_is_seen_to_be_wrong(site: Site, tmp_path: Path, wrong: bytes) -> None:
    part(tmp_path, wrong)
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and names(tmp_path) == ["file"]
    assert site.ranges[-1] == ""


def test_a_file_that_changed_on_the_server_starts_anew(site: Site, tmp_path: Path) -> None:
    part(tmp_path, b"x" * 1000, tag='"v0"')
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [headers.get("If-Range") for headers in site.seen] == ['"v0"']


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"ETag": 'W/"weak"', "Last-Modified": "Sun, 10 Mar 2024 05:01:07 GMT"}, "Sun, 10 Mar 2024 05:01:07 GMT"),
        ({"ETag": 'W/"weak"'}, None),
        ({}, None),
    ],
)
def test_without_a_strong_tag_the_date_stands_for_the_version(
    site: Site, tmp_path: Path, headers: dict[str, str], asked: str | None
) -> None:
    site.replies = [whole(CONTENT[:1000], **{"Content-Length": len(CONTENT)}, **headers)]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert site.seen[1].get("If-Range") == asked and site.ranges[1] == "bytes=1000-"


def test_a_server_without_ranges_starts_anew_and_is_believed(site: Site, tmp_path: Path) -> None:
    site.replies = [deaf(100_000), deaf()]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_that_always_breaks_is_given_up(site: Site, tmp_path: Path) -> None:
    site.replies = [deaf(100_000)] * 20
    with pytest.raises(RemoteError, match="ended after 100000 of 300000"):
        download(site.item(), tmp_path / "file")
    assert len(site.seen) == 6


def test_a_range_that_cannot_be_satisfied_starts_anew(site: Site, tmp_path: Path) -> None:
    part(tmp_path, CONTENT[:1000])
    site.replies = [status(416)]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and site.ranges == ["bytes=1000-", ""]


@pytest.mark.parametrize("answered", ["bytes 0-299999/300000", "bytes 999-299999/300000", "nonsense", None])
def test_another_part_than_the_one_asked_for_is_not_appended(site: Site, tmp_path: Path, answered: str | None) -> None:
    part(tmp_path, CONTENT[:1000])
    site.replies = [lambda request: request.answer(206, CONTENT[1000:], Content_Range=answered)]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and site.ranges == ["bytes=1000-", ""]


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_passing_errors_are_tried_again(site: Site, tmp_path: Path, code: int) -> None:
    site.replies = [status(code)] * 3
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and len(site.seen) == 4


def test_a_server_that_keeps_failing_is_given_up_and_the_part_kept(site: Site, tmp_path: Path) -> None:
    site.replies = [cut(1000), *[status(503)] * 20]
    with pytest.raises(RemoteError, match=r"503.*5 times; the same command goes on"):
        download(site.item(), tmp_path / "file")
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:1000] and not (tmp_path / "file").exists()
    site.replies = []
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and site.ranges[-1] == "bytes=1000-"


def test_slow_progress_over_many_breaks_is_progress(site: Site, tmp_path: Path) -> None:
    site.replies = [cut(10_000)] * 29
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and len(site.seen) == 30


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_final_errors_are_not_tried_again(site: Site, tmp_path: Path, code: int) -> None:
    site.replies = [status(code)]
    with pytest.raises(RemoteError, match=str(code)):
        download(site.item(), tmp_path / "file")
    assert len(site.seen) == 1


def test_a_server_that_is_not_there_is_an_error_of_the_remote(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="Connection refused"):
        download(site.item(url="http://127.0.0.1:1/file"), tmp_path / "file")


def test_a_server_that_hangs_is_asked_again(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.2)

    def hang(request: Handler) -> None:
        well(request, 1000)
        request.wfile.flush()
        time.sleep(0.6)

    site.replies = [hang]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and site.ranges == ["", "bytes=1000-"]


def test_a_wrong_sha256_leaves_nothing(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="is not the expected file: its SHA-256"):
        download(site.item(sha256="0" * 64), tmp_path / "file")
    assert names(tmp_path) == [] and len(site.seen) == 1


def test_another_size_on_the_server_is_refused_before_the_part_is_given_up(site: Site, tmp_path: Path) -> None:
    for reply in (whole(b"please log in"), cut(10)):
        part(tmp_path, CONTENT[:1000])
        site.replies = [reply]
        with pytest.raises(RemoteError, match=r"has \d+ bytes, not the expected"):
            download(site.item(bytes=len(CONTENT) + 5), tmp_path / "file")
        assert (tmp_path / "file.part").read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("length", [len(CONTENT) + 1, len(CONTENT) - 1, 0])
def test_a_lying_content_length_never_makes_a_file(site: Site, tmp_path: Path, length: int) -> None:
    site.replies = [whole(CONTENT, **{"Content-Length": length})]
    with pytest.raises(RemoteError, match="bytes, not the"):
        download(site.item(), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_more_than_was_announced_is_not_read(site: Site, tmp_path: Path) -> None:
    site.replies = [whole(CONTENT + b"more", **{"Content-Length": len(CONTENT)})]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_without_a_length_the_end_is_the_end_but_never_beyond_what_is_expected(site: Site, tmp_path: Path) -> None:
    site.replies = [whole(CONTENT, **{"Content-Length": None})]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    site.replies = [whole(CONTENT + b"more", **{"Content-Length": None})]
    with pytest.raises(RemoteError, match="is longer than the expected 300000 bytes"):
        download(site.item(), tmp_path / "other")
    assert names(tmp_path) == ["file"]


def test_a_chunked_answer_that_breaks_goes_on(site: Site, tmp_path: Path) -> None:
    chunk = b"%x\r\n%b\r\n" % (1000, CONTENT[:1000])
    site.replies = [whole(chunk, **{"Content-Length": None, "Transfer-Encoding": "chunked", "ETag": '"v1"'})]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and site.ranges == ["", "bytes=1000-"]


def test_a_redirect_is_followed_with_the_range(site: Site, tmp_path: Path) -> None:
    part(tmp_path, CONTENT[:1000])
    site.replies = [move("/elsewhere")]
    download(site.item(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and site.ranges == ["bytes=1000-"] * 2


@pytest.mark.parametrize("place", ["http://example.org/file", "ftp://127.0.0.1/file", "file:///etc/passwd"])
def test_only_https_is_asked_and_redirected_to(site: Site, tmp_path: Path, place: str) -> None:
    with pytest.raises(RemoteError, match="is not https"):
        download(site.item(url=place), tmp_path / "file")
    site.replies = [move(place)]
    with pytest.raises(RemoteError, match="is not https|302"):
        download(site.item(), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_another_host_cannot_redirect_to_this_machine() -> None:
    with pytest.raises(RemoteError, match="is not https"):
        downloads.check_url("http://127.0.0.1/admin", "https://example.org/file")


def test_an_interrupted_process_leaves_a_part_that_the_next_goes_on_from(site: Site, tmp_path: Path) -> None:
    def stall(request: Handler) -> None:
        well(request, 100_000)
        request.wfile.flush()
        time.sleep(2)

    site.replies = [stall]
    program = (
        "import sys; from pathlib import Path; from pipeline.transfer.download import download; "
        "from pipeline.reader import Download; size, url, sha, path = sys.argv[1:]; "
        "download(Download(url=url, name='file', bytes=int(size), sha256=sha), Path(path), "
        "lambda done: print(done, flush=True))"
    )
    item = site.item()
    arguments = [str(item.bytes), item.url, item.sha256, str(tmp_path / "file")]
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 100_000:
                break
        process.kill()
    kept = (tmp_path / "file.part").stat().st_size
    assert names(tmp_path) == ["file.part", "file.part.tag"] and kept <= 100_000
    download(item, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and site.ranges[-1] == (f"bytes={kept}-" if kept else "")
