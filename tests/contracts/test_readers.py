"""Rules that every reader keeps, whatever its corpus. They run over all files of `manifests/`.

A new reader adds a line to `CASES`: how to build it, and how to write a small corpus for it.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from manifests._sentiment import published
from pipeline.corpus import manifest
from pipeline.corpus.fit_scope import labelled
from pipeline.errors import InputError
from pipeline.plugins import find, names
from pipeline.reader import Reader
from pipeline.utterance import Utterance, in_order

READERS = names("manifests")
EACH = pytest.mark.parametrize("name", READERS)
PROTOCOLS = pytest.mark.parametrize("protocol", ["official", "cv"])
HEAVY = ("torch", "cv2", "av", "scipy", "transformers", "dask")


def _as_it_is(root: Path, demo: Path) -> Path:
    """The synthetic corpus stands in for IEMOCAP, whose layout it has."""
    return demo


def _table(root: Path, demo: Path) -> Path:
    root.mkdir()
    splits = ("train", "train", "train", "valid", "test")
    with (root / "utterances.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["utterance", "dialogue", "speaker", "session", "split", "text", "audio", "mood"])
        for i in range(60):
            group = i // 3 % 5
            cells = (f"d{i // 3}", f"ann{group}", f"s{group}", splits[group], f"words {i}", f"{i}.wav")
            rows.writerow([f"u{i * 37 % 60:02}", *cells, ("low", "high", "")[i % 3]])
    return root


def _meld(root: Path, demo: Path) -> Path:
    parts = {
        "train": ("train_splits", 15),
        "dev": ("dev_splits_complete", 4),
        "test": ("output_repeated_splits_test", 6),
    }
    names = ("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
    said = ("oh", "Joey", "joy", "positive")
    for part, (folder, dialogues) in parts.items():
        (root / folder).mkdir(parents=True)
        with (root / f"{part}_sent_emo.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow([*names, "Season", "Episode", "StartTime", "EndTime"])
            for i in range(3 * dialogues):
                d, u = divmod(i, 3)
                (root / folder / f"dia{d}_utt{u}.mp4").touch()
                rows.writerow([i, *said, d, u, 1, d, f"0:00:0{u},000", f"00:00:0{u},5"])
    return root


def _videos(corpus: str) -> list[str]:
    """Five videos of each part of the published split."""
    parts = published(corpus)
    return [name for part in ("train", "valid", "test") for name in [v for v, p in parts.items() if p == part][:5]]


def _touched(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _mosi(root: Path, demo: Path) -> Path:
    (root / "Raw/Transcript/Segmented").mkdir(parents=True)
    (root / "Labels").mkdir()
    labels = []
    for video in _videos("mosi"):
        lines = "".join(f"{n}_DELIM_WORDS {n}\n" for n in range(1, 4))
        (root / f"Raw/Transcript/Segmented/{video}.annotprocessed").write_text(lines)
        labels += [f"{n},{n + 0.9},{video},{n},{n - 2.2:.1f}\n" for n in range(1, 4)]
        for n in range(1, 4):
            sound, film = f"Raw/Audio/WAV_16000/Segmented/{video}_{n}.wav", f"Raw/Video/Segmented/{video}_{n}.mp4"
            _touched(root, sound, film)
    (root / "Labels/OpinionLevelSentiment.csv").write_text("".join(labels))
    return root


def _mosei(root: Path, demo: Path) -> Path:
    emotions = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
    columns = ("Input.VIDEO_ID", "Input.CLIP", "WorkerId", "Answer.sentiment", *(f"Answer.{name}" for name in emotions))
    answers = [",".join(columns)]
    (root / "Raw/Transcript/Segmented/Combined").mkdir(parents=True)
    for video in _videos("mosei"):
        lines = "".join(f"{video}___{n}___{n}.0___{n}.9___words {n}\n" for n in range(3))
        (root / f"Raw/Transcript/Segmented/Combined/{video}.txt").write_text(lines)
        answers += [f"{video},{n},{worker},{n - 1},{n},0,0,0,0,1" for n in range(3) for worker in "AB"]
        films = (f"Raw/Videos/Full/Combined/{video}.mp4", f"Raw/Videos/Segmented/Combined/{video}_1.mp4")
        _touched(root, f"Raw/Audio/Full/WAV_16000/{video}.wav", *films)
    (root / "Raw/Labels").mkdir()
    (root / "Raw/Labels/batch.csv").write_text("\n".join(answers) + "\n")
    return root


CASES: Mapping[str, tuple[Mapping[str, Any], Callable[[Path, Path], Path]]] = {
    "demo": ({"per_cell": 2}, _as_it_is),
    "iemocap": ({}, _as_it_is),
    "meld": ({}, _meld),
    "mosei": ({}, _mosei),
    "mosi": ({}, _mosi),
    "table": ({"label": "mood", "classes": ("low", "high")}, _table),
}
"""The options of each reader, and what writes a small corpus to a root (beside a demo corpus of 60 utterances)."""


def build(name: str, cases: Mapping[str, Any] = CASES) -> Reader:
    if name not in cases:
        pytest.fail(f"manifests/{name}.py has no small corpus in CASES of {Path(__file__).name}: add it there")
    return find("manifests", name, Reader)(**cases[name][0])  # type: ignore[type-abstract]


@pytest.fixture(scope="module")
def corpus(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The root of a reader's small corpus."""
    folder = tmp_path_factory.mktemp("readers")
    made: dict[str, Path] = {}

    def root(name: str) -> Path:
        build(name)
        if name not in made:
            made[name] = CASES[name][1](folder / name, demo_root)
        return made[name]

    return root


