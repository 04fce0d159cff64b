"""The synthetic corpus: exact shares of true cues, the same bytes for the same seed, IEMOCAP's own layout."""

from __future__ import annotations

import json
import re
import wave
from collections import Counter
from dataclasses import astuple, replace
from pathlib import Path

import av
import numpy as np
import pytest

from manifests import iemocap
from manifests._face import EXPRESSIONS, HEIGHT, REST, WIDTH, blend
from manifests._quota import EMOTIONS, MODALITIES, SESSIONS, Cue, cues, quota, vote_accuracy
from manifests._script import script
from manifests._speech import RATE_HZ, Voice, speak
from manifests._synthesis import cast, write_dialogue
from manifests._vocabulary import CUE_WORDS
from manifests.demo import Demo
from pipeline.errors import InputError
from pipeline.utterance import Utterance, from_table, to_table

DEMO = Demo(per_cell=2)  # what `demo_root` holds


@pytest.fixture(scope="session")
def rows(demo_root: Path) -> list[Utterance]:
    return DEMO.scan(demo_root)


def planned() -> list[tuple[int, Cue]]:
    return [(session, cue) for session, planned in cues(20, seed=0).items() for cue in planned]


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_modality_is_right_in_13_of_20_of_every_session_and_emotion(modality: str) -> None:
    total = Counter((session, cue.emotion) for session, cue in planned())
    right = Counter((session, cue.emotion) for session, cue in planned() if cue.shown[modality] == cue.emotion)
    assert set(total.values()) == {20} and len(total) == 30
    assert set(right.values()) == {13} and len(right) == 30


def test_modalities_are_right_together_as_if_by_chance() -> None:
    together = Counter(tuple(cue.shown[m] == cue.emotion for m in MODALITIES) for _, cue in planned())
    chance = {p: 600 * np.prod([0.65 if right else 0.35 for right in p]) for p in together}
    assert len(together) == 8
    assert all(abs(count - chance[pattern]) < 5 for pattern, count in together.items())


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_wrong_emotion_is_shown_equally_often(modality: str) -> None:
    wrong = Counter((c.emotion, c.shown[modality]) for _, c in planned() if c.shown[modality] != c.emotion)
    assert len(wrong) == 30 and set(wrong.values()) == {7}


@pytest.mark.parametrize("per_cell", [1, 2, 3, 7, 20, 40])
@pytest.mark.parametrize("variant", [0, 1])
def test_a_quota_fills_the_cell_and_keeps_every_modality_at_its_share(per_cell: int, variant: int) -> None:
    three, two, one, none = quota(per_cell, variant)
    assert three + 3 * two + 3 * one + none == per_cell
    assert three + 2 * two + one == round(0.65 * per_cell)


def test_the_quotas_of_20_alternate() -> None:
    assert (quota(20, 0), quota(20, 1)) == ((5, 3, 2, 0), (6, 3, 1, 2))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [(("hap", "hap", "sad"), 1.0), (("hap", "sad", "neu"), 1 / 3), (("sad", "sad", "hap"), 0.0)],
)
def test_a_tie_of_the_vote_counts_by_its_expectation(shown: tuple[str, ...], expected: float) -> None:
    row = Cue(emotion="hap", shown=dict(zip(MODALITIES, shown, strict=True)))
    assert vote_accuracy([row]) == pytest.approx(expected)


def test_bounds_are_those_of_the_rows_asked_for() -> None:
    lines = [line for dialogue in script(20, seed=0) if dialogue.session == 5 for line in dialogue.lines]
    rows = [utterance(line.id, line.cue) for line in lines]
    bounds = Demo().bounds(rows)
    assert [bounds[m] for m in MODALITIES] == [0.65, 0.65, 0.65]
    assert bounds["all"] == pytest.approx(0.78, abs=0.015)
    assert Demo().bounds([row for row in rows if row.labels["cue_text"] == row.labels["emotion"]])["text"] == 1.0
    assert Demo().bounds([]) == {}


def utterance(name: str, cue: Cue) -> Utterance:
    labels = {"emotion": cue.emotion, **{f"cue_{m}": cue.shown[m] for m in MODALITIES}}
    return Utterance(id=name, dialogue="d", turn=0, labels=labels)


def test_both_actors_of_a_session_have_every_emotion_equally_often() -> None:
    lines = [line for dialogue in script(20, seed=3) for line in dialogue.lines]
    assert set(Counter((line.actor, line.cue.emotion) for line in lines).values()) == {10}


