"""A server of one file on this machine, which can be told to answer badly."""

from __future__ import annotations

import hashlib
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pipeline.reader import Download

CONTENT = random.Random(1).randbytes(300_000)
Reply = Callable[["Handler"], None]


@dataclass
class Site:
    """A server of `content` at every path. The first requests are answered by `replies`, the others as they should.

    stated: the size that it states where only the size is asked for; None if it states none.
    """

    content: bytes = CONTENT
    tag: str = '"v1"'
    stated: int | None = len(CONTENT)
    replies: list[Reply] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    def item(self, **changed: object) -> Download:
        given: dict[str, object] = {
            "url": f"http://127.0.0.1:{self.port}/file",
            "name": "file",
            "bytes": len(self.content),
            "sha256": hashlib.sha256(self.content).hexdigest(),
        }
        return Download(**(given | changed))  # type: ignore[arg-type]

    @property
    def ranges(self) -> list[str]:
        return [headers.get("Range", "") for headers in self.seen]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.site.seen.append(dict(self.headers.items()))
        self.close_connection = True
        reply = self.site.replies.pop(0) if self.site.replies else well
        reply(self)

    def do_HEAD(self) -> None:
        self.close_connection = True
        self.send_response(200)
        if self.site.stated is not None:
            self.send_header("Content-Length", str(self.site.stated))
        self.end_headers()

    def answer(self, code: int, body: bytes, **headers: object) -> None:
        self.send_response(code)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def start(self) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        stale = self.headers.get("If-Range", self.site.tag) != self.site.tag
        return int(found[1]) if found and not stale else 0

    def log_message(self, *_: object) -> None:
        pass


def well(request: Handler, size: int | None = None) -> None:
    """All that is asked for, or its first `size` bytes and then the end of the connection."""
    content, start = request.site.content, request.start()
    body = content[start:]
    headers: dict[str, object] = {"ETag": request.site.tag, "Content-Length": len(body)}
    if start >= len(content) > 0:
        request.answer(416, b"", Content_Range=f"bytes */{len(content)}")
        return
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    request.answer(206 if start else 200, body[:size], **headers)


def cut(size: int) -> Reply:
    return lambda request: well(request, size)


def status(code: int) -> Reply:
    return lambda request: request.answer(code, b"sorry")


def deaf(size: int | None = None) -> Reply:
    """A server that knows no ranges."""
    return lambda request: request.answer(
        200, request.site.content[:size], **{"Content-Length": len(request.site.content)}
    )


def whole(body: bytes, **headers: object) -> Reply:
    return lambda request: request.answer(200, body, **headers)


def move(place: str) -> Reply:
    return lambda request: request.answer(302, b"", Location=place)


@contextmanager
def serving() -> Iterator[Site]:
    """A site that is up until the block ends."""
    found = Site()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": found})) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()