@EACH
def test_a_reader_has_a_small_corpus_to_be_tested_with(name: str) -> None:
    assert build(name)


def test_a_reader_without_a_small_corpus_is_told_where_to_add_one() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"manifests/demo\.py has no small corpus in CASES of test_readers"):
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


@EACH
def test_a_reader_imports_nothing_heavy(name: str) -> None:
    program = f"import sys, manifests.{name}; print(*(heavy for heavy in {HEAVY} if heavy in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()) == ("", [])


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
        for media in filter(None, (row.audio, row.video)):
            path = PurePosixPath(media.path)
            assert not path.is_absolute() and ".." not in path.parts and media.digest is None
    media = {m.path for row in rows for m in (row.audio, row.video) if m}
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


# --- labels ----------------------------------------------------------------------------------------------------


@EACH
def test_every_label_is_what_its_task_says(name: str, corpus: Callable[[str], Path]) -> None:
    reader, rows = build(name), build(name).scan(corpus(name))
    for protocol in reader.labels:
        labels = reader.protocol(protocol)
        found = labelled(rows, labels)
        assert found, f"the small corpus has no row of {protocol}"
        assert len(set(labels.classes)) == len(labels.classes)
        for label in found.values():
            if labels.task == "multiclass":
                assert type(label) is int and 0 <= label < len(labels.classes)
            elif labels.task == "multilabel":
                assert isinstance(label, tuple) and len(label) == len(labels.classes) and set(label) <= {0, 1}
            else:
                numbers = label if isinstance(label, tuple) else (label,)
                assert isinstance(label, tuple) == (len(labels.classes) > 1)
                assert len(numbers) == max(1, len(labels.classes))
                assert all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)


@EACH
def test_an_unknown_label_protocol_names_those_there_are(name: str) -> None:
    with pytest.raises(InputError, match="no label protocol 'nonsense'"):
        build(name).protocol("nonsense")


# --- folds -----------------------------------------------------------------------------------------------------


def kept(name: str, root: Path) -> list[Utterance]:
    """The rows of the first label protocol."""
    reader = build(name)
    rows = in_order(reader.scan(root))
    found = labelled(rows, reader.protocol(next(iter(reader.labels))))
    return [row for row in rows if row.id in found]


@EACH
@PROTOCOLS
def test_folds_are_disjoint_none_is_empty_and_no_dialogue_stands_on_two_sides(
    name: str, protocol: str, corpus: Callable[[str], Path]
) -> None:
    rows = kept(name, corpus(name))
    dialogue = {row.id: row.dialogue for row in rows}
    folds = build(name).folds(rows, protocol)
    assert folds and len({fold.name for fold in folds}) == len(folds)
    for fold in folds:
        parts = [fold.train, fold.valid, fold.test]
        assert all(parts) and max(Counter(i for part in parts for i in part).values()) == 1
        sides = [{dialogue[i] for i in part} for part in parts]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


@EACH
def test_cross_validation_tests_every_row_once(name: str, corpus: Callable[[str], Path]) -> None:
    rows = kept(name, corpus(name))
    folds = build(name).folds(rows, "cv")
    assert len(folds) > 1
    assert sorted(i for fold in folds for i in fold.test) == sorted(row.id for row in rows)
    for fold in folds:
        assert {*fold.train, *fold.valid, *fold.test} == {row.id for row in rows}


@EACH
@PROTOCOLS
def test_folds_depend_on_neither_the_order_of_rows_nor_their_labels(
    name: str, protocol: str, corpus: Callable[[str], Path]
) -> None:
    rows, reader = kept(name, corpus(name)), build(name)
    bare = [dataclasses.replace(row, labels={}) for row in reversed(rows)]
    assert as_sets(reader, rows, protocol) == as_sets(reader, bare, protocol)


def as_sets(reader: Reader, rows: Sequence[Utterance], protocol: str) -> list[tuple[Any, ...]]:
    return [(f.name, set(f.train), set(f.valid), set(f.test)) for f in reader.folds(rows, protocol)]


@EACH
@PROTOCOLS
def test_folds_hold_only_the_rows_they_are_made_of(name: str, protocol: str, corpus: Callable[[str], Path]) -> None:
    rows = kept(name, corpus(name))
    some = [row for i, row in enumerate(rows) if i % 4]
    for fold in build(name).folds(some, protocol):
        assert {*fold.train, *fold.valid, *fold.test} <= {row.id for row in some}


@EACH
def test_an_unknown_protocol_names_those_there_are(name: str, corpus: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="no protocol 'officail': did you mean official"):
        build(name).folds(kept(name, corpus(name)), "officail")
