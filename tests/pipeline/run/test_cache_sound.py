"""What is computed again of two dozen clips when their files, stretches and annotations change, in rows."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cache import keys
from pipeline.cli.extract import extracted
from pipeline.errors import InputError
from pipeline.media import audio
from pipeline.run import extraction
from stages import audio_mfcc
from tests.clips import SOUND_SET, Clips, of, sounds, write_sound

STAGE = "audio_mfcc"


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a corpus whose twenty-four rows are extracted."""
    made = sounds(tmp_path_factory.mktemp("heard"))
    assert made.extract() == {STAGE: 24}
    return made.place


@pytest.fixture
def table(heard: Path, tmp_path: Path) -> Clips:
    """A copy of that corpus and its home."""
    made = sounds(tmp_path / "given")
    shutil.rmtree(made.place)
    shutil.copytree(heard, tmp_path / "copy")
    return of(tmp_path / "copy", made.lines, SOUND_SET)


def test_a_renamed_media_file_costs_nothing(table):
    (table.root / "03.wav").rename(table.root / "renamed.wav")
    table.line("u03")["audio"] = "renamed.wav"
    assert table.extract() == {} and table.last.jobs == 0


def test_a_media_file_in_another_folder_costs_nothing(table):
    (table.root / "deep" / "down").mkdir(parents=True)
    (table.root / "long.wav").rename(table.root / "deep" / "down" / "long.wav")
    for line in table.lines:
        line["audio"] = line["audio"].replace("long.wav", "deep/down/long.wav")
    assert table.extract() == {} and table.last.jobs == 0


def test_a_media_file_that_was_only_touched_costs_nothing(table):
    for path in table.root.glob("*.wav"):
        os.utime(path, ns=(1, 1))
    assert table.extract() == {} and table.last.jobs == 0


def test_changed_media_costs_the_rows_that_are_heard_in_it(table):
    write_sound(table.root / "05.wav", 0.3, 1000)
    assert table.extract() == {STAGE: 1}
    write_sound(table.root / "long.wav", 4.0, 1001)
    assert table.extract() == {STAGE: 8}


def test_media_of_the_same_size_and_other_content_are_noticed(table):
    path = table.root / "07.wav"
    size = path.stat().st_size
    write_sound(path, 0.3, 1002)
    assert path.stat().st_size == size and table.extract() == {STAGE: 1}


def test_media_that_come_back_cost_nothing(table):
    before = (table.root / "05.wav").read_bytes()
    write_sound(table.root / "05.wav", 0.3, 1000)
    table.extract()
    (table.root / "05.wav").write_bytes(before)
    assert table.extract() == {}


@pytest.mark.parametrize("change", [{"audio_start_s": 0.05}, {"audio_end_s": 0.45}, {"audio_end_s": ""}])
def test_a_stretch_that_was_cut_anew_costs_its_row_alone(table, change):
    table.line("u16").update(change)
    assert table.extract() == {STAGE: 1}


def test_two_files_with_the_same_bytes_are_one_row_key(table):
    shutil.copy(table.root / "01.wav", table.root / "twin.wav")
    table.lines.append(table.line("u01") | {"utterance": "u99", "audio": "twin.wav"})
    assert table.extract() == {}
    rows = table.rows()
    assert rows[STAGE, "u99"][0] == rows[STAGE, "u01"][0]


def test_a_new_utterance_of_a_known_file_costs_one_row(table):
    table.lines.append(table.line("u16") | {"utterance": "u98", "audio_start_s": 3.1, "audio_end_s": 3.9})
    assert table.extract() == {STAGE: 1} and table.count("copied")[STAGE] == 24


def test_a_label_or_a_speaker_of_a_clip_costs_nothing(table):
    for line in table.lines:
        line |= {"mood": "high", "speaker": line["dialogue"], "session": "first"}
    assert table.extract() == {} and table.last.jobs == 0


def test_the_version_of_a_stage_costs_the_stage(table, monkeypatch):
    monkeypatch.setattr(audio_mfcc.AudioMfcc, "version", audio_mfcc.AudioMfcc.version + 1)
    assert table.extract() == {STAGE: 24} and table.count("copied") == {}


@pytest.mark.parametrize("library", ["librosa", "soxr", "torch"])
def test_a_library_that_gives_the_same_values_costs_nothing(table, monkeypatch, library):
    real = keys.library_version
    monkeypatch.setattr(keys, "library_version", lambda name: "another" if name == library else real(name))
    assert table.extract() == {}


def test_a_library_that_gives_other_values_costs_the_stages_that_declare_it(table, monkeypatch):
    real, transform = keys.library_version, audio_mfcc.AudioMfcc.transform

    def moved(stage, loaded, state, batch):
        tracks = transform(stage, loaded, state, batch)
        return [track if track.values is None else replace(track, values=track.values + 1) for track in tracks]

    monkeypatch.setattr(keys, "library_version", lambda name: "another" if name == "librosa" else real(name))
    monkeypatch.setattr(audio_mfcc.AudioMfcc, "transform", moved)
    assert table.extract() == {STAGE: 24} and table.count("copied") == {}


def test_the_version_of_keys_costs_everything_in_a_home_of_its_own(table, monkeypatch):
    monkeypatch.setattr(keys, "KEY_VERSION", keys.KEY_VERSION + 1)
    with pytest.raises(InputError, match="edition 2 of the keys"):
        table.extract()
    table.home = table.place / "another"
    assert table.extract() == {STAGE: 24}


def test_the_version_of_the_decoding_code_costs_every_row_that_is_heard(table, monkeypatch):
    monkeypatch.setattr(audio, "VERSION", audio.VERSION + 1)
    assert table.extract() == {STAGE: 24} and table.count("copied") == {}


def test_retry_failed_decodes_the_clips_that_failed_and_no_other(table):
    (table.root / "02.wav").write_bytes(b"no sound")
    write_sound(table.root / "09.wav", 0.01, 3)
    table.home = table.place / "empty"
    assert table.extract() == {STAGE: 24}
    assert table.failed()["audio"] == {"u02": "not_media", "u09": "too_short"}
    session = extraction.retry_failed(table.session())
    answer, _ = extracted(session)
    assert (answer["computed"], answer["copied"]) == ({STAGE: 2}, {STAGE: 22})
    assert table.extract() == {}


def test_a_failure_of_the_bytes_is_not_tried_again_unasked(table):
    (table.root / "02.wav").write_bytes(b"no sound")
    assert table.extract() == {STAGE: 1}
    assert table.extract() == {} and table.last.jobs == 0


def test_a_file_that_vanishes_under_a_run_is_tried_again_when_it_is_back(table):
    write_sound(table.root / "06.wav", 0.3, 1003)
    session = table.session()
    away = (table.root / "06.wav").rename(table.root / "06.away")
    extraction.extract(session)
    away.rename(table.root / "06.wav")
    table.extract()
    assert table.failed()["audio"] == {}


def test_rows_in_a_shard_are_those_of_the_recipe_and_no_others_after_many_edits(table):
    for turn in range(4):
        table.lines.append(table.line("u16") | {"utterance": f"v{turn}", "audio_end_s": 0.3 + turn / 10})
        del table.lines[turn]
        table.extract()
    found = [name for each in table.tables() for name in each["utterance"].to_pylist()]
    assert sorted(found) == sorted(line["utterance"] for line in table.lines)
