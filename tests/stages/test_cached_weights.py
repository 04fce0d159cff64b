"""Weights from the caches of the hub and of torch are used only if they are what their names say they are."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import RobertaConfig

from pipeline.cache.weights import check_torch_cache
from pipeline.errors import InputError
from tests.encoders import saved
from tests.hub import COMMIT

LOAD = f"""
import sys
from pathlib import Path
from pipeline.cache import weights
from pipeline.errors import InputError
from stages._hub import Source

source = Source("lab/tiny", "{COMMIT}")
source.weights("pooler")
blob = Path(sys.argv[1])
kept, times = blob.read_bytes(), blob.stat()
blob.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
weights.check_hub_cache.cache_clear()  # as in the next process
try:
    source.weights("pooler")
except InputError as error:
    print(error)
"""


def cached(hub: Path, folder: Path) -> dict[str, Path]:
    """The files of a folder as the hub's client keeps those of `lab/tiny`; the content of each, by its name."""
    model = hub / "hub/models--lab--tiny"
    blobs, snapshot = model / "blobs", model / "snapshots" / COMMIT
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    contents = {}
    for path in folder.iterdir():
        body = path.read_bytes()
        large = path.suffix == ".safetensors"
        name = hashlib.sha256(body) if large else hashlib.sha1(b"blob %d\0" % len(body) + body)
        contents[path.name] = blobs / name.hexdigest()
        contents[path.name].write_bytes(body)
        (snapshot / path.name).symlink_to(contents[path.name])
    return contents


@pytest.mark.slow
def test_a_file_that_changed_in_the_hubs_cache_is_an_error_and_not_other_values(tmp_path: Path) -> None:
    contents = cached(tmp_path / "hub", saved(tmp_path / "model", RobertaConfig))
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(contents["model.safetensors"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "is not the model.safetensors of lab/tiny that was published" in done.stdout, done.stderr


def test_a_file_in_torchs_cache_is_the_one_that_its_name_says(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    path = tmp_path / f"resnet18-{digest[:8]}.pth"
    path.write_bytes(b"weights")
    check_torch_cache(path)
    path.write_bytes(b"Weights")
    with pytest.raises(InputError, match="was published"):
        check_torch_cache(path)
