"""Locks and releases of a recipe whose folder cannot be written, as that of an installed package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.cache import atomic
from pipeline.cache.home import Home
from pipeline.corpus import open_corpus
from pipeline.corpus.lock_file import lock_path, read_lock
from pipeline.errors import InputError
from pipeline.run.extraction import extract
from pipeline.transfer import push_pull, releases
from tests.teams import options, pull, push

SOUND = """
[dataset]
reader = "iemocap"
labels = "six"
[features.sound]
audio = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 12.5, align = { mode = "pad", length = 32 } }
"""


@pytest.fixture
def packaged(small, tmp_path, monkeypatch):
    """A team with a recipe in a folder that cannot be written, and with its features extracted."""
    package = tmp_path / "package"
    package.mkdir()
    small.path, small.recipe = package / "small.toml", SOUND
    small.extract()
    bar(monkeypatch, package)
    return small


def bar(monkeypatch, *folders: Path) -> None:
    """Has these folders count as read-only, for root too."""
    real = atomic.writable

    def writable(folder: Path) -> bool:
        return real(folder) and not any(folder.is_relative_to(barred) for barred in folders)

    for module in (open_corpus, push_pull, releases):
        monkeypatch.setattr(module, "writable", writable)


def remote(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'remote'}"


def test_the_lock_goes_to_the_home_which_is_said_first_and_is_used_from_there(packaged, tmp_path, capsys):
    lock = Path(push(packaged, remote(tmp_path))["lock"]["path"])
    said = capsys.readouterr().err
    assert lock.parent == packaged.home / "locks" and not lock_path(packaged.path).exists()
    assert said.index(f"the lock will be {lock}") < said.index(f"Lock: {lock}")
    answer = pull(packaged, remote(tmp_path), locked=True)
    assert answer["missing"] == {} and Home(packaged.home).locks() == [lock]


def test_a_lock_that_comes_with_such_a_recipe_is_read_until_there_is_one_at_home(packaged, tmp_path):
    made = Path(push(packaged, remote(tmp_path))["lock"]["path"])
    shutil.move(made, lock_path(packaged.path))
    assert open_corpus.lock_of(Home(packaged.home), packaged.path) == lock_path(packaged.path)
    shipped = read_lock(lock_path(packaged.path))
    packaged.recipe = SOUND.replace("n_mfcc = 5", "n_mfcc = 6")
    extract(packaged.session())
    assert Path(push(packaged, remote(tmp_path), relock=True)["lock"]["path"]) == made
    assert read_lock(lock_path(packaged.path)) == shipped != read_lock(made)
    assert open_corpus.lock_of(Home(packaged.home), packaged.path) == made


def test_nothing_is_sent_if_the_lock_could_be_written_nowhere(packaged, tmp_path, monkeypatch):
    bar(monkeypatch, tmp_path / "package", packaged.home)
    with pytest.raises(InputError, match="the lock goes to one of them"):
        push(packaged, remote(tmp_path))
    assert not [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]


def test_a_release_goes_to_the_home_and_is_pushed_from_there(packaged, tmp_path, capsys):
    answer = releases.release(Home(packaged.home), options(packaged, ""), "small", "1.0")
    assert answer["path"] == str(packaged.home / "releases" / "small-1.0.json")
    assert "so the release will be in" in capsys.readouterr().err
    sent = releases.push_release(Home(packaged.home), options(packaged, remote(tmp_path)), "small-1.0")
    assert sent["objects"] > 0


def test_a_recipe_whose_name_is_no_text_is_not_pushed(packaged, tmp_path):
    packaged.path = packaged.path.with_name("\udcff.toml")
    with pytest.raises(InputError, match="rename the file"):
        push(packaged, remote(tmp_path))
