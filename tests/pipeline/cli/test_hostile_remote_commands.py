"""Commands on a remote of which every file may be another: each ends with the code of an error of ours, or well."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from pipeline.cache.home import Home
from pipeline.corpus import pulled_manifest
from pipeline.corpus.lock_file import lock_path, read_lock
from tests import mutants
from tests.pipeline.cli.test_commands import affectory, options
from tests.teams import other, push

__all__ = ["affectory", "other"]


def hostile(remote: Path, random: np.random.Generator) -> None:
    """Changes objects and indexes of a remote, and gives each the name that its bytes have now."""
    for index in sorted((remote / "index").glob("*/*.json")):
        records = json.loads(index.read_bytes())
        for record in records:
            if random.random() < 0.5:
                record |= changed(remote, record, random)
        raw = json.dumps(records).encode()
        if random.random() < 0.3:
            raw = mutants.json_text(raw, random)
        (index.parent / f"{index.name[:8]}-{blake3(raw).hexdigest()}.json").write_bytes(raw)
        index.unlink()
    for counts in (remote / "counts").glob("*/*.json"):
        counts.write_bytes(mutants.json_text(counts.read_bytes(), random))


def changed(remote: Path, record: dict[str, object], random: np.random.Generator) -> dict[str, object]:
    """Puts another object on the remote; returns what a record says of it."""
    digest, suffix = str(record["object"]), str(record["suffix"])
    good = (remote / "objects" / digest[:2] / f"{digest[2:]}{suffix}").read_bytes()
    formed = mutants.parquet if suffix == ".parquet" else mutants.safetensors
    raw = [formed, formed, mutants.flip, mutants.cut][random.integers(4)](good, random) or b"x"
    name = blake3(raw).hexdigest()
    place = remote / "objects" / name[:2] / f"{name[2:]}{suffix}"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(raw)
    return {"object": name, "size": len(raw)}


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize(
    "seed", [0, 1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_no_command_on_a_hostile_remote_ends_with_a_traceback(
    affectory, extracted, other, tmp_path, monkeypatch, seed, locked
):
    url = f"file://{tmp_path}/remote"
    push(extracted, url)
    hostile(tmp_path / "remote", np.random.default_rng(seed))
    monkeypatch.setenv("AFFECTORY_HOME", str(other.home))
    given, lock = options(other), ["--locked"] if locked else []
    shutil.copy(lock_path(extracted.path), lock_path(other.path))
    at = ["--remote", url]
    codes = {
        "list": affectory("list", *at)[0],
        "verify": affectory("verify", *at)[0],
        "pull": affectory("pull", *given, *lock, *at)[0],
        "status": affectory("status", *given)[0],
        "extract": affectory("extract", *given, *lock, *at, "--workers", "0")[0],
        "verify here": affectory("verify")[0],
    }
    assert 1 not in codes.values(), codes
    noted = pulled_manifest.noted(Home(other.home).root, other.name)
    if locked and noted is not None:
        assert noted.digest == read_lock(lock_path(extracted.path)).manifest
