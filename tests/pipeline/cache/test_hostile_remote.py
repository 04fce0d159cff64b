"""A remote that nobody trusts: what it sends is bounded, and one bad index does not hide what the others name."""

from __future__ import annotations

import json
import logging
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from blake3 import blake3

from pipeline.cache import record as record_module
from pipeline.cache.record import ForeignError, Ref
from pipeline.cache.remote import BLOCK, Remote
from pipeline.cache.store import Store
from tests.pipeline.cache.test_store import KEY, STAGE, save

OTHER = "b" * 64


@pytest.fixture
def remote(tmp_path):
    """A remote on which one index names one object."""
    pushed = Store(tmp_path / "cache")
    made = Remote(f"file://{tmp_path}/remote", tmp_path / "cache")
    record = save(pushed, about={"stage": "audio_mfcc", "rows": 1})
    made.put(record, pushed.path(record))
    made.publish(STAGE, [record])
    return made


def entry(**changes):
    """A record of another key as JSON."""
    record = {"stage": STAGE, "key": OTHER, "object": "c" * 64, "suffix": ".parquet", "size": 6, "rows": []}
    return record | {"seconds": 1.0, "reasons": {}, "about": {}, "signature": ""} | changes


def plant(folder, raw, number="00000002"):
    """Puts an index on the remote as another machine would, under the digest of its bytes."""
    path = folder / "remote" / "index" / STAGE / f"{number}-{blake3(raw).hexdigest()}.json"
    path.write_bytes(raw)
    return path


BAD = {
    "a size of a terabyte": entry(size=2**40),
    "a negative size": entry(size=-1),
    "seconds that are no number": entry(seconds=float("nan")),
    "rows that are a text": entry(about={"rows": "many"}),
    "fewer rows than none": entry(about={"rows": -1}),
    "a log that is a list": entry(about={"log": []}),
    "train ids that are numbers": entry(about={"train": [1, 2]}),
    "a stage that is a list": entry(about={"stage": ["x"]}),
    "weights that are numbers": entry(about={"weights": {"a": 1}}),
    "a manifest that is no digest": entry(about={"manifest": "../x"}),
    "a field of a later version": entry(later=True),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_index_is_named_and_left_out_and_the_others_serve(remote, tmp_path, caplog, bad):
    path = plant(tmp_path, json.dumps([BAD[bad]]).encode())
    with caplog.at_level(logging.WARNING):
        assert list(Remote(remote.url, tmp_path / "new").index(STAGE)) == [KEY]
    assert path.stem.partition("-")[2][:12] in caplog.text


def test_an_index_of_very_many_values_is_refused_before_it_is_parsed(remote, tmp_path, monkeypatch):
    plant(tmp_path, json.dumps([entry(about={"x": [[]] * 1000})]).encode())
    monkeypatch.setattr(record_module, "MOST_CONTAINERS", 1000)
    monkeypatch.setattr(
        record_module, "_parsed", lambda adapter, raw: pytest.fail("it was parsed") if len(raw) > 2000 else []
    )
    Remote(remote.url, tmp_path / "new").index(STAGE)


def test_an_index_of_the_highest_number_hides_no_later_push(remote, tmp_path):
    plant(tmp_path, json.dumps([entry()]).encode(), "99999999")
    plant(tmp_path, json.dumps([entry(key="d" * 64)]).encode(), "999999999999")
    late = save(Store(tmp_path / "cache"), b"late", "e" * 64)
    remote.publish(STAGE, [late])
    assert late.key in Remote(remote.url, tmp_path / "new").index(STAGE)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_file_that_is_no_regular_one_is_not_opened(remote, tmp_path, caplog, kind):
    folder = tmp_path / "remote"
    for path in (
        folder / "index" / STAGE / f"00000002-{'a' * 64}.json",
        folder / "objects" / "cc" / f"{'c' * 62}.parquet",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    assert list(Remote(remote.url, tmp_path / "new").index(STAGE)) == [KEY]
    assert "no regular file" in caplog.text
    with pytest.raises(ForeignError, match="no regular file"):
        remote.fetch(Ref(stage=STAGE, key=OTHER, object="c" * 64, suffix=".parquet", size=6), tmp_path / "got")


def test_an_object_that_is_shorter_than_its_record_says_ends_the_download_at_once(remote, tmp_path):
    record = remote.index(STAGE)[KEY]
    huge = Ref(stage=STAGE, key=KEY, object=record.object, suffix=".parquet", size=2**60)
    with pytest.raises(ForeignError, match="should have"):
        remote.fetch(huge, tmp_path / "got")


class Endless(BaseHTTPRequestHandler):
    """Sends many times what it is asked for, whatever range that is."""

    sent = 0

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()

    def do_GET(self):
        self.send_response(206)
        self.end_headers()
        try:
            for _ in range(40):
                type(self).sent += self.wfile.write(bytes(BLOCK))
        except OSError:
            self.close_connection = True

    def log_message(self, *args):
        """Says nothing."""


@pytest.fixture
def endless():
    Endless.sent = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_ignores_ranges_is_read_to_the_size_of_the_record_and_no_further(endless, tmp_path):
    pytest.importorskip("aiohttp")
    content, fetched = bytes(100), []
    ref = Ref(stage=STAGE, key=KEY, object=blake3(content).hexdigest(), suffix=".parquet", size=len(content))
    Remote(endless, tmp_path / "cache").fetch(ref, tmp_path / "got", fetched.append)
    assert (tmp_path / "got").read_bytes() == content and sum(fetched) == 100
    assert Endless.sent <= 10 * BLOCK, "what sockets hold, and not all that the server has"
