"""A manifest: everything wrong with a scan is listed at once, and each media file is looked at once and hashed once."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from pipeline.cache import keys
from pipeline.corpus import manifest
from pipeline.errors import InputError
from pipeline.reader import Reader
from pipeline.utterance import MISSING, UNREADABLE, Audio, Utterance, Video, from_table, to_table


@dataclass(frozen=True)
class Rows(Reader):
    """A reader that finds the rows it is given."""

    layout: ClassVar[str] = "none"
    obtain: ClassVar[str] = "none"
    labels: ClassVar = {}
    rows: tuple[Utterance, ...]

    def scan(self, root):
        return list(self.rows)

    def folds(self, rows, protocol):
        return []


def row(name: str, audio: str | None = None, **more: object) -> Utterance:
    return Utterance(id=name, dialogue="d", turn=0, audio=(Audio(path=audio),) if audio else (), **more)  # type: ignore[arg-type]


@pytest.fixture
def build(tmp_path):
    """The manifest of some rows over `tmp_path/corpus`, with a cache that remembers digests."""
    for name in ("corpus", "cache"):
        (tmp_path / name).mkdir()

    def make(*rows: Utterance) -> manifest.Manifest:
        return manifest.build(Rows(rows), tmp_path / "corpus", tmp_path / "cache" / "memory.sqlite")

    return make


@pytest.fixture
def hashed(monkeypatch):
    """The paths of every file that is hashed from now on."""
    found = []
    real = keys.file_digest

    def counted(path: Path) -> str:
        found.append(path.name)
        return real(path)

    monkeypatch.setattr(keys, "file_digest", counted)
    return found


def problems(build, *rows: Utterance) -> list[str]:
    with pytest.raises(InputError) as caught:
        build(*rows)
    first, *rest = str(caught.value).splitlines()
    assert first == f"{len(rest)} rows of the manifest are wrong:"
    return rest


def test_everything_wrong_is_listed_at_once(build, tmp_path):
    (tmp_path / "secret.wav").write_bytes(b"x")
    (tmp_path / "corpus" / "link.wav").symlink_to(tmp_path / "secret.wav")
    (tmp_path / "corpus" / "round").symlink_to(tmp_path / "corpus" / "round")
    found = problems(
        build,
        row("twice"),
        row("twice"),
        row("backwards", start_s=2.0, end_s=1.0),
        row("up", "../secret.wav"),
        row("inner-up", "a/../../secret.wav"),
        row("absolute", str(tmp_path / "corpus" / "a.wav")),
        row("link", "link.wav"),
        row("round", "round/a.wav"),
        row("no-name", "a\0.wav"),
        replace(row("cut"), video=(Video(path="a.avi", start_s=3.0, end_s=1.0),)),
        row("sound", "a.wav"),
    )
    assert sorted(message.partition(":")[0] for message in found) == sorted(
        ["twice", "backwards", "up", "inner-up", "absolute", "link", "round", "no-name", "cut"]
    )
    assert sum("outside" in message for message in found) == 6


def test_a_long_list_of_problems_is_cut_and_counted(build):
    with pytest.raises(InputError) as caught:
        build(*(row(f"u{i:03}", f"../{i}.wav") for i in range(80)))
    assert "80 rows" in str(caught.value) and str(caught.value).endswith("... and 30 more")


def test_a_corpus_without_an_utterance_is_an_error(build, tmp_path):
    assert problems(build) == [f"no utterance found in {tmp_path / 'corpus'}"]


def test_a_link_that_stays_inside_is_followed(build, tmp_path):
    (tmp_path / "corpus" / "a.wav").write_bytes(b"x")
    (tmp_path / "corpus" / "b.wav").symlink_to("a.wav")
    one, two = build(row("a", "a.wav"), row("b", "b.wav")).rows
    assert one.audio[0].digest == two.audio[0].digest == keys.file_digest(tmp_path / "corpus" / "a.wav")


def test_a_file_is_hashed_once_and_never_again_while_it_stays_the_same(build, tmp_path, hashed):
    for name in ("a.wav", "b.wav"):
        (tmp_path / "corpus" / name).write_bytes(name.encode())
    rows = [row("1", "a.wav"), row("2", "b.wav"), row("3", "a.wav")]
    first = build(*rows)
    assert sorted(hashed) == ["a.wav", "b.wav"]
    hashed.clear()
    assert build(*rows) == first and hashed == []
    os.utime(tmp_path / "corpus" / "a.wav", ns=(0, 0))
    assert build(*rows) == first and hashed == ["a.wav"]
    (tmp_path / "corpus" / "b.wav").write_bytes(b"more")
    assert build(*rows).rows[1].audio[0].digest != first.rows[1].audio[0].digest


def test_a_file_is_looked_at_once_however_many_rows_it_has(build, tmp_path, monkeypatch):
    (tmp_path / "corpus" / "a.avi").write_bytes(b"x")
    looked = Counter[str]()
    for name in ("stat", "lstat"):
        real = getattr(os, name)

        def counted(path, *rest, real=real, **more):
            looked[str(path).rpartition("/")[2]] += 1
            return real(path, *rest, **more)

        monkeypatch.setattr(os, name, counted)
    cuts = [Video(path="a.avi", start_s=float(i), end_s=i + 1.0) for i in range(5)]
    rows = [replace(row(f"u{i}", "a.avi"), video=(cut,)) for i, cut in enumerate(cuts)]
    build(*rows)
    looked.clear()
    build(*rows)
    assert looked["a.avi"] == 1


@pytest.mark.parametrize("path", ["gone.wav", "gone/a.wav", "a.wav/inside.wav"])
def test_a_missing_file_has_a_digest_of_its_own_and_its_arrival_moves_it(build, tmp_path, path):
    (tmp_path / "corpus" / "a.wav").write_bytes(b"x")
    [before] = build(row("u", path)).rows
    assert before.audio[0].digest == MISSING
    (tmp_path / "corpus" / "a.wav").unlink()
    (tmp_path / "corpus" / path).parent.mkdir(exist_ok=True)
    (tmp_path / "corpus" / path).write_bytes(b"x")
    [after] = build(row("u", path)).rows
    assert after.audio[0].digest == keys.file_digest(tmp_path / "corpus" / path)


def test_empty_files_have_a_digest_too(build, tmp_path):
    (tmp_path / "corpus" / "a.wav").write_bytes(b"")
    assert build(row("u", "a.wav")).rows[0].audio[0].digest not in (None, MISSING)


def test_rows_are_in_order_whatever_the_order_of_the_scan(build):
    rows = [Utterance(id=f"u{i}", dialogue=f"d{i % 3}", turn=i, start_s=float(i % 4)) for i in range(12)]
    assert build(*rows) == build(*reversed(rows))
    assert [r.dialogue for r in build(*rows).rows] == sorted(r.dialogue for r in rows)


def test_a_file_that_cannot_be_read_costs_its_rows_and_not_the_run(build, tmp_path, monkeypatch):
    for name in ("a.wav", "b.wav"):
        (tmp_path / "corpus" / name).write_bytes(name.encode())
    real = keys.file_digest

    def refused(path: Path) -> str:
        if path.name == "a.wav":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(keys, "file_digest", refused)
        one, two = build(row("1", "a.wav"), row("2", "b.wav")).rows
    assert one.audio[0].digest == UNREADABLE and two.audio[0].digest == real(tmp_path / "corpus" / "b.wav")
    assert build(row("1", "a.wav")).rows[0].audio[0].digest == real(tmp_path / "corpus" / "a.wav")


def test_a_stretch_that_is_in_no_tuple_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"tuples of stretches, such as \(Audio"):
        Utterance(id="u", dialogue="d", turn=0, audio=Audio(path="a.wav"))  # type: ignore[arg-type]


def test_stretches_go_through_a_table_unchanged_in_number_and_order() -> None:
    sound = (Audio(path="a.wav", start_s=0.5, channel=1), Audio(path="b.wav", end_s=2.0, digest="d" * 64))
    rows = [replace(row("u"), audio=sound, video=(Video(path="c", crop=(0.0, 0.0, 0.5, 1.0)), Video(path="a")))]
    rows.append(row("absent"))
    assert from_table(to_table(rows)) == rows
