"""`verify` on the command line: which remote it asks for objects that are not here, and with which code it ends."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.teams import push


@pytest.fixture
def emptied(extracted, tmp_path, monkeypatch):
    """The URL of a remote that holds every object of a home from which all objects are gone."""
    monkeypatch.delenv("AFFECTORY_REMOTE", raising=False)
    url = f"file://{tmp_path}/remote"
    push(extracted, url)
    monkeypatch.setenv("AFFECTORY_HOME", str(extracted.home))
    shutil.rmtree(extracted.home / "cache" / "objects")
    return url


def test_objects_that_the_named_remote_holds_are_no_damage(affectory, emptied):  # noqa: F811
    code, out, _ = affectory("verify", "--remote", emptied, "--json")
    assert (code, json.loads(out)["damaged"]) == (0, [])


def test_objects_that_no_remote_holds_are_damage_and_end_with_2(affectory, emptied):  # noqa: F811
    code, out, _ = affectory("verify", "--json")
    assert code == 2 and json.loads(out)["damaged"]
