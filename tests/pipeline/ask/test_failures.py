"""Every row without values is listed with its reason, a message and its file, and can be tried again by its reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.ask.failures import failure_table, failures
from pipeline.errors import InputError
from pipeline.reason import LONGEST, Reason, one_line
from pipeline.run import extraction
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.small import Small


@pytest.fixture(scope="module")
def extracted_failing(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with the small corpus, extracted with a missing, an empty and a damaged sound; utterances by reason."""
    place = tmp_path_factory.mktemp("failing")
    shutil.copytree(demo_root, place / "corpus")
    small = Small(place / "corpus", place / "home", place / "small.toml")
    missing, empty, damaged = small.session().corpus.manifest.rows[3:6]
    (small.root / missing.audio[0].path).unlink()
    (small.root / empty.audio[0].path).write_bytes(b"")
    (small.root / damaged.audio[0].path).write_bytes(b"RIFF\0\0\0\0WAVEjunk")
    small.extract(modality="audio")
    by_reason = {"missing_file": missing.id, "not_media": empty.id}
    listed = {entry["utterance"]: entry["reason"] for entry in failures(small.session(modality="audio"))}
    assert listed.pop(missing.id) == "missing_file" and listed.pop(empty.id) == "not_media"
    assert listed.keys() == {damaged.id}
    return place, by_reason | {"damaged": damaged.id}


@pytest.fixture
def failing(extracted_failing: tuple[Path, dict[str, str]], tmp_path: Path) -> tuple[Small, dict[str, str]]:
    """A copy of that folder to change at will; the utterances by reason."""
    place, by_reason = extracted_failing
    small = Small(tmp_path / "corpus", tmp_path / "home", tmp_path / "small.toml")
    shutil.copytree(place / "corpus", small.root)
    small.take(place / "home")
    return small, by_reason


def test_a_failure_is_listed_with_stage_reason_message_and_file(failing):
    small, by_reason = failing
    row = next(r for r in small.session().corpus.manifest.rows if r.id == by_reason["not_media"])
    listed = [e for e in failures(small.session(modality="audio")) if e["utterance"] == row.id]
    expected = {"modality": "audio", "fold": None, "reason": "not_media", "transient": False, "message": "zero bytes"}
    assert listed == [
        {"utterance": row.id, "stage": stage, "file": row.audio[0].path, **expected}
        for stage in ("audio_mfcc", "audio_opensmile")
    ]


def test_a_message_is_in_the_record_and_not_in_the_object_and_names_no_folder_of_the_machine(failing):
    small, _ = failing
    store = small.session().catalogue.store
    messages = [message for _, record in store.records() for message in record.messages.values()]
    assert "zero bytes" in messages and not any(str(small.root) in message for message in messages)
    assert not any(b"zero bytes" in path.read_bytes() for path in (small.home / "cache" / "objects").glob("*/*"))


def test_a_message_goes_with_a_row_that_is_copied_into_another_shard(failing):
    small, by_reason = failing
    before = failures(small.session(modality="audio"))
    [victim] = [row for row in small.session().corpus.manifest.rows if row.id == by_reason["not_media"]]
    neighbour = next(row for row in small.session().corpus.manifest.rows if row.dialogue == victim.dialogue)
    (small.root / neighbour.audio[0].path).write_bytes(b"another sound that is none")
    small.extract(modality="audio")
    assert small.count("copied")["audio_mfcc"] > 0
    after = failures(small.session(modality="audio"))
    assert [e for e in after if e["utterance"] == victim.id] == [e for e in before if e["utterance"] == victim.id]


def test_failures_can_be_listed_by_stage_and_reason_and_an_unknown_name_is_refused_with_the_closest(failing):
    small, by_reason = failing
    session = small.session(modality="audio")
    assert {e["stage"] for e in failures(session, stage="audio_mfcc")} == {"audio_mfcc"}
    assert {e["utterance"] for e in failures(session, reason="missing_file")} == {by_reason["missing_file"]}
    with pytest.raises(InputError, match="did you mean audio_mfcc"):
        failures(session, stage="audio_mffc")
    with pytest.raises(InputError, match="did you mean missing_file"):
        failures(session, reason="mising_file")


def test_an_utterance_without_the_modality_is_listed_only_if_asked_for(small):
    row = small.session().corpus.manifest.rows[0]
    [file] = small.root.glob(f"Session*/dialog/transcriptions/{row.id.rpartition('_')[0]}.txt")
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if row.id not in line))
    small.extract(modality="text")
    session = small.session(modality="text")
    assert failures(session) == []
    assert {e["utterance"] for e in failures(session, reason="absent")} == {row.id}


def test_only_rows_of_the_named_reason_and_stage_are_tried_again(failing):
    small, _ = failing
    session = extraction.retry_failed(small.session(modality="audio"), "audio_mfcc", "missing_file")
    total = extraction.extract(session).total()
    assert total.computed["audio_mfcc"] == 1 and total.computed["audio_opensmile"] == 0


def test_the_command_prints_one_json_object_or_a_table_and_a_count(failing, affectory):  # noqa: F811
    small, by_reason = failing
    code, out, _ = affectory("errors", *options(small, "--modality", "audio", "--reason", "missing_file", "--json"))
    answer = json.loads(out)
    assert code == 0 and [e["utterance"] for e in answer["errors"]] == [by_reason["missing_file"]] * 2
    code, out, err = affectory("errors", *options(small, "--modality", "audio"))
    assert (code, out) == (0, "") and "3 utterances without features." in err and "zero bytes" in err


def test_stage_and_reason_alone_are_refused_by_extract(small, affectory):  # noqa: F811
    code, _, err = affectory("extract", *options(small, "--reason", "io_error"))
    assert code == 2 and "--retry-failed" in err


def test_folds_with_the_same_failure_are_one_line_of_the_table():
    entry = {"utterance": "u", "stage": "text_cnn", "reason": "no_text", "message": "", "file": None}
    assert failure_table([{**entry, "fold": "a"}, {**entry, "fold": "b"}]).row_count == 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("[Errno 5] Input/output error: '/corpora/MELD/train/dia0.mp4'", "[Errno 5] Input/output error: 'dia0.mp4'"),
        ("first\nsecond", "first"),
        ("\n\n  \nthird", "third"),
        ("a\x1b[31mb\x07", "a[31mb"),
        ("ends at byte 10 of 20", "ends at byte 10 of 20"),
        ("https://hub/model is no path", "https://hub/model is no path"),
        ("x" * 1000, "x" * LONGEST),
        ("", ""),
    ],
)
def test_a_message_is_one_printable_line_without_folders(text, kept):
    assert one_line(text) == kept


def test_every_reason_can_be_asked_for(small):
    session = small.session(modality="audio")
    assert [failures(session, reason=reason) for reason in Reason] == [[]] * len(Reason)


def test_the_log_of_a_run_names_each_row_that_failed_with_its_reason(failing, affectory):  # noqa: F811
    small, by_reason = failing
    given = options(small, "--modality", "audio", "--features", "sound", "--workers", "0", "--retry-failed")
    assert affectory("extract", *given)[0] == 0
    [log] = (small.home / "runs" / "logs").glob("*-extract-small-*.log")
    assert f"audio_mfcc: {by_reason['not_media']} failed: not_media: zero bytes" in log.read_text()
    assert f"audio_mfcc: {by_reason['missing_file']} failed: missing_file: " in log.read_text()
