"""What the doctor costs and what it says: nothing is examined twice, a bad file costs itself alone."""

from __future__ import annotations

import io
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.cli.tables import doctor_tables
from pipeline.errors import InputError
from pipeline.media import doctor as doctors
from pipeline.media import doctor_pool
from pipeline.media.doctor_file import examine
from tests.clinic import RATE, Clinic, film, moving, tone, wav
from tests.poison import misbehave


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    root = tmp_path / "corpus"
    root.mkdir()
    return Clinic(root, tmp_path / "home", [])


def corpus_of_two(clinic: Clinic) -> None:
    wav(clinic.root / "a.wav", tone(1))
    film(clinic.root / "b.mp4", moving(1))
    clinic.add("a", audio="a.wav", video="b.mp4", split="train")
    clinic.add("b", audio="missing.wav", video="b.mp4", split="test")


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a file is opened again")


def test_each_content_is_examined_once_and_a_second_run_examines_nothing(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus_of_two(clinic)
    shutil.copy(clinic.root / "a.wav", clinic.root / "copy.wav")
    clinic.add("c", audio="copy.wav")
    first = clinic.examined()
    before = pq.read_table(first["parquet"])
    monkeypatch.setattr(doctor_pool, "Child", refuse)
    second = clinic.examined()
    assert (first["probed"], second["probed"]) == (2, 0)
    assert pq.read_table(second["parquet"]).equals(before)
    assert {**first, "probed": 0, "seconds": 0} == {**second, "seconds": 0}


def test_other_bytes_under_the_same_name_are_examined_anew(clinic: Clinic) -> None:
    clinic.add("a", audio="a.wav")
    wav(clinic.root / "a.wav", tone(1))
    assert clinic.findings()["a", "audio"]["code"] is None
    wav(clinic.root / "a.wav", tone(2, 0.0))
    assert clinic.findings()["a", "audio"]["code"] == "all_silent"


def test_a_memory_that_somebody_damaged_is_made_again(clinic: Clinic) -> None:
    corpus_of_two(clinic)
    before = clinic.findings()
    with sqlite3.connect(clinic.home / "doctor" / "streams.sqlite") as base:
        base.execute("update memo set value = '[1, 2]'")
    base.close()
    assert clinic.findings() == before


def poisoned(kind: str, path: Path) -> object:
    """Examines all but files named after a way to misbehave."""
    if path.stem in ("segfault", "hang", "exit", "memory"):
        misbehave(path.stem)
    return examine(kind, path)  # type: ignore[arg-type]


def test_a_file_that_crashes_or_hangs_the_decoder_costs_itself_alone(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_pool, "examine", poisoned)
    monkeypatch.setattr(doctor_pool, "DEADLINE_S", 2.0)
    names = ["a", "segfault", "b", "hang", "c", "memory", "d"]
    for index, name in enumerate(names):
        clinic.add(name, audio=wav(clinic.root / f"{name}.wav", tone(1 + index / 10)).name)
    codes = {name: record["code"] for (name, _), record in clinic.findings(workers=2).items()}
    bad = {"segfault": "decoder_crashed", "hang": "decoder_hung", "memory": "out_of_memory"}
    assert codes == dict.fromkeys(names) | bad


def test_a_transient_failure_is_examined_again_and_a_crash_is_not(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index, name in enumerate(("segfault", "memory")):
        clinic.add(name, audio=wav(clinic.root / f"{name}.wav", tone(1 + index)).name)
    with monkeypatch.context() as patched:
        patched.setattr(doctor_pool, "examine", poisoned)
        assert clinic.examined()["probed"] == 2
    codes = {name: record["code"] for (name, _), record in clinic.findings().items()}
    assert codes == {"segfault": "decoder_crashed", "memory": None}


def test_a_bug_of_the_doctor_is_raised_and_loses_nothing_found_before(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus_of_two(clinic)
    real = doctor_pool._examined

    def broken(idle: Any, kind: str, path: Path) -> Any:
        if kind == "video":
            raise ZeroDivisionError
        return real(idle, kind, path)

    with monkeypatch.context() as patched:
        patched.setattr(doctor_pool, "_examined", broken)
        with pytest.raises(ZeroDivisionError):
            clinic.examined()
    assert clinic.examined()["probed"] == 1


def test_the_answer_counts_files_hours_codecs_and_reasons(clinic: Clinic) -> None:
    corpus_of_two(clinic)
    answer = clinic.examined()
    assert answer["files"] == 3
    assert answer["hours"] == {"audio": pytest.approx(1 / 3600, abs=1e-4), "video": pytest.approx(1 / 3600, abs=1e-4)}
    assert answer["reasons"] == {"audio": {"test": {"missing_file": 1}}}
    assert answer["codecs"] == {"audio": {"pcm_s16le": 1}, "video": {"h264": 1}}
    assert answer["rates_hz"] == {"audio": {"16000": 1}, "video": {"10": 1}}
    assert answer["sizes"] == {"64x48": 1}


def test_the_worst_files_are_those_that_give_nothing_then_those_of_most_utterances(clinic: Clinic) -> None:
    wav(clinic.root / "silent.wav", tone(1, 0.0))
    (clinic.root / "words.wav").write_text("words")
    for index in range(3):
        clinic.add(f"s{index}", audio="silent.wav")
    clinic.add("w", audio="words.wav")
    for index in range(2):
        clinic.add(f"m{index}", audio="missing.wav")
    worst = [(entry["path"], entry["code"], entry["utterances"]) for entry in clinic.examined()["worst"]]
    assert worst == [
        ("missing.wav", "missing_file", 2),
        ("words.wav", "not_media", 1),
        ("silent.wav", "all_silent", 3),
    ]


def test_the_parquet_file_has_a_row_for_each_utterance_and_modality_it_has(clinic: Clinic) -> None:
    corpus_of_two(clinic)
    found = clinic.findings()
    assert found.keys() == {("a", "audio"), ("b", "audio"), ("a", "visual"), ("b", "visual")}
    sound, pictures = found["a", "audio"], found["a", "visual"]
    assert (sound["codec"], sound["rate_hz"], sound["channels"], sound["width"]) == ("pcm_s16le", RATE, 1, None)
    assert (pictures["width"], pictures["height"], pictures["channels"]) == (64, 48, None)
    assert sound["duration_s"] == pytest.approx(1.0) and sound["start_s"] == 0.0
    assert found["b", "audio"]["duration_s"] is None


def test_one_modality_alone_can_be_asked_for_and_text_has_no_files(clinic: Clinic) -> None:
    corpus_of_two(clinic)
    assert {modality for _, modality in clinic.findings(modality="visual")} == {"visual"}
    with pytest.raises(InputError, match="no media"):
        clinic.examined(modality="text")


def test_the_tables_say_what_the_answer_says(clinic: Clinic) -> None:
    corpus_of_two(clinic)
    page = Console(file=io.StringIO(), width=200)
    page.print(*doctor_tables(clinic.examined()))
    text = page.file.getvalue()  # type: ignore[attr-defined]
    for word in ("3 files", "missing_file", "missing.wav", "h264: 1", "16000: 1", "64x48: 1", "test"):
        assert word in text


def test_there_is_a_table_of_what_there_is_one_of_findings_and_one_of_the_worst_files(clinic: Clinic) -> None:
    corpus_of_two(clinic)
    titles = [str(table.title) for table in doctor_tables(clinic.examined())]
    assert titles[0].startswith("clinic: ") and titles[1:] == ["Findings", "Worst files"]


class Interrupted:
    """Stands in for `as_completed`: Ctrl-C after some examinations, while others are under way."""

    def __init__(self, after: int, running: threading.Event) -> None:
        self.after, self.running = after, running

    def __call__(self, futures: Iterable[Any]) -> Iterator[Any]:
        real = as_completed(futures)
        for _ in range(self.after):
            yield next(real)
        self.running.wait()
        raise KeyboardInterrupt


def test_an_interrupted_run_keeps_what_it_found_and_begins_no_other_file(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(6):
        clinic.add(f"u{index}", audio=wav(clinic.root / f"{index}.wav", tone(1 + index)).name)
    real, begun, running = doctor_pool._examined, [], threading.Event()

    def counted(idle: Any, kind: Any, path: Path) -> Any:
        begun.append(path)
        if len(begun) == 3:
            running.set()
            time.sleep(0.3)
        return real(idle, kind, path)

    threads = threading.active_count()
    with monkeypatch.context() as patched:
        patched.setattr(doctor_pool, "_examined", counted)
        patched.setattr(doctor_pool, "as_completed", Interrupted(2, running))
        with pytest.raises(KeyboardInterrupt):
            clinic.examined()
    assert len(begun) <= 3 and threading.active_count() == threads
    assert clinic.examined()["probed"] == 4


def test_an_interrupted_run_does_not_wait_for_a_file_that_hangs_the_decoder(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "hang"):
        clinic.add(name, audio=wav(clinic.root / f"{name}.wav", tone(1 + len(name))).name)
    running, real = threading.Event(), doctor_pool._examined

    def noticed(idle: Any, kind: Any, path: Path) -> Any:
        if path.stem == "hang":
            running.set()
        return real(idle, kind, path)

    threads = threading.active_count()
    with monkeypatch.context() as patched:
        patched.setattr(doctor_pool, "examine", poisoned)
        patched.setattr(doctor_pool, "DEADLINE_S", 3600.0)
        patched.setattr(doctor_pool, "_examined", noticed)
        patched.setattr(doctor_pool, "as_completed", Interrupted(1, running))
        with pytest.raises(KeyboardInterrupt):
            clinic.examined(workers=2)
    assert threading.active_count() == threads, "the hung call goes on"


def test_a_killed_run_loses_few_examinations(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(5):
        clinic.add(f"u{index}", audio=wav(clinic.root / f"{index}.wav", tone(1 + index)).name)
    saved: list[int] = []
    monkeypatch.setattr(doctors, "SAVE_EVERY", 2)
    monkeypatch.setattr(doctors, "remember", lambda unsaved, memory: saved.append(len(unsaved)))
    clinic.examined()
    assert saved == [2, 2, 1]


def test_a_memory_of_garbage_is_begun_anew(clinic: Clinic) -> None:
    corpus_of_two(clinic)
    before = clinic.findings()
    (clinic.home / "doctor" / "streams.sqlite").write_bytes(b"no database" * 1000)
    assert clinic.findings() == before
    assert clinic.examined()["probed"] == 0
