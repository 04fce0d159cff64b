"""Media that are on both sides of a fold are told by their bytes, whatever their files are called."""

from __future__ import annotations

import pytest

from pipeline.corpus.fit_scope import same_media, same_media_line
from pipeline.reader import Fold
from pipeline.utterance import MISSING, Audio, Utterance, Video

FOLD = Fold("one", ("a",), ("b",), ("c", "d"))


def row(name: str, **media) -> Utterance:
    return Utterance(id=name, dialogue=name, turn=0, text="Yeah.", **media)


SOUND = Audio(path="a.wav", digest="1", start_s=0.5, end_s=2.0)
FACE = Video(path="a.mp4", digest="2")


def test_the_same_bytes_under_another_name_are_the_same_media():
    rows = [
        row("a", audio=(SOUND,), video=(FACE,)),
        row("b", audio=(SOUND,)),
        row("c", audio=(Audio(path="other.wav", digest="1", start_s=0.5, end_s=2.0),)),
        row("d", video=(Video(path="copy.mp4", digest="2"),)),
    ]
    assert same_media(FOLD, rows) == {"c": "a", "d": "a"}
    assert "2 test utterances have the very sound or pictures of train utterances (c = a, d = a)" in same_media_line(
        FOLD, rows
    )


@pytest.mark.parametrize(
    "audio",
    [
        (Audio(path="a.wav", digest="1", start_s=2.0, end_s=4.0),),
        (Audio(path="a.wav", digest="1", start_s=0.5, end_s=2.0, channel=1),),
        (SOUND, SOUND),
        (Audio(path="a.wav", digest=MISSING),),
        (),
    ],
    ids=["another stretch", "another channel", "joined twice", "missing", "none"],
)
def test_other_stretches_of_one_file_missing_files_and_equal_transcripts_are_not(audio):
    missing = Audio(path="b.wav", digest=MISSING)
    for train in ((SOUND,), (missing,)):
        rows = [row("a", audio=train), row("b"), row("c", audio=audio), row("d")]
        assert same_media(FOLD, rows) == {} and same_media_line(FOLD, rows) == ""
