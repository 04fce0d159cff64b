"""A small model hub on this machine, which also serves plain files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One model, `lab/tiny`, of these files at one commit; `plain` files are at their own names.

    seen: requests. starts: the first byte of each body. cuts: after how many bytes the next bodies break off.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}

    def describe(self) -> bytes:
        siblings = [self._sibling(name, body) for name, body in self.files.items()]
        return json.dumps({"id": "lab/tiny", "sha": COMMIT, "siblings": siblings}).encode()

    def _sibling(self, name: str, body: bytes) -> dict[str, Any]:
        if name.endswith((".safetensors", ".bin")):
            large = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
            return {"rfilename": name, "size": len(body), "blobId": "0" * 40, "lfs": large}
        blob = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        return {"rfilename": name, "size": len(body), "blobId": blob}

    def body(self, path: str) -> bytes | None:
        """What stands at a path; a file in `sent` comes in place of the one that the hub describes."""
        if path in (f"/api/models/lab/tiny/revision/{revision}" for revision in ("main", "v1", COMMIT)):
            return self.describe()
        place, _, name = path.rpartition("/")
        if place == f"/lab/tiny/resolve/{COMMIT}":
            return self.sent.get(name, self.files.get(name))
        return self.plain.get(path.removeprefix("/"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.hub.seen.append(f"{self.command} {path}")
        self.close_connection = True
        body = self.hub.body(path)
        content = body or b""
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(404 if body is None else 206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Connection", "close")
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.hub.starts.append(start)
            self.wfile.write(content[start:][: self.hub.cuts.pop() if self.hub.cuts else None])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that is up until the block ends."""
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub})) as server:
        hub.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
