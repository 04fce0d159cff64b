"""Where a home lies: what only reads works in one that is read-only, and one that cannot be used is one message."""

from __future__ import annotations

import os
import subprocess
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


def test_an_extraction_in_a_read_only_home_is_bad_input(affectory, extracted, read_only, monkeypatch):
    monkeypatch.setenv("AFFECTORY_HOME", str(read_only))
    code, _, err = affectory("extract", *options(extracted, "--workers", "0"))
    assert code == 2 and "set AFFECTORY_HOME to a folder that is" in said(err) and "Traceback" not in err


@pytest.mark.parametrize("below", ["", "runs", "cache/partial"])
def test_a_file_in_place_of_a_folder_of_the_home_is_bad_input(affectory, small, tmp_path, below):
    place = tmp_path / "home" / below
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("")
    code, _, err = affectory("extract", *options(small, "--workers", "0", "--features", "sound"))
    assert code == 2 and "set AFFECTORY_HOME to a folder that is" in said(err) and "Traceback" not in err


@pytest.mark.parametrize(("path", "ours"), [("cache/x", True), ("..", True), ("../other", False)])
def test_only_errors_of_the_home_are_told_as_such(tmp_path, monkeypatch, path, ours):
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))
    place = os.path.normpath(tmp_path / "home" / path)
    known = main._of_the_disk(PermissionError(13, "Permission denied", place))
    assert (known is not None) == ours
