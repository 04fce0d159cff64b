"""Downloads one file over HTTPS: resumes, retries, and checks size and digest."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pipeline.errors import RemoteError
from pipeline.reader import Download

BLOCK = 2**20
TIMEOUT_S = 30.0
WAITS_S = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each retry of a server that gave nothing new since the last try."""

_HERE = ("127.0.0.1", "localhost", "::1")
_TRANSIENT = (408, 425, 429)

Show = Callable[[int], None]


def download(item: Download, path: Path, show: Show = lambda _: None) -> None:
    """Downloads one file to `path`, and resumes from `<path>.part` if there is one.

    show: called with the number of bytes that are there so far. The file appears at `path` once its size and digest are
    right. Raises RemoteError otherwise, and keeps what has come, unless it is known to be wrong.
    """
    check_url(item.url, item.url)
    item = _sized(item) if item.git_blob else item
    path.parent.mkdir(parents=True, exist_ok=True)
    with Part(path, show) as part:
        resumed = part.size > 0
        complete(item, part)
        if resumed and not part.matches(item):
            part.restart()
            complete(item, part)
        if not part.matches(item):
            digest = part.digest()
            part.remove()
            raise RemoteError(f"{item.url} is not the expected file: its SHA-256 is {digest}, {_expected(item)}")
        part.finish(path)


def is_fetched(item: Download, path: Path) -> bool:
    """True if the file at `path` has the size and the digest that are expected."""
    size = path.stat().st_size
    if item.git_blob:
        return size <= item.bytes and _git_blob(path) == item.git_blob
    with path.open("rb") as file:
        return size == item.bytes and hashlib.file_digest(file, _algorithm(item)).hexdigest() == item.digest


def _algorithm(item: Download) -> str:
    return "sha256" if item.sha256 else "md5"


def _expected(item: Download) -> str:
    if item.git_blob:
        return f"and git does not name it {item.git_blob}"
    return f"not {item.sha256}" if item.sha256 else f"and its MD5 is not {item.md5}"


def _git_blob(path: Path) -> str:
    """The id that git gives to the content of a file."""
    content = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            content.update(block)
    return content.hexdigest()


def _sized(item: Download) -> Download:
    """The item with the size that the server states. Raises RemoteError if that is too large, or not stated."""
    request = Request(item.url, headers={"User-Agent": "affectory"}, method="HEAD")  # noqa: S310 - check_url saw it
    try:
        with build_opener(Redirect).open(request, timeout=TIMEOUT_S) as response:
            size = response.headers.get("Content-Length", "")
    except (OSError, HTTPException, ValueError) as error:
        raise RemoteError(f"{item.url}: {error}") from error
    if not size.isdecimal() or int(size) > item.bytes:
        raise RemoteError(f"{item.url} states {size or 'no'} bytes, the file has at most {item.bytes}")
    return replace(item, bytes=int(size))


class Part:
    """The first bytes of a file, `<name>.part`, with their digest and the tag of the version that they belong to.

    A context manager, which closes the file.
    """

    def __init__(self, path: Path, show: Show) -> None:
        self._path, self._tag = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.tag")
        self._show = show
        self._file: IO[bytes] = self._path.open("a+b")
        self._hash, self.size = hashlib.sha256(), 0
        self._file.seek(0)
        while block := self._file.read(BLOCK):
            self._count(block)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def tag(self) -> str:
        """The server's name of this version of the file."""
        return self._tag.read_text(encoding="latin-1").strip() if self._tag.exists() else ""

    def write(self, block: bytes) -> None:
        """Appends bytes."""
        self._file.write(block)
        self._count(block)

    def restart(self, tag: str = "") -> None:
        """Discards all bytes, since they are not of the version `tag`, and begins with that version."""
        self._file.truncate(0)
        self._tag.write_text(tag, encoding="latin-1")
        self._hash, self.size = hashlib.sha256(), 0
        self._show(0)

    def digest(self) -> str:
        """The SHA-256 of the bytes so far."""
        return self._hash.hexdigest()

    def matches(self, item: Download) -> bool:
        """True if the bytes so far are the expected file."""
        self._file.flush()
        return self.digest() == item.sha256 if item.sha256 else is_fetched(item, self._path)

    def finish(self, path: Path) -> None:
        """Flushes the file to disk and moves it to `path`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.replace(path)
        self._tag.unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes the part and its tag."""
        self._path.unlink()
        self._tag.unlink(missing_ok=True)

    def _count(self, block: bytes) -> None:
        self._hash.update(block)
        self.size += len(block)
        self._show(self.size)


