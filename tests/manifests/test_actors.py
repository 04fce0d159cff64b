"""The readers of RAVDESS and CREMA-D: what the names of clips say, which files are read, folds by actor, votes."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.crema_d import CremaD
from manifests.ravdess import EMOTIONS, PARTS, Ravdess
from pipeline.errors import InputError
from pipeline.utterance import Utterance


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def only(rows: list[Utterance]) -> Utterance:
    [row] = rows
    return row


# --- RAVDESS ---------------------------------------------------------------------------------------------------


def test_a_name_of_ravdess_says_who_says_what_how(tmp_path: Path) -> None:
    row = only(Ravdess().scan(touch(tmp_path, "Actor_12/03-01-06-02-02-01-12.wav")))
    assert (row.id, row.dialogue, row.speaker) == ("01-06-02-02-01-12", "01-06-02-02-01-12", "12")
    assert row.text == "Dogs are sitting by the door" and row.files("video") == []
    assert row.labels == {"emotion": "fearful", "channel": "speech", "intensity": "strong", "repetition": 1}


@pytest.mark.parametrize(
    ("files", "sound", "pictures"),
    [
        (("03-01-01-01-01-01-01.wav", "02-01-01-01-01-01-01.mp4"), "03", "02"),
        (("01-01-01-01-01-01-01.mp4",), "01", "01"),
        (("01-01-01-01-01-01-01.mp4", "02-01-01-01-01-01-01.mp4"), "01", "01"),
        (("02-01-01-01-01-01-01.mp4",), None, "02"),
    ],
)
def test_sound_is_the_audio_only_file_and_pictures_are_those_of_the_full_clip_if_they_are_there(
    tmp_path: Path, files: tuple[str, ...], sound: str | None, pictures: str | None
) -> None:
    row = only(Ravdess().scan(touch(tmp_path, *files)))
    assert [path[:2] for path in row.files("audio")] == ([sound] if sound else [])
    assert [path[:2] for path in row.files("video")] == ([pictures] if pictures else [])


def test_of_a_copy_that_holds_everything_twice_the_files_nearest_to_the_root_are_read(tmp_path: Path) -> None:
    name = "Actor_01/03-01-01-01-01-01-01.wav"
    row = only(Ravdess().scan(touch(tmp_path, name, f"audio_speech_actors_01-24/{name}", f"._{Path(name).name}")))
    assert row.files("audio") == [name]


def test_song_and_speech_are_label_protocols_of_their_own(tmp_path: Path) -> None:
    said, sung = Ravdess().scan(touch(tmp_path, "03-01-03-01-01-01-01.wav", "03-02-03-01-01-01-01.wav"))
    reader = Ravdess()
    labels = {name: [reader.protocol(name).of(row) for row in (said, sung)] for name in reader.labels}
    assert labels == {"emotion": [2, None], "song": [None, 2], "both": [2, 2]}


def test_published_counts_of_ravdess_are_those_of_24_actors(tmp_path: Path) -> None:
    """60 utterances of speech each: 4 neutral, 8 of any other; the paper's 1,440, and 1,012 of song."""
    assert {name: sum(counts.values()) for name, counts in Ravdess.expected.items()} == {
        "emotion": 1440,
        "song": 1012,
        "both": 2452,
    }
    assert len(PARTS) == 24 and Ravdess.expected["emotion"]["neutral"] == 24 * 4


def test_real_utterances_of_the_kit_are_found_and_no_actor_is_on_two_sides(kit: Path) -> None:
    rows = Ravdess().scan(kit / "ravdess")
    assert len(rows) == 256 and {row.labels["emotion"] for row in rows} == set(EMOTIONS)
    speaker = {row.id: row.speaker for row in rows}
    for fold in Ravdess().folds(rows, "cv"):
        sides = [{speaker[name] for name in part} for part in (fold.train, fold.valid, fold.test)]
        assert fold.group == "speaker" and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_actors_of_two_parts_are_too_few_for_folds(tmp_path: Path) -> None:
    rows = Ravdess().scan(touch(tmp_path, *(f"03-01-01-01-01-01-{actor:02}.wav" for actor in (2, 3, 5))))
    with pytest.raises(InputError, match="at least, to train, validate and test on"):
        Ravdess().folds(rows, "cv")


# --- CREMA-D ---------------------------------------------------------------------------------------------------

HEAD = ",FileName,VoiceVote,VoiceLevel,FaceVote,FaceLevel,MultiModalVote,MultiModalLevel\n"


def voted(root: Path, *lines: str) -> Path:
    (root / "processedResults").mkdir(parents=True, exist_ok=True)
    (root / "processedResults/summaryTable.csv").write_text(HEAD + "\n".join(lines))
    return root


def test_a_name_of_crema_d_says_who_says_what_how(tmp_path: Path) -> None:
    row = only(CremaD().scan(touch(tmp_path, "AudioWAV/1001_IEO_HAP_LO.wav", "VideoFlash/1001_IEO_HAP_LO.flv")))
    assert (row.id, row.speaker, row.text) == ("1001_IEO_HAP_LO", "1001", "It's eleven o'clock")
    assert row.labels == {"emotion": "happy", "level": "low"}
    assert (row.files("audio"), row.files("video")) == (
        ["AudioWAV/1001_IEO_HAP_LO.wav"],
        ["VideoFlash/1001_IEO_HAP_LO.flv"],
    )


def test_votes_are_labels_of_their_own_and_a_tie_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "CREMA-D/AudioWAV/1001_IEO_HAP_LO.wav")
    voted(tmp_path / "CREMA-D", "1,1001_IEO_HAP_LO,N,71,A:F,30:51,H,57")
    row, reader = only(CremaD().scan(tmp_path)), CremaD()
    assert row.files("audio") == ["CREMA-D/AudioWAV/1001_IEO_HAP_LO.wav"]
    found = {name: reader.protocol(name).of(row) for name in reader.labels}
    assert found == {"emotion": 3, "voice": 4, "face": None, "perceived": 3}


def test_a_clip_of_the_list_is_a_row_though_its_file_is_lost_and_known_faults_are_noted(tmp_path: Path) -> None:
    touch(tmp_path, "AudioWAV/1001_IEO_HAP_LO.wav", "AudioWAV/._1001_IEO_HAP_LO.wav", "AudioWAV/notes.wav")
    (tmp_path / "SentenceFilenames.csv").write_text('"Stimulus_Number","Filename"\n1,"1076_MTI_SAD_XX"\n')
    there, lost = CremaD().scan(tmp_path)
    assert (there.id, lost.files("audio")) == ("1001_IEO_HAP_LO", ["AudioWAV/1076_MTI_SAD_XX.wav"])
    assert "no sound" in str(lost.labels["known"]) and lost.files("video") == [] and "known" not in there.labels


def test_a_vote_for_no_emotion_is_named_by_line(tmp_path: Path) -> None:
    voted(touch(tmp_path, "AudioWAV/1001_IEO_HAP_LO.wav"), "1,1001_IEO_HAP_LO,X,71,A,30,H,57")
    with pytest.raises(InputError, match="summaryTable.csv:2: VoiceVote = 'X'"):
        CremaD().scan(tmp_path)
