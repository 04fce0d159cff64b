"""Files that are replaced whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.cache import atomic
from pipeline.corpus.open_corpus import Options
from pipeline.errors import SpaceError
from pipeline.train import train_models


def test_what_stands_there_stays_until_the_new_is_whole_and_nothing_is_left_beside_it(tmp_path):
    place = tmp_path / "deep" / "a.json"
    atomic.publish(place, "old")
    with pytest.raises(ZeroDivisionError), atomic.replacing(place) as temporary:
        temporary.write_text("half")
        assert place.read_text() == "old"
        raise ZeroDivisionError
    with pytest.raises(SpaceError, match="deep"), atomic.replacing(place):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path.name for path in place.parent.iterdir()] == ["a.json"] and place.read_text() == "old"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with atomic.replacing(tmp_path / "a") as one, atomic.replacing(tmp_path / "a") as two:
        one.write_text("1")
        two.write_text("2")
    assert (tmp_path / "a").read_text() == "1"  # the last to end


@dataclass
class Given:
    """Stands for a FoldResult."""

    seed: int


def test_a_report_never_meets_half_a_run(tmp_path, monkeypatch):
    recipe = SimpleNamespace(name="small", home_name="small")
    manifest, folds = SimpleNamespace(digest="d"), (SimpleNamespace(name="one"),)
    corpus = SimpleNamespace(recipe=recipe, protocol="official", folds=folds, manifest=manifest)
    session = SimpleNamespace(corpus=corpus, home=SimpleNamespace(runs=tmp_path), options=Options("small"))
    name = train_models.RunName("hjcag", "official", (), 0)
    first, second = (
        train_models.Run(name, {}, tmp_path / "small" / "run", [], {"one": Given(seed=seed)}) for seed in (0, 1)
    )
    newest = tmp_path / "small" / "hjcag-official.json"
    monkeypatch.setattr(train_models, "summarise", lambda folds: {"pooled": {}})
    train_models.answer(session, first, {})
    before, seen = newest.read_text(), []
    real = Path.write_text

    def watched(path, text, *more, **named):
        written = real(path, text, *more, **named)
        seen.append(newest.read_text())
        return written

    monkeypatch.setattr(Path, "write_text", watched)
    train_models.answer(session, second, {})
    assert seen == [before, before] and json.loads(newest.read_text())["seed"] == 1


def test_what_replaces_a_file_is_on_disk_before_it_does(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, Path.replace

    def flushed(handle):
        events.append(f"flush {Path(os.readlink(f'/proc/self/fd/{handle}')).name.partition('.a.json.')[0] or 'file'}")
        fsync(handle)

    def replaced(path, target):
        events.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", replaced)
    atomic.publish(tmp_path / "folder" / "a.json", "text")
    assert events == ["flush file", "replace", "flush folder"]


def test_a_disk_without_the_space_that_is_needed_is_refused_with_both_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    atomic.check_space(tmp_path, 5_000_000, "the plan")
    with pytest.raises(SpaceError, match=r"has 5 MB free, the plan needs 6,000 MB"):
        atomic.check_space(tmp_path, 6e9, "the plan")
