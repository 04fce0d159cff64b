"""Where a home lies: what only reads works in one that is read-only, and one that cannot be used is one message."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cache.in_use import TOUCH_S
from pipeline.cli import main
from tests.pipeline.cli.test_commands import affectory, options, said

__all__ = ["affectory"]

MOUNT, UNMOUNT = "/bin/mount", "/bin/umount"


@pytest.fixture
def read_only(extracted, monkeypatch) -> Iterator[Path]:
    """A home with everything extracted, whose uses were noted long ago, on a disk that takes no write."""
    long_ago = time.time() - 3 * TOUCH_S
    for path in extracted.home.rglob("*.json"):
        os.utime(path, (long_ago, long_ago))
    home = str(extracted.home)
    if subprocess.run([MOUNT, "--bind", home, home], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        subprocess.run([MOUNT, "-o", "remount,ro,bind", home], check=True)
        monkeypatch.setenv("AFFECTORY_HOME", home)
        yield extracted.home
    finally:
        subprocess.run([UNMOUNT, home], check=True)


def test_what_only_reads_works_in_a_read_only_home(affectory, extracted, read_only, monkeypatch):
    monkeypatch.setenv("AFFECTORY_HOME", str(read_only))
    shard = next((read_only / "cache" / "objects").rglob("*.parquet"))
    row = extracted.session().corpus.manifest.rows[0].id
    calls = [
        ("plan", *options(extracted)),
        ("status", *options(extracted)),
        ("errors", *options(extracted)),
        ("why", row, "audio_mfcc", *options(extracted)),
        ("explain", str(shard)),
        ("verify",),
    ]
    ends = {call[0]: affectory(*call) for call in calls}
    assert {name: code for name, (code, _, _) in ends.items()} == {call[0]: 0 for call in calls}, ends


def test_a_home_of_ones_own_with_a_link_to_a_read_only_cache_takes_reports_and_runs(
    affectory, extracted, read_only, tmp_path, monkeypatch
):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "cache").symlink_to(read_only / "cache")
    monkeypatch.setenv("AFFECTORY_HOME", str(mine))
    sound = options(extracted, "--features", "sound", "--workers", "0", "--json")
    code, out, err = affectory("extract", *sound)
    assert code == 0 and json.loads(out)["computed"] == {}, err
    assert (mine / "views").is_dir() and (mine / "history").is_dir()
    assert affectory("report", *options(extracted))[0] == 0 and list((mine / "reports").glob("*.html"))


def test_a_doctor_in_a_read_only_home_says_so_before_it_opens_a_file(affectory, extracted, read_only, monkeypatch):
    monkeypatch.setenv("AFFECTORY_HOME", str(read_only))
    code, _, err = affectory("doctor", *options(extracted))
    assert code == 2 and "cannot be written: set AFFECTORY_HOME" in said(err) and "streams" not in err


def test_an_extraction_in_a_read_only_home_is_bad_input(affectory, extracted, read_only, monkeypatch):
    monkeypatch.setenv("AFFECTORY_HOME", str(read_only))
    code, _, err = affectory("extract", *options(extracted, "--workers", "0"))
    assert code == 2 and "set AFFECTORY_HOME to a folder that is" in said(err) and "Traceback" not in err


@pytest.mark.parametrize("command", ["plan", "status", "rows", "errors", "why", "explain", "verify", "gc"])
def test_a_command_that_only_asks_makes_no_home_where_there_is_none(affectory, demo_root, small, tmp_path, command):
    small.path.write_text(small.recipe)
    of_a_corpus = command in ("plan", "status", "rows", "errors", "why")
    given = {"why": ("Ses01F_impro01_F000", "audio_mfcc"), "explain": ("0123abcd",)}.get(command, ())
    code, _, err = affectory(command, *given, *(options(small) if of_a_corpus else ()))
    assert code == (2 if command == "explain" else 0), err
    assert not (tmp_path / "home").exists() and "New home" not in err


@pytest.mark.parametrize("below", ["", "runs", "cache/partial"])
def test_a_file_in_place_of_a_folder_of_the_home_is_bad_input(affectory, small, tmp_path, below):
    place = tmp_path / "home" / below
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("")
    code, _, err = affectory("extract", *options(small, "--workers", "0", "--features", "sound"))
    assert code == 2 and "set AFFECTORY_HOME to a folder that is" in said(err) and "Traceback" not in err


@pytest.mark.parametrize(("path", "ours"), [("cache/x", True), ("..", True), ("../other", False)])
def test_a_path_that_cannot_be_used_is_named_and_the_home_is_spoken_of_if_it_is_there(
    tmp_path, monkeypatch, path, ours
):
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))
    place = os.path.normpath(tmp_path / "home" / path)
    known = main._of_the_machine(PermissionError(13, "Permission denied", place))
    assert known is not None and known.exit_code == 2 and f"{place}: Permission denied" in str(known)
    assert ("set AFFECTORY_HOME" in str(known)) == ours


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EMFILE, "Too many open files", "/a"), 6),
        (OSError(errno.EIO, "Input/output error"), 6),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), 6),
        (ModuleNotFoundError("No module named 'decord'"), 6),
        (OSError(errno.ENOSPC, "No space left on device"), 5),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a"), 1),
        (KeyError("a"), 1),
    ],
)
def test_a_fault_of_the_machine_has_its_exit_code_and_no_traceback_and_a_bug_has_both(
    affectory, monkeypatch, error, code
):
    def failing(*given):
        raise error

    monkeypatch.setattr("pipeline.cache.verify.verify", failing)
    if code == 1:
        with pytest.raises(type(error)):
            affectory("verify")
    else:
        found, _, err = affectory("verify")
        assert found == code and "Traceback" not in err and len(err.strip().splitlines()) == 1


def test_output_that_nobody_reads_any_more_is_no_bug(extracted):
    line = [sys.executable, "-m", "pipeline.cli.main", "status", *options(extracted, "--json")]
    environment = {**os.environ, "AFFECTORY_HOME": str(extracted.home)}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(line, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 128 + signal.SIGPIPE and "Error" not in done.stderr