def test_words_show_the_cue_of_the_text_and_of_no_other_emotion() -> None:
    owner = {word: emotion for emotion, words in CUE_WORDS.items() for word in words.split()}
    for line in (line for dialogue in script(20, seed=0) for line in dialogue.lines):
        words = re.findall(r"\w+", line.text.lower())
        assert {owner[w] for w in words if w in owner} == {line.cue.shown["text"]}
        assert 6 <= len(words) <= 12


def test_no_word_shows_two_emotions_and_the_first_of_each_are_the_frequent_ones() -> None:
    known = {emotion: words.split() for emotion, words in CUE_WORDS.items()}
    assert len({word for words in known.values() for word in words}) == sum(map(len, known.values()))
    said = Counter(re.findall(r"\w+", " ".join(u.text for d in script(20, seed=0) for u in d.lines).lower()))
    for words in known.values():
        assert len(words) == 40
        assert sum(said[w] for w in words[:10]) > sum(said[w] for w in words[10:]) > 0


def test_lines_are_apart_and_their_length_tells_nothing() -> None:
    for dialogue in script(20, seed=0):
        edges = [edge for line in dialogue.lines for edge in (line.start_s, line.end_s)]
        assert edges == sorted(edges)
        assert 8 <= len(dialogue.lines) <= 12
    lines = [line for dialogue in script(20, seed=0) for line in dialogue.lines]
    lengths = {e: np.mean([u.end_s - u.start_s for u in lines if u.cue.emotion == e]) for e in EMOTIONS}
    assert max(lengths.values()) - min(lengths.values()) < 0.2


def test_no_two_actors_of_one_sex_share_skin_hair_or_voice() -> None:
    for sex in "FM":
        actors = [actor for name, actor in cast(0).items() if name.endswith(sex)]
        for seen in ({a.looks.skin for a in actors}, {a.looks.hair for a in actors}, {a.voice.f0_hz for a in actors}):
            assert len(seen) == len(SESSIONS)


def test_the_corpus_is_read_by_the_iemocap_reader(demo_root: Path, rows: list[Utterance]) -> None:
    plain = iemocap.Iemocap().scan(demo_root)
    assert [row.id for row in plain] == [row.id for row in rows]
    assert Counter((row.session, row.labels["emotion"]) for row in plain) == Counter(
        (f"Session{s}", e) for s in SESSIONS for e in EMOTIONS for _ in range(2)
    )
    assert all(row.text for row in plain)


def test_official_formats_are_kept_to_the_letter(demo_root: Path) -> None:
    folder = demo_root / "Session1/dialog"
    first, blank, turn, *rest = (folder / "EmoEvaluation/Ses01F_impro01.txt").read_text().split("\n")
    assert (first, blank) == ("% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", "")
    assert re.fullmatch(
        r"\[\d+\.\d+ - \d+\.\d+\]\tSes01F_impro01_F000\t(hap|sad|neu|ang|exc|fru)\t\[(\d\.\d{4}, ){2}\d\.\d{4}\]", turn
    )
    assert re.fullmatch(r"C-E2:\t(\w+; ?)+\t\(\)", rest[0])
    assert any(re.fullmatch(r"C-F1:\t(\w+; ?)+\t\(\)", line) for line in rest)
    assert any(re.fullmatch(r"A-E3:\tval \d; act \d; dom  \d;\t\(\)", line) for line in rest)
    for line in (folder / "transcriptions/Ses01F_impro01.txt").read_text().splitlines():
        assert re.fullmatch(r"Ses01F_impro01_[FM]\d{3} \[\d{3}\.\d{4}-\d{3}\.\d{4}\]: .+", line)


def test_every_utterance_has_its_wav_of_the_annotated_length(demo_root: Path, rows: list[Utterance]) -> None:
    for row in rows:
        assert row.audio and row.start_s is not None and row.end_s is not None
        with wave.open(str(demo_root / row.audio[0].path)) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (RATE_HZ, 1, 2)
            assert sound.getnframes() / RATE_HZ == pytest.approx(row.end_s - row.start_s, abs=1e-4)


def test_every_dialogue_has_an_avi_with_picture_and_sound(demo_root: Path, rows: list[Utterance]) -> None:
    for path, last in {row.video[0].path: row.end_s for row in rows if row.video}.items():
        with av.open(str(demo_root / path)) as file:
            picture, sound = file.streams.video[0], file.streams.audio[0]
            assert (picture.codec_context.name, picture.average_rate) == ("mpeg4", 25)
            assert (sound.codec_context.name, sound.rate) == ("pcm_s16le", RATE_HZ)
            assert last is not None and picture.frames / 25 > last


