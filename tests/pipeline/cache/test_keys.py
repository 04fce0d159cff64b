"""Keys: literal digests, so that an accidental change of hashing breaks the build and not the users' caches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cache import keys
from pipeline.dialogue import Context
from pipeline.stage import SOURCE, Spec, Stage
from pipeline.utterance import Audio, Utterance, Video

AUDIO = Audio(path="a.wav", start_s=0.5, end_s=2.0, channel=None, digest="d" * 64)
VIDEO = Video(path="a.avi", start_s=0.5, end_s=2.0, crop=(0.0, 0.25, 0.5, 0.5), digest="d" * 64)


@dataclass(frozen=True, kw_only=True)
class Weighted(Stage):
    version: ClassVar[int] = 1
    modality: ClassVar = "audio"
    inputs: ClassVar = ("audio",)
    weights: str = field(default="random", metadata=SOURCE)
    size: int = 3

    def spec(self, loaded):
        return Spec(1)

    def transform(self, loaded, state, batch):
        return []


def said(text):
    return Utterance(id="u", dialogue="d", turn=0, text=text)


@given(st.lists(st.none() | st.text("0123456789abcdef", min_size=64, max_size=64), max_size=3))
def test_a_row_key_is_the_digest_of_its_parts(inputs):
    for state in (None, "a" * 64):
        assert keys.row_key("s" * 64, state, inputs) == keys.digest("row", "s" * 64, state, inputs)


def test_digests_are_these_for_ever():
    assert keys.digest("row", 1, None, [0.5, "é"]) == "d9f5ad05176f10a5fc0c10ea4399bb107a87328e3a2ef180407030831f226063"
    assert keys.text_digest(said("Excuse me.")) == "f6568bd954d2654ed237f0fc78eb6218a30adf7e65628813ad49f2a9612b601e"
    turn = keys.turn_digest(replace(said("Excuse me."), speaker="Ann"), Context(turns=1, speakers=True))
    assert turn == "9143328650271492303f214a5d5f2175a166c352b0f50590f05193890dff617c"
    assert keys.dialogue_digest(["a" * 64, turn]) == "2df51c49612efdb09f260cffec8cb9f59a3aa40bbc8353a25b5fbcc09360cc69"
    assert keys.audio_digest([AUDIO], 1) == "a57dc57ded048f5a53e4fc6eb6dad00eb6cefa7b0aec10c3b14c2019266bba92"
    assert keys.video_digest([VIDEO], 1) == "5d7ad42fd294bf4e687b1a37b395a1a6b7dad098c247038d6abfa904dda2fc6f"
    assert (
        keys.row_key("s" * 64, None, ["r" * 64]) == "575d62b41d97b161a6725ab5ff32b479f3493cf37a46c388e5cd6ee496ed6987"
    )
    assert (
        keys.shard_key(["u1", "u2"], ["a" * 64, "b" * 64])
        == "7a791cbf30c56c857dafa4cf4b6063ad22161f2d5dc952b493842908751c86fa"
    )
    assert (
        keys.state_key("s" * 64, ("multiclass", ("a", "b")), [("u1", "k", 0)], [("u2", "k", 1)])
        == "7c2e4b57fc89ee4ac958f7a237b9c68d3adf7963cce613985d23c59e203c7c78"
    )
    assert keys.view_key([["a" * 64]], "pad", 30) == "a01931f2a78938e998d382d19bacffff3dc65e480c78635e2c82e6e824dec674"


def test_digests_of_stages_are_these_for_ever():
    family = keys.family(Weighted(), {"size": 3}, ["audio"])
    assert family == "c302a093388d72320b6561376c7fcfa270b9141ee79d25da1a4c5eef0dc1b7f0"
    assert (
        keys.stage_digest("f" * 64, {"soxr": "1.0.0", "av": "17.1.0"})
        == "15f8139d903f66c08aad4ee6cfae4d5234d1f5717e6668c721814060b5c4dd34"
    )


def test_a_turn_is_keyed_by_its_words_and_by_its_speaker_where_speakers_are_read():
    row = replace(said("Excuse me."), speaker="Ann")
    read, left = Context(turns=2, speakers=True), Context(turns=2, speakers=False)
    for other in (
        replace(row, id="v", turn=7, dialogue="e"),
        replace(row, text=None, text_digest=keys.text_digest(row)),
    ):
        assert keys.turn_digest(other, read) == keys.turn_digest(row, read)
    assert keys.turn_digest(replace(row, speaker="Bob"), read) != keys.turn_digest(row, read)
    assert keys.turn_digest(replace(row, speaker="Bob"), left) == keys.turn_digest(row, left)
    assert keys.turn_digest(replace(row, text="Excuse us."), left) != keys.turn_digest(row, left)


def test_the_order_of_turns_is_in_the_key_of_a_dialogue():
    assert keys.dialogue_digest(["a" * 64, "b" * 64]) != keys.dialogue_digest(["b" * 64, "a" * 64])


def test_a_path_is_in_no_key():
    assert keys.audio_digest([replace(AUDIO, path="elsewhere.flac")], 1) == keys.audio_digest([AUDIO], 1)
    assert keys.video_digest([replace(VIDEO, path="elsewhere.mp4")], 1) == keys.video_digest([VIDEO], 1)


@pytest.mark.parametrize("change", [{"start_s": 0.6}, {"end_s": None}, {"channel": 0}, {"digest": "e" * 64}])
def test_everything_that_changes_what_is_heard_moves_the_key(change):
    assert keys.audio_digest([replace(AUDIO, **change)], 1) != keys.audio_digest([AUDIO], 1)


@pytest.mark.parametrize("change", [{"start_s": 0.6}, {"end_s": None}, {"crop": None}, {"digest": "e" * 64}])
def test_everything_that_changes_what_is_seen_moves_the_key(change):
    assert keys.video_digest([replace(VIDEO, **change)], 1) != keys.video_digest([VIDEO], 1)


@pytest.mark.parametrize(("stretch", "make"), [(AUDIO, keys.audio_digest), (VIDEO, keys.video_digest)])
def test_the_stretches_of_a_row_their_number_and_their_order_are_in_its_key(stretch, make):
    later = replace(stretch, start_s=3.0, end_s=4.0)
    rows = ([stretch], [later], [stretch, later], [later, stretch], [stretch, later, later])
    assert len({make(row, 1) for row in rows}) == len(rows)
    renamed = [stretch, replace(later, path="elsewhere")]
    assert make(renamed, 1) == make([stretch, later], 1)


@pytest.mark.parametrize("make", [keys.audio_digest, keys.video_digest])
def test_a_row_without_stretches_is_absent(make):
    assert make((), 1) is None


def test_the_decoding_code_has_a_version_in_the_key():
    assert keys.audio_digest([AUDIO], 2) != keys.audio_digest([AUDIO], 1)
    assert keys.video_digest([VIDEO], 2) != keys.video_digest([VIDEO], 1)


def test_equal_text_under_other_ids_has_the_same_rows_in_another_shard():
    row = keys.row_key("s", None, [keys.text_digest(said("Hi."))])
    assert keys.shard_key(["u1"], [row]) != keys.shard_key(["u2"], [row])


def test_local_weights_enter_by_the_digest_of_their_bytes_and_not_by_their_path():
    params = keys.stage_params(Weighted(weights="/some/where.bin"), lambda name: "digest of it")
    assert params == {"weights": "digest of it", "size": 3}


def test_a_parameter_that_is_not_finite_has_no_key():
    with pytest.raises(ValueError, match="JSON compliant"):
        keys.digest(float("nan"))


@given(st.lists(st.tuples(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.none()), min_size=1))
def test_a_digest_is_a_function_of_its_parts_alone(parts):
    assert keys.digest(parts) == keys.digest(list(parts))
    assert keys.digest(parts) != keys.digest([*parts, ["more", None]])


@given(st.text(), st.text())
def test_two_texts_have_two_digests(a, b):
    assert (keys.text_digest(said(a)) == keys.text_digest(said(b))) == (a == b)


def test_a_file_and_its_copy_have_one_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    (tmp_path / "b").write_bytes(b"x" * 10)
    (tmp_path / "empty").write_bytes(b"")
    assert keys.file_digest(tmp_path / "a") == keys.file_digest(tmp_path / "b") != keys.file_digest(tmp_path / "empty")
