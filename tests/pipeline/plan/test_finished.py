"""A second `extract` without a scan: only if nothing that a scan or a plan reads has changed in the meantime."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline import plugins
from pipeline.cache.home import Home
from pipeline.cache.in_use import TOUCH_S
from pipeline.cli import extract
from pipeline.corpus.open_corpus import Options
from pipeline.plan import finished
from pipeline.run.reference_job import compare
from tests.bench import nothing


@dataclass
class Finished:
    """A corpus of which everything is in the cache. answer: the last one. scans: how many there were."""

    place: Path
    capsys: pytest.CaptureFixture[str]
    answer: dict[str, Any]
    scans: int = 0

    def options(self, **more: Any) -> Options:
        """Those of its extraction."""
        return Options(**{"dataset": str(self.recipe), "root": str(self.root), **more})

    @property
    def recipe(self) -> Path:
        """The file of the recipe."""
        return self.place / "large.toml"

    @property
    def root(self) -> Path:
        """The folder of the corpus."""
        return self.place / "corpus"

    @property
    def cache(self) -> Path:
        """The folder of the cache."""
        return self.place / "home" / "cache"

    def scanned(self, **more: Any) -> bool:
        """Calls `extract`; True if it scanned the corpus."""
        before = self.scans
        extract._extract(self.options(**more), None, False, True)
        self.answer = json.loads(self.capsys.readouterr().out)
        return self.scans > before


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 100 rows in two files, with everything in the cache."""
    place = tmp_path_factory.mktemp("filled")
    (place / "large.toml").write_text(nothing.RECIPE)
    nothing.corpus(place / "corpus", 100, 50)
    nothing.fill(place / "home", place / "large.toml", place / "corpus")
    return place


@pytest.fixture
def done(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Finished]:
    """The same after an `extract` that had nothing to do."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    made, real = Finished(tmp_path, capsys, {}), extract.open_session

    def counted(*given: Any) -> Any:
        made.scans += 1
        return real(*given)

    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(finished, "SETTLED_S", 0.0)
    monkeypatch.setattr(extract, "open_session", counted)
    before = list(logging.getLogger().handlers)
    assert made.scanned() and made.answer["jobs"] == 0
    yield made
    for handler in set(logging.getLogger().handlers) - set(before):
        logging.getLogger().removeHandler(handler)
        handler.close()


def test_without_a_change_the_same_is_answered_and_shown_without_a_scan(done: Finished) -> None:
    first = done.answer
    assert not done.scanned()
    assert done.answer | {"seconds": 0} == first | {"seconds": 0} and len(first["view"]["sound"]) == 1
    (done.place / "home" / "last.json").unlink()
    extract._extract(done.options(), None, False, False)
    assert done.scans == 1 and "100" in (shown := done.capsys.readouterr().err) and "Nothing to do" in shown
    assert Home(done.place / "home").last()[0] == str(done.recipe)


def other_bytes(done: Finished) -> None:
    """A media file with other bytes, of the same size and the same time of writing."""
    path = done.root / "0.wav"
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def object_in_two(done: Finished) -> None:
    """An object that lost its second half."""
    path = next((done.cache / "objects").glob("*/*"))
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)


def action_of_last_week(done: Finished) -> None:
    """An action whose use was noted so long ago that a plan has to note it again, for `gc`."""
    path = next((done.cache / "actions").glob("*/*"))
    path.chmod(0o644)
    os.utime(path, (time.time() - TOUCH_S - 60,) * 2)


CHANGES: list[Callable[[Finished], Any]] = [
    other_bytes,
    object_in_two,
    action_of_last_week,
    lambda done: (done.root / "note.txt").write_text("new"),
    lambda done: (done.root / "0.wav").unlink(),
    lambda done: (done.root / "folder").mkdir(),
    lambda done: next((done.cache / "objects").glob("*/*")).unlink(),
    lambda done: next((done.cache / "actions").glob("*/*")).unlink(),
    lambda done: shutil.rmtree(next((done.place / "home" / "views").glob("[!.]*"))),
    lambda done: shutil.rmtree(done.place / "home" / "history"),
    lambda done: next((done.place / "home" / "history").glob("*/last.json")).write_text("{}"),
    lambda done: done.recipe.write_text(nothing.RECIPE.replace("[dataset]", "[dataset]\nmax_failed = 0.5")),
    lambda done: next((done.place / "home" / "finished").glob("*")).write_text("{}"),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change.__code__.co_firstlineno))
def test_every_change_has_the_corpus_scanned_again(done: Finished, change: Callable[[Finished], Any]) -> None:
    change(done)
    seen = finished.look(Home(done.place / "home"), done.options(), compare)
    assert seen is None or extract._unchanged(seen) is None


def test_other_code_other_libraries_or_another_question_have_it_scanned_again(
    done: Finished, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert done.scanned(modality="audio") and done.scanned(features=("sound",)) and not done.scanned()
    (tmp_path / "code").mkdir()
    for where, name in ((plugins, "folder"), (finished.sysconfig, "get_path")):
        with monkeypatch.context() as changed:
            changed.setattr(where, name, lambda name: tmp_path / "code")
            seen = finished.look(Home(done.place / "home"), done.options(), compare)
            assert seen is not None and seen.known() is None


def test_a_corpus_that_is_locked_on_a_remote_or_in_parts_is_always_planned(done: Finished) -> None:
    home = Home(done.place / "home")
    for more in ({"locked": True}, {"remote": "file:///nowhere"}, {"part": "1/2"}):
        assert finished.look(home, done.options(**more), compare) is None


def test_what_was_changed_just_now_is_not_trusted(done: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "SETTLED_S", 3600.0)
    assert finished.look(Home(done.place / "home"), done.options(), compare) is None


def test_what_changes_while_it_is_planned_leaves_no_stamp(done: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    [stamp] = (done.place / "home" / "finished").iterdir()
    stamp.unlink()
    real, action = extract.extract_shown, next((done.cache / "actions").glob("*/*"))

    def meanwhile(*given: Any, **more: Any) -> Any:
        result = real(*given, **more)
        os.utime(action)
        return result

    monkeypatch.setattr(extract, "extract_shown", meanwhile)
    assert done.scanned() and not stamp.exists()
    monkeypatch.undo()


def test_links_are_followed_and_a_ring_of_them_is_never_trusted(done: Finished, tmp_path: Path) -> None:
    home, elsewhere = Home(done.place / "home"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (done.root / "link").symlink_to(elsewhere)
    before = finished.look(home, done.options(), compare)
    (elsewhere / "note.txt").write_text("new")
    after = finished.look(home, done.options(), compare)
    assert before is not None and after is not None and before.corpus != after.corpus
    (elsewhere / "ring").symlink_to(done.root)
    assert finished.look(home, done.options(), compare) is None