def test_the_crop_shows_the_speaker_move_and_not_the_listener(demo_root: Path, rows: list[Utterance]) -> None:
    row = next(row for row in rows if row.labels["cue_visual"] == "exc")
    assert row.video and row.video[0].crop and row.video[0].start_s is not None and row.video[0].end_s is not None
    with av.open(str(demo_root / row.video[0].path)) as file:
        start, end = row.video[0].start_s, row.video[0].end_s
        shown = [f.to_ndarray(format="gray") for f in file.decode(video=0) if start <= f.time < end]
    left, top, width, height = row.video[0].crop
    assert (shown[0].shape[1] * width, shown[0].shape[0] * height) == (WIDTH, HEIGHT)
    movement = np.std(np.stack(shown), axis=0)[int(top * 240) : int((top + height) * 240)]
    halves = {0.0: movement[:, :WIDTH].mean(), 0.5: movement[:, WIDTH:].mean()}
    assert halves[left] > 5 * halves[0.5 - left]
    assert max(frame[:50].max() for frame in shown) < 40


def test_the_same_seed_writes_the_same_bytes(demo_root: Path, tmp_path: Path) -> None:
    dialogue = script(per_cell=2, seed=0)[0]
    write_dialogue(tmp_path, 0, dialogue)
    written = [file for file in sorted(tmp_path.rglob("*")) if file.is_file()]
    assert {file.suffix for file in written} == {".wav", ".txt", ".avi"}
    for file in written:
        assert file.read_bytes() == (demo_root / file.relative_to(tmp_path)).read_bytes(), file.name


def test_another_seed_says_other_things_in_other_voices() -> None:
    one, other = script(1, seed=0)[0].lines, script(1, seed=1)[0].lines
    assert [line.text for line in one] != [line.text for line in other]
    voice = Voice(f0_hz=120.0, formants=1.0)
    assert not np.array_equal(speak("neu", voice, 16_000, 0, "u"), speak("neu", voice, 16_000, 1, "u"))


def test_one_name_is_one_sound_whatever_was_said_before() -> None:
    voice = Voice(f0_hz=120.0, formants=1.0)
    first = speak("hap", voice, 16_000, 0, "u")
    speak("sad", voice, 8_000, 0, "v")
    assert np.array_equal(first, speak("hap", voice, 16_000, 0, "u"))


def test_anger_is_louder_and_sadness_softer_than_neutral() -> None:
    voice = Voice(f0_hz=200.0, formants=1.15)
    level = {e: np.std(speak(e, voice, 24_000, 0, "u").astype(float)) for e in EMOTIONS}
    assert level["ang"] > 3 * level["neu"] > 4 * level["sad"]


def test_a_face_at_rest_is_where_every_expression_begins() -> None:
    assert all(blend(0.0, shown) == REST for shown in EXPRESSIONS.values())
    assert all(astuple(blend(1.0, shown)) == pytest.approx(astuple(shown)) for shown in EXPRESSIONS.values())


def test_annotations_survive_the_manifest_table(rows: list[Utterance]) -> None:
    assert from_table(to_table(rows)) == rows


def test_a_corpus_that_is_there_is_not_written_again(demo_root: Path) -> None:
    before = (demo_root / "demo.json").stat().st_mtime_ns
    DEMO.prepare(demo_root)
    assert (demo_root / "demo.json").stat().st_mtime_ns == before
    assert json.loads((demo_root / "demo.json").read_text())["seed"] == 0


def test_a_corpus_of_other_options_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifests._synthesis.script", lambda per_cell, seed: script(per_cell, seed)[:1])
    for demo in (Demo(per_cell=1), Demo(per_cell=1, seed=1)):
        demo.prepare(tmp_path / "corpus")
        assert len(demo.scan(tmp_path / "corpus")) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    with pytest.raises(InputError, match="make demo"):
        Demo(per_cell=1).scan(tmp_path / "corpus")


def test_an_interrupted_corpus_is_not_taken_for_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(root: Path, seed: int, dialogue: object) -> str:
        (root / "Session1").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("manifests._synthesis.write_dialogue", interrupted)
    with pytest.raises(KeyboardInterrupt):
        DEMO.prepare(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        DEMO.prepare(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        replace(DEMO, per_cell=0)
