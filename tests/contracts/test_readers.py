"""Rules of every reader, whatever its corpus: what it says of itself, and the rows that it scans.

They run over all files of `manifests/`, on the corpora of `reader_cases`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pipeline.corpus import manifest
from pipeline.errors import InputError
from pipeline.utterance import in_order
from tests.contracts.reader_cases import CASES, READERS, build

EACH = pytest.mark.parametrize("name", READERS)
HEAVY = ("torch", "cv2", "av", "scipy", "transformers", "dask")


@EACH
def test_a_reader_has_a_small_corpus_to_be_tested_with(name: str) -> None:
    assert build(name)


def test_a_reader_without_a_small_corpus_is_told_where_to_add_one() -> None:
    with pytest.raises(
        pytest.fail.Exception, match=r"manifests/demo\.py has no small corpus in CASES of .*reader_cases"
    ):
        build("demo", {})


def test_a_case_is_of_a_reader_that_exists() -> None:
    assert set(CASES) <= set(READERS)


# --- what it says of itself ------------------------------------------------------------------------------------


@EACH
def test_a_reader_says_what_it_expects_and_how_to_get_it(name: str) -> None:
    reader = build(name)
    assert reader.layout.strip() and reader.obtain.strip() and reader.labels
    assert reader.__doc__ and not reader.__doc__.startswith(f"{type(reader).__name__}(")
    for protocol, counts in reader.expected.items():
        classes, parts = reader.labels[protocol].classes, {"train", "valid", "test"}
        assert set(counts) <= {*classes, *parts, *(f"{part}/{name}" for part in parts for name in classes)}
        for part in parts & set(counts):
            inside = [count for name, count in counts.items() if name.startswith(f"{part}/")]
            assert not inside or sum(inside) == counts[part]


@EACH
def test_options_are_frozen_have_defaults_and_can_be_written_as_json(name: str) -> None:
    kind: Any = type(build(name))
    for each in (build(name), kind()):
        assert json.dumps(dataclasses.asdict(each), allow_nan=False)  # type: ignore[call-overload]
        for field in dataclasses.fields(each):  # type: ignore[arg-type]
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(each, field.name, None)


def test_no_reader_imports_anything_heavy() -> None:
    program = "import sys\n"
    for name in READERS:
        program += f"import manifests.{name}\n"
        program += f"print(*('{name} imports ' + heavy for heavy in {HEAVY} if heavy in sys.modules), end='')\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "")


@EACH
@pytest.mark.parametrize("what", ["nothing", "an empty folder", "another folder", "a file"])
def test_a_root_that_is_not_the_corpus_names_the_place_the_layout_and_how_to_get_it(
    name: str, what: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    if what == "a file":
        root.write_text("x")
    elif what != "nothing":
        root.mkdir()
        if what == "another folder":
            (root / "photo.jpg").write_bytes(b"x")
    reader = build(name)
    with pytest.raises(InputError) as caught:
        reader.scan(root)
    assert all(part in str(caught.value) for part in (str(root), reader.layout, reader.obtain))


# --- the scan --------------------------------------------------------------------------------------------------


@EACH
def test_a_scan_gives_rows_with_ids_of_their_own_and_files_inside_the_root(
    name: str, corpus: Callable[[str], Path]
) -> None:
    rows = build(name).scan(corpus(name))
    assert rows and max(Counter(row.id for row in rows).values()) == 1
    for row in rows:
        assert row.id and row.dialogue and row.turn >= 0
        assert row.text is not None or row.audio or row.video
        assert row.start_s is None or row.end_s is None or 0 <= row.start_s < row.end_s
        for media in row.stretches:
            path = PurePosixPath(media.path)
            assert not path.is_absolute() and ".." not in path.parts and media.digest is None
    media = {stretch.path for row in rows for stretch in row.stretches}
    assert not media or name == "table" or all((corpus(name) / path).is_file() for path in media)


@EACH
def test_the_manifest_does_not_depend_on_the_order_in_which_the_disk_lists_files(
    name: str, corpus: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, root = build(name), corpus(name)
    rows = in_order(reader.scan(root))
    backwards(monkeypatch)
    assert in_order(reader.scan(root)) == rows


def backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists every directory in the opposite order."""
    scandir, listdir = os.scandir, os.listdir

    @contextmanager
    def scanned(path: Any = ".") -> Any:
        with scandir(path) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    monkeypatch.setattr(os, "scandir", scanned)
    monkeypatch.setattr(os, "listdir", lambda path=".": sorted(listdir(path), reverse=True))


@EACH
def test_a_scan_leaves_the_corpus_as_it_is_and_gives_the_same_twice(name: str, corpus: Callable[[str], Path]) -> None:
    reader, root = build(name), corpus(name)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert reader.scan(root) == reader.scan(root)
    reader.prepare(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@EACH
def test_a_scan_makes_a_manifest_without_a_problem(name: str, corpus: Callable[[str], Path], tmp_path: Path) -> None:
    reader, root = build(name), corpus(name)
    assert len(manifest.build(reader, root, tmp_path / "memory").rows) == len(reader.scan(root))
