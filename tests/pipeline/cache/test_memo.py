"""A memo remembers from run to run, for several processes at once, and trouble with its file never ends a run."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.cache import memo as memos
from pipeline.cache.memo import Memo
from pipeline.errors import SpaceError

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "memo.sqlite"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_put_is_there_for_the_next_run_and_the_last_text_of_a_key_counts(path: Path) -> None:
    Memo(path).put({"a": "1", "b": "2"})
    Memo(path).put({"b": "3"})
    assert Memo(path).get(["a", "b", "c"]) == {"a": "1", "b": "3"}


@pytest.mark.parametrize("many", [0, 1000])
def test_only_the_keys_that_are_asked_for_come_however_many_they_are(
    path: Path, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memos, "MANY", many)
    Memo(path).put({str(number): "text" for number in range(5)})
    assert Memo(path).get(["1", "3", "9"]) == {"1": "text", "3": "text"}


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(10_000))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scrambled_within(path: Path) -> None:
    """All pages but the first, which holds the schema."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def another_table(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("create table memo (path text, stamp text, digest text)")


@pytest.mark.parametrize("many", [0, 1000])
@pytest.mark.parametrize("damage", [garbage, truncated, scrambled_within, another_table])
@pytest.mark.parametrize("first", ["get", "put"])
def test_a_damaged_or_foreign_file_is_set_aside_with_a_warning_and_begun_anew(
    path: Path,
    damage: Callable[[Path], None],
    first: str,
    many: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(memos, "MANY", many)
    Memo(path).put({str(number): "text" * 100 for number in range(500)})
    damage(path)
    content = path.read_bytes()
    memo = Memo(path)
    if first == "get":
        assert memo.get(["1"]) == {}
    memo.put({"1": "new"})
    assert memo.get(["1", "2"]) == {"1": "new"}
    assert path.with_name("memo.sqlite.damaged").read_bytes() == content
    [warning] = warnings(caplog)
    assert "memo.sqlite is damaged" in warning


def test_damaged_text_is_forgotten_alone(path: Path) -> None:
    Memo(path).put({"a": "1", "b": "2", "c": "3"})
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("update memo set value = x'ff00' where key = 'a'")
        base.execute("update memo set value = cast(x'ff' as text) where key = 'b'")
    assert Memo(path).get(["a", "c"]) == {"c": "3"}
    assert Memo(path).get(["b"]).get("b") != "2"


def test_a_file_in_place_of_the_folder_only_means_that_nothing_is_remembered(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.rmdir()
    path.parent.write_text("a file where the folder should be")
    Memo(path).put({"a": "1"})
    assert Memo(path).get(["a"]) == {}
    assert len(warnings(caplog)) == 1 and "nothing is remembered" in warnings(caplog)[0]


def test_where_there_is_no_folder_nothing_is_remembered_and_none_is_made(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.rmdir()
    assert Memo(path).add({"a": "1"}) == {"a": "1"} and Memo(path).get(["a"]) == {}
    assert not path.parent.exists() and not warnings(caplog)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_of_a_read_only_folder_what_is_there_is_read_and_nothing_is_remembered(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Memo(path).put({"a": "1"})
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        Memo(path).put({"a": "2"})
        assert Memo(path).get(["a"]) == {"a": "1"}
    finally:
        path.parent.chmod(0o755)
    assert len(warnings(caplog)) == 1


def test_a_file_that_another_process_keeps_locked_is_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Memo(path).put({"a": "1"})
    monkeypatch.setattr(memos, "WAIT_S", 0.1)
    with closing(sqlite3.connect(path)) as base:
        base.execute("begin exclusive")
        Memo(path).put({"a": "2"})
        assert Memo(path).get(["a"]) == {}
    assert Memo(path).get(["a"]) == {"a": "1"} and "locked" in warnings(caplog)[0]


def test_a_full_disk_is_an_error_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(SpaceError):
        Memo(path).put({"a": "1"})


PUT_MANY = """
import sys
from pathlib import Path
from pipeline.cache.memo import Memo
for number in range(20):
    Memo(Path(sys.argv[1])).put({f"{sys.argv[2]}-{number}": sys.argv[2]})
"""


def test_several_processes_remember_at_once(path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    lines = [[sys.executable, "-c", PUT_MANY, str(path), str(number)] for number in range(3)]
    running = [subprocess.Popen(line, env=environment) for line in lines]
    assert [process.wait() for process in running] == [0, 0, 0]
    entries = {f"{writer}-{number}": str(writer) for writer in range(3) for number in range(20)}
    assert Memo(path).get(entries) == entries
