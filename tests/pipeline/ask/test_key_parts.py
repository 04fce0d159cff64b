"""The parts of a key, what they are called, and the changes between two keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.ask.key_parts import MEDIA_FIELDS, Change, KeyPart, Kind, changes, raw_parts
from pipeline.utterance import Audio, Utterance

DIGEST = "a" * 64


def lines(now, then):
    return [change.line for change in changes(now, then)]


def test_another_stretch_of_a_file_is_named_with_its_seconds():
    digest = KeyPart("", Kind.AUDIO, "digest", DIGEST)
    now, then = ([digest, KeyPart("", Kind.AUDIO, "end_s", end_s)] for end_s in (2.4, 2.1))
    assert lines(now, then) == ["audio end_s: 2.1 -> 2.4"]


def test_a_parameter_whose_name_is_that_of_a_part_of_a_fit_is_still_a_parameter():
    now, then = ([KeyPart("", Kind.PARAMETER, "state", n), KeyPart("", Kind.PARAMETER, "train", n)] for n in (2, 1))
    assert lines(now, then) == ["params.state: 1 -> 2", "params.train: 1 -> 2"]


def test_a_stage_whose_name_holds_dots_and_a_parameter_that_does_are_not_mixed_up():
    one, other = KeyPart("a.params", Kind.PARAMETER, "b", 1), KeyPart("a", Kind.PARAMETER, "params.b", 1)
    assert one.place != other.place and len(changes([one], [other])) == 2


@pytest.mark.parametrize(
    ("part", "label"),
    [
        (KeyPart("", Kind.VERSION, "", 1), "version"),
        (KeyPart("", Kind.PARAMETER, "n_mfcc", 5), "params.n_mfcc"),
        (KeyPart("text_word2vec", Kind.FIT, "state", DIGEST), "text_word2vec.fit.state"),
        (KeyPart("text_cnn.text_word2vec", Kind.ROW, "", DIGEST), "row of text_cnn.text_word2vec"),
        (KeyPart("", Kind.TEXT, "", DIGEST), "text"),
        (KeyPart("", Kind.AUDIO, "start_s", 0.5), "audio.start_s"),
    ],
)
def test_a_part_is_labelled_by_its_stage_its_kind_and_its_name(part, label):
    assert part.label == label


def test_a_value_that_only_one_key_has_is_none_in_the_other():
    part = KeyPart("", Kind.PARAMETER, "deltas", 2)
    assert lines([part], []) == ["params.deltas: none -> 2"] and lines([], [part]) == ["params.deltas: 2 -> none"]


def test_a_parameter_that_says_none_differs_from_one_that_is_not_there():
    assert len(changes([KeyPart("", Kind.PARAMETER, "window", "none")], [])) == 1


def test_keys_of_upstream_rows_are_no_change_of_their_own():
    now, then = ([KeyPart("text_word2vec", Kind.ROW, "", digit * 64)] for digit in "ab")
    assert changes(now, then) == []


@pytest.mark.parametrize(
    ("name", "was", "now", "words"),
    [
        ("state", DIGEST, None, "text_cnn: fit missing"),
        ("state", "b" * 64, DIGEST, "text_cnn: state changed"),
        ("train", "5 rows b", "6 rows a", "text_cnn: fitted on other rows"),
        ("labels", "5 labels b", "5 labels a", "text_cnn: fitted on other labels"),
    ],
)
def test_a_change_of_a_fit_is_put_in_words(name, was, now, words):
    assert Change(*(KeyPart("text_cnn", Kind.FIT, name, value) for value in (was, now))).fit == words


def test_a_fit_that_the_last_extraction_did_not_have_is_a_new_fold():
    assert Change(None, KeyPart("", Kind.FIT, "train", "5 rows a")).fit == "new fold"


def test_a_stretch_that_was_added_or_that_changed_is_named_by_its_number():
    one = Audio(path="1.wav", start_s=0.5, end_s=2.0, digest="a" * 64)
    two = Audio(path="2.wav", start_s=0.0, end_s=1.0, digest="b" * 64)
    now, then, before = (
        raw_parts(Kind.AUDIO, Utterance(id="u", dialogue="d", turn=0, audio=stretches), None, None)
        for stretches in ((one, replace(two, end_s=1.5)), (one, two), (one,))
    )
    assert lines(now, then) == ["audio stretch 2 end_s: 1.0 -> 1.5"]
    added = lines(then, before)
    assert added[0] == "audio stretch 2 media file changed" and "audio stretch 2 end_s: none -> 1.0" in added


def test_no_stretch_has_the_parts_of_one_that_is_empty():
    parts = raw_parts(Kind.VIDEO, Utterance(id="u", dialogue="d", turn=0), None, None)
    assert {part.name for part in parts} == {*MEDIA_FIELDS[Kind.VIDEO]} and {part.value for part in parts} == {None}