class _TransientError(Exception):
    """A failure that another try may not meet."""


def complete(item: Download, part: Part) -> None:
    """Tries until the part has its full size. Raises RemoteError after several tries that got nothing new."""
    failed, furthest = 0, part.size
    while part.size != item.bytes:
        try:
            _try(item, part)
        except _TransientError as error:
            failed = 0 if part.size > furthest else failed + 1
            furthest = max(furthest, part.size)
            if failed > len(WAITS_S):
                raise RemoteError(f"{item.url}: {error}, {failed} times; the same command goes on from here") from error
            time.sleep(WAITS_S[max(failed - 1, 0)])


def _try(item: Download, part: Part) -> None:
    """Requests the missing bytes and appends what comes. Raises _TransientError if that is not all of them."""
    if part.size > item.bytes:
        part.restart()
    with _open(item, part) as response:
        _check_size(item, response)
        if response.status != 206:
            part.restart(_tag(response))
        elif _start(response) != part.size:
            part.restart()
            raise _TransientError("the server sent another part of the file than was requested")
        while block := _read(response):
            if part.size + len(block) > item.bytes:
                part.remove()
                raise RemoteError(f"{item.url} is longer than the expected {item.bytes} bytes")
            part.write(block)
    if part.size < item.bytes:
        raise _TransientError(f"the connection ended after {part.size} of {item.bytes} bytes")


def _open(item: Download, part: Part) -> HTTPResponse:
    headers = {"User-Agent": "affectory"}
    if part.size:
        headers |= {"Range": f"bytes={part.size}-"} | ({"If-Range": part.tag} if part.tag else {})
    request = Request(item.url, headers=headers)  # noqa: S310 - check_url saw it
    try:
        response: HTTPResponse = build_opener(Redirect).open(request, timeout=TIMEOUT_S)
        return response
    except HTTPError as error:
        error.close()
        if error.code == 416:
            part.restart()
        elif error.code not in _TRANSIENT and error.code < 500:
            raise RemoteError(f"{item.url}: {error}") from error
        raise _TransientError(str(error)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _TransientError(str(error) or type(error).__name__) from error


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(BLOCK)
    except (OSError, HTTPException) as error:
        raise _TransientError(str(error) or type(error).__name__) from error


def _tag(response: HTTPResponse) -> str:
    """The name of this version of the file for If-Range: a strong ETag, else the date."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _check_size(item: Download, response: HTTPResponse) -> None:
    """Raises RemoteError if the server states another size of the whole file than expected."""
    if response.status == 206:
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        size = response.headers.get("Content-Length", "")
    if size.isdecimal() and int(size) != item.bytes:
        raise RemoteError(f"{item.url} has {size} bytes, not the expected {item.bytes}")


def _start(response: HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


class Redirect(HTTPRedirectHandler):
    """Follows a redirection only to a URL that `check_url` allows."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """The request for the new URL. Raises RemoteError if `check_url` refuses it."""
        try:
            check_url(newurl, req.full_url)
        except RemoteError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_url(url: str, origin: str) -> None:
    """Raises RemoteError unless `url` is https, or is http on this machine and so is `origin`, which led to it."""
    target = urlsplit(url)
    if target.scheme == "https":
        return
    if target.scheme != "http" or target.hostname not in _HERE or urlsplit(origin).hostname not in _HERE:
        raise RemoteError(f"{url} is not https")
