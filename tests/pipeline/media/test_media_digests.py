"""Digests of media files: each is saved as it comes, so that an interrupted scan goes on where it was."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import pytest
from rich.console import Console

from pipeline import console as consoles
from pipeline.cache import keys
from pipeline.cache.memo import Memo
from pipeline.media import files
from pipeline.media.files import media_digests, remembered, stamp


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{number}.wav" for number in range(7)]
    for number, path in enumerate(made):
        path.write_bytes(bytes([number]) * 1000)
    return made


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "digests.sqlite"


def interrupt_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Ctrl-C while the file of that name is hashed."""
    real = keys.file_digest

    def hashed(path: Path) -> str:
        if path.name == name:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(keys, "file_digest", hashed)


def hashed_again(paths: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed although an earlier run hashed some."""
    names: list[str] = []
    real = keys.file_digest
    with monkeypatch.context() as patch:
        patch.setattr(keys, "file_digest", lambda path: names.append(path.name) or real(path))
        assert media_digests(paths, memory) == {path: real(path) for path in paths}
    return sorted(names)


@pytest.mark.parametrize("size", [2, 100])
def test_an_interrupted_scan_keeps_the_digests_it_has(
    paths: list[Path], memory: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SAVE_EVERY", size)
    with monkeypatch.context() as patch:
        interrupt_at(patch, "5.wav")
        with pytest.raises(KeyboardInterrupt):
            media_digests(paths, memory)
    assert hashed_again(paths, memory, monkeypatch) == ["5.wav", "6.wav"]


def test_digests_are_saved_while_others_are_still_to_come(
    paths: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    real = keys.file_digest

    def hashed(path: Path) -> str:
        if path.name == "6.wav":
            saved.append(len(Memo(memory).get([str(path) for path in paths])))
        return real(path)

    monkeypatch.setattr(files, "SAVE_EVERY", 3)
    monkeypatch.setattr(keys, "file_digest", hashed)
    media_digests(paths, memory)
    assert saved == [6]


@pytest.mark.parametrize("shown", [True, False])
def test_a_scan_shows_a_bar_of_the_bytes_it_hashes_and_nothing_else_does(
    paths: list[Path], memory: Path, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(consoles, "console", page)
    for expected in (shown, False):  # the second time nothing is left to hash
        remembered({str(path): stamp(path) for path in paths}, memory, shown=shown)
        text = page.file.getvalue()  # type: ignore[attr-defined]
        assert ("hashing" in text) is expected
        page.file.truncate(0)


def test_a_memory_of_garbage_is_made_anew_and_files_are_hashed_again(
    paths: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = media_digests(paths, memory)
    memory.write_bytes(b"no database" * 1000)
    assert media_digests(paths, memory) == digests
    assert hashed_again(paths, memory, monkeypatch) == []


def test_a_remembered_text_that_is_no_digest_of_this_file_is_not_believed(
    paths: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media_digests(paths, memory)
    with sqlite3.connect(memory) as base:
        base.execute("update memo set value = 'odd' where key like '%3.wav'")
    base.close()
    assert hashed_again(paths, memory, monkeypatch) == ["3.wav"]
