"""An edited turn is told as the reason of the rows that read it before their own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.ask import explain_row, explain_shard
from pipeline.ask.changes import because
from pipeline.plan import last_extraction
from tests.talk import SPLITS, TURNS, Talk


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Talk:
    talk = Talk.write(tmp_path_factory.mktemp("talk"))
    talk.extract()
    return talk


@pytest.fixture
def talk(extracted: Talk, tmp_path: Path) -> Talk:
    """A copy of it to change at will."""
    small = replace(extracted.small, root=tmp_path / "corpus", home=tmp_path / "home")
    shutil.copytree(extracted.small.root, small.root)
    shutil.copytree(extracted.small.home, small.home)
    return Talk(small, {name: dict(row) for name, row in extracted.rows.items()})


def reasons(talk: Talk, features: str = "after") -> list[str]:
    """What a plan says of the stage of a feature set."""
    session = talk.small.session(features=(features,))
    [found] = because(session, session.plan()).values() or [[]]
    return found


def why(talk: Talk, utterance: str, features: str = "after") -> dict[str, Any]:
    [row] = explain_row.why(talk.small.session(features=(features,)), utterance, "text_roberta")["rows"]
    return dict(row)


def test_a_plan_counts_the_utterances_after_a_changed_turn_apart_from_those_that_were_edited(talk: Talk) -> None:
    talk.change("b2", text="well, happy")
    assert reasons(talk) == ["1 transcript changed", "2 utterances after a changed turn"]
    assert reasons(talk, "alone") == ["1 transcript changed"]


def test_a_row_names_the_place_of_the_turn_that_changed_before_it(talk: Talk) -> None:
    talk.change("b2", text="well, happy")
    differs = {f"b{turn}": why(talk, f"b{turn}")["differs"] for turn in range(1, 6)}
    assert differs == {
        "b1": [],
        "b2": ["text changed"],
        "b3": ["the turn 1 before changed"],
        "b4": ["the turn 2 before changed"],
        "b5": [],
    }


def test_another_speaker_is_told_where_speakers_are_read(talk: Talk) -> None:
    talk.change("b2", speaker="Dan")
    assert why(talk, "b2")["differs"] == ["dialogue.speaker: Cy -> Dan"]
    assert why(talk, "b2", "nameless")["differs"] == []
    assert reasons(talk) == ["1 speaker changed", "2 utterances after a changed turn"]


def test_a_turn_that_left_the_dialogue_is_told_as_gone(talk: Talk) -> None:
    del talk.rows["b0"]
    talk.save()
    assert why(talk, "b1")["differs"] == ["the turn 1 before is gone"]
    assert why(talk, "b2")["differs"] == ["the turn 2 before is gone"]


def test_a_new_turn_before_the_first_is_told_as_new(talk: Talk) -> None:
    talk.rows = {name: {**row, "turn": row["turn"] + 1} for name, row in talk.rows.items()}
    talk.add("b-new", "b", 0, "train")
    talk.change("b-new", text="well, happy")
    assert why(talk, "b0")["differs"] == ["the turn 1 before is new"]
    assert reasons(talk) == ["1 new utterance", "2 utterances after a changed turn"]


def test_a_shard_says_how_much_of_the_dialogue_its_stage_reads(talk: Talk) -> None:
    session = talk.small.session(features=("after",))
    [rows] = session.catalogue
    record = rows.record(rows.shards[0])
    assert record is not None
    answer = explain_shard.explain(session.home, record.object)
    assert answer["recipe"]["dialogue"] == {"turns": 2, "speakers": True}
    assert 'from dialogue {"turns": 2, "speakers": true}' in explain_shard.as_text(answer)


def test_a_context_that_is_new_is_told_as_a_parameter(talk: Talk) -> None:
    talk.small.recipe = talk.small.recipe.replace("context = 2\n\n", "context = 3\n\n")
    assert reasons(talk) == ["params.context: 2 -> 3"]


def test_the_key_of_every_row_follows_from_what_is_noted(talk: Talk) -> None:
    seen = last_extraction.read(talk.small.home, talk.small.name)
    assert seen is not None
    catalogue = talk.small.session().catalogue
    for rows in catalogue:
        entry = seen.stages[rows.node.digest]
        assert {name: seen.key(entry, None, name) for name in talk.rows} == rows.keys
    assert len(seen.stages) == 3 and len(talk.rows) == len(SPLITS) * TURNS


@pytest.mark.parametrize(
    "context", [None, {}, {"turns": "2", "speakers": True}, {"turns": 2, "speakers": True, "x": 1}]
)
def test_a_note_with_another_description_of_a_context_counts_as_none(talk: Talk, context: Any) -> None:
    path = talk.small.home / "history" / talk.small.name / "last.json"
    note = last_extraction._NOTE.validate_json(path.read_bytes())
    wrong = [replace(entry, about={**entry.about, "dialogue": context}) for entry in note.stages]
    path.write_bytes(last_extraction._NOTE.dump_json(replace(note, stages=tuple(wrong))))
    assert last_extraction.read(talk.small.home, talk.small.name) is None
