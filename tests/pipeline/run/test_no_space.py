"""A full disk at any write: exit code 5, a sound cache, and the same command goes on from there."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys

import pytest

from pipeline.cache import atomic
from pipeline.errors import SpaceError
from tests import full_disk

STATES, SHARDS, REFERENCES = 2, 8, 4


def run(prefix, kind, place, small, *more, options=()):
    """Every attempt of `tests.full_disk`."""
    small.path.write_text(small.recipe)
    line = [*prefix, sys.executable, "-m", "tests.full_disk", kind, str(place), *more]
    line += ["--dataset", str(small.path), "--root", str(small.root), *options]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(found) for found in done.stdout.splitlines()]


def sound(found):
    return found["damaged"] == [] and found["left"] == []


@pytest.mark.slow
def test_a_disk_that_grows_a_little_each_time_ends_with_everything_computed_once(small, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not full_disk.possible(disk):
        pytest.skip("no small disk can be mounted here")
    *full, last = run(full_disk.UNSHARE, "grow", disk, small, "30")
    assert {found["code"] for found in full} == {5} and last["code"] == 0
    assert all(sound(found) for found in (*full, last))
    saved = [found["saved"] for found in (*full, last)]
    assert saved == sorted(saved) and saved[-1] == STATES + SHARDS + REFERENCES
    assert len(set(saved)) > 2, "the disk was never full in the middle"


@pytest.mark.slow
def test_whichever_write_fails_the_next_run_completes_it_and_computes_only_what_is_missing(small, tmp_path):
    found = run([], "inject", tmp_path / "homes", small, options=("--features", "sound"))
    *failing, whole = found
    assert len(failing) > 20 and whole["first"]["code"] == 0 and not whole["failed"]
    for each in failing:
        first, second = each["first"], each["second"]
        assert first["code"] in (0, 5) and second["code"] == 0, each
        assert sound(first) and sound(second), each
        assert second["saved"] == whole["first"]["saved"], each
        done = first["saved"] == whole["first"]["saved"]
        assert (sum(second["computed"].values()) == 0) if done else (sum(second["computed"].values()) > 0), each
    assert sum(each["first"]["code"] == 5 for each in failing) > 0.8 * len(failing)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    "make",
    [
        lambda code: OSError(code, os.strerror(code)),
        lambda code: RuntimeError(f"I/O error: {os.strerror(code)} (os error {code})"),
    ],
)
def test_a_full_disk_is_known_by_its_number_or_by_its_words(code, make, tmp_path):
    with pytest.raises(SpaceError, match="no space left"), atomic.space(tmp_path):
        raise make(code)


def test_another_error_is_no_full_disk(tmp_path):
    for error in (
        OSError(errno.EIO, os.strerror(errno.EIO)),
        ValueError("28"),
        sqlite3.OperationalError("no such table"),
    ):
        with pytest.raises(type(error)), atomic.space(tmp_path):
            raise error


LIBRARIES = """
import sqlite3, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from safetensors.numpy import save_file
from pipeline.cache.atomic import is_full
place = Path(sys.argv[1])
big = np.random.default_rng(0).random(100_000)

def sqlite():
    with sqlite3.connect(place / "a.sqlite") as base:
        base.execute("create table t (x)")
        base.execute("insert into t values (?)", (big.tobytes(),))

WRITERS = {
    "pyarrow": lambda: pq.write_table(pa.table({"x": big}), place / "a.parquet"),
    "safetensors": lambda: save_file({"x": big}, place / "a.safetensors"),
    "numpy": lambda: np.save(place / "a.npy", big),
    "python": lambda: (place / "a").write_bytes(big.tobytes()),
    "sqlite": sqlite,
}
for name, write in WRITERS.items():
    try:
        write()
    except Exception as error:
        print(name, "full" if is_full(error) else repr(error))
    else:
        print(name, "wrote")
    for path in place.iterdir():
        path.unlink()
"""


def test_every_library_that_writes_here_is_understood_when_its_disk_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not full_disk.possible(disk):
        pytest.skip("no small disk can be mounted here")
    mount = f'mount -t tmpfs -o size=64k tmpfs "{disk}" && exec "$@"'
    line = [*full_disk.UNSHARE, "sh", "-c", mount, "sh", sys.executable, "-c", LIBRARIES, str(disk)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    libraries = ("pyarrow", "safetensors", "numpy", "python", "sqlite")
    assert done.stdout.splitlines() == [f"{library} full" for library in libraries]
