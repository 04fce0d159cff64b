"""The IEMOCAP reader's label protocols and folds."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

import pytest

from manifests.iemocap import COSMIC_VALID, SIX, Iemocap, mulg4_votes, six_7433
from pipeline.errors import InputError
from pipeline.utterance import Utterance

HAPPY = "C-E2=Happiness;C-E3=Happiness;C-E4=Neutral;C-F1=Happiness"


@pytest.mark.parametrize(
    ("emotion", "votes", "label"),
    [
        ("xxx", "C-E2=Happiness;C-E3=Neutral;C-E4=Excited;C-F1=Happiness", "hap"),
        ("xxx", "C-E2=Happiness,Excited;C-E3=Neutral;C-E4=Anger;C-M1=Happiness", "hap"),
        ("xxx", "C-E2=Happiness;C-E3=Neutral;C-E4=Neutral;C-F1=Happiness", None),
        ("xxx", "C-E2=Happiness;C-E3=Happiness;C-E4=Excited;C-F1=Excited,Happiness", None),
        ("xxx", "C-E2=Happiness;C-E3=Happiness;C-E4=Happiness;C-F1=Excited", None),
        ("xxx", "C-E2=Sadness;C-E3=Sadness;C-E4=Neutral;C-F1=Sadness", None),
        ("xxx", "", None),
        ("oth", HAPPY, None),
        ("neu", HAPPY, "neu"),
    ],
)
def test_no_consensus_becomes_happy_only_where_happiness_alone_leads_and_is_the_own_report(
    emotion: str, votes: str, label: str | None
) -> None:
    assert six_7433(emotion, votes) == label


def row(emotion: str, votes: str = "", name: str = "u") -> Utterance:
    labels = {"emotion": emotion, "votes": votes, "valence": 2.5, "arousal": 1.0, "dominance": 4.0}
    return Utterance(id=name, dialogue="d", turn=0, labels=labels)


@pytest.mark.parametrize(
    ("protocol", "emotion", "label"),
    [
        ("six", "hap", 0),
        ("six", "fru", 5),
        ("six", "xxx", None),
        ("six_7433", "xxx", 0),
        ("four", "neu", 0),
        ("four", "hap", 1),
        ("four", "exc", 1),
        ("four", "ang", 3),
        ("four", "fru", None),
        ("mulg4", "hap", (1, 0, 0, 0)),
        ("mulg4", "neu", (0, 0, 0, 1)),
        ("mulg4", "exc", None),
        ("valence", "xxx", 2.5),
        ("dominance", "xxx", 4.0),
        ("vad", "xxx", (2.5, 1.0, 4.0)),
    ],
)
def test_protocols_are_filters_over_the_codes(protocol: str, emotion: str, label: object) -> None:
    votes = "C-E2=Happiness;C-F1=Happiness"
    assert Iemocap().protocol(protocol).of(row(emotion, votes)) == label


@pytest.mark.parametrize("missing", ["valence", "arousal", "dominance"])
def test_a_row_that_lacks_one_of_the_three_numbers_is_left_out_of_all_three_at_once(missing: str) -> None:
    whole, protocol = row("neu"), Iemocap().protocol("vad")
    assert protocol.of(dataclasses.replace(whole, labels={**whole.labels, missing: None})) is None
    absent = {name: value for name, value in whole.labels.items() if name != missing}
    assert protocol.of(dataclasses.replace(whole, labels=absent)) is None


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ("C-E2=Happiness;C-E3=Happiness;C-E4=Neutral;C-F1=Sadness", (1, 0, 0, 0)),
        ("C-E2=Happiness,Neutral;C-E3=Happiness;C-E4=Neutral state", (1, 0, 0, 1)),
        ("C-E2=Anger;C-E3=Anger;C-E4=Sadness,Anger;C-M1=Anger", (0, 0, 1, 0)),
        ("C-E2=Anger;C-E3=Sadness;C-E4=Excited;C-M1=Anger", None),
        ("C-E2=Excited;C-E3=Excited;C-E4=Excited", None),
        ("C-E2=Sadness,Sadness;C-E3=Neutral", None),
        ("", None),
    ],
)
def test_votes_of_two_other_raters_name_each_of_the_four_emotions(votes: str, label: tuple[int, ...] | None) -> None:
    assert mulg4_votes(votes) == label
    assert Iemocap().protocol("mulg4_votes").of(row("xxx", votes)) == label


def test_expected_counts_add_up_to_the_published_totals() -> None:
    classes = {name: Iemocap().protocol(name).classes for name in Iemocap.expected}
    totals = {name: sum(counts[c] for c in classes[name]) for name, counts in Iemocap.expected.items()}
    assert totals == {"six": 7380, "six_7433": 7433, "four": 5531, "mulg4": 4490}
    published = Iemocap.expected["six_7433"]
    assert sum(published[part] for part in ("train", "valid", "test")) == totals["six_7433"]
    assert Iemocap().protocol("six").classes == SIX


def corpus(dialogues: Sequence[str]) -> list[Utterance]:
    return [
        Utterance(id=f"{d}_F{i:03d}", dialogue=d, turn=i, session=f"Session{int(d[3:5])}", labels={"emotion": "neu"})
        for d in dialogues
        for i in range(2)
    ]


OTHERS = [f"Ses{s:02d}F_impro{n:02d}" for s in range(1, 6) for n in range(11, 15)]


def dialogues_of(ids: Sequence[str]) -> set[str]:
    return {name.rpartition("_")[0] for name in ids}


def test_official_fold_tests_session_5_and_validates_on_the_published_dialogues() -> None:
    (fold,) = Iemocap().folds(corpus([*OTHERS, *COSMIC_VALID]), "official")
    assert dialogues_of(fold.valid) == COSMIC_VALID
    assert {name[:5] for name in fold.test} == {"Ses05"}
    assert dialogues_of(fold.train) == {d for d in OTHERS if not d.startswith("Ses05")}


def test_official_fold_holds_out_whole_dialogues_where_a_published_one_is_missing() -> None:
    rows = corpus([*OTHERS, *sorted(COSMIC_VALID)[1:]])
    (fold,) = Iemocap().folds(rows, "official")
    assert len(dialogues_of(fold.valid)) == 3
    assert not dialogues_of(fold.valid) & (dialogues_of(fold.train) | dialogues_of(fold.test))
    shuffled = random.Random(1).sample(rows, len(rows))
    assert set(Iemocap().folds(shuffled, "official")[0].valid) == set(fold.valid)


def test_a_missing_published_dialogue_is_named_and_a_corpus_that_has_none_of_them_is_left_in_peace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    Iemocap().folds(corpus(OTHERS), "official")
    assert not caplog.messages
    gone, *there = sorted(COSMIC_VALID)
    Iemocap().folds(corpus([*OTHERS, *there]), "official")
    assert [gone in message for message in caplog.messages] == [True]


def test_cross_validation_tests_each_session_once() -> None:
    rows = corpus(OTHERS)
    folds = Iemocap().folds(rows, "cv")
    assert sorted(name for fold in folds for name in fold.test) == sorted(row.id for row in rows)
    assert [{name[:5] for name in fold.test} for fold in folds] == [{f"Ses{s:02d}"} for s in range(1, 6)]


@pytest.mark.parametrize("ask", [lambda: Iemocap().protocol("six_743"), lambda: Iemocap().folds([], "offical")])
def test_an_unknown_protocol_names_the_closest(ask: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=r"did you mean (six_7433|official)"):
        ask()
