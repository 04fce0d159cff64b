"""What is computed again where a stage reads the turns before an utterance: each rule counts rows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.media.decode import decoded
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.jobs import ExtractJob
from pipeline.plan.preflight import check_raw
from pipeline.reason import Reason
from pipeline.utterance import Utterance
from stages.text_roberta import TextRoberta
from tests.talk import LEARNED, SPLITS, TURNS, Talk

EVERY = len(SPLITS) * TURNS


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Talk:
    """Extracted once."""
    talk = Talk.write(tmp_path_factory.mktemp("talk"))
    assert talk.extract() == {"alone": EVERY, "after": EVERY, "nameless": EVERY}
    return talk


@pytest.fixture
def talk(before: Talk, tmp_path: Path) -> Talk:
    """A copy of it to change at will; the recipe stays where it is, as its files at home are named by its place."""
    small = replace(before.small, root=tmp_path / "corpus", home=tmp_path / "home")
    shutil.copytree(before.small.root, small.root)
    shutil.copytree(before.small.home, small.home)
    return Talk(small, {name: dict(row) for name, row in before.rows.items()})


def test_without_a_change_nothing_is_computed(talk: Talk) -> None:
    assert talk.extract() == {}


@pytest.mark.parametrize(("turn", "rows"), [(0, 3), (2, 3), (TURNS - 3, 3), (TURNS - 2, 2), (TURNS - 1, 1)])
def test_an_edited_turn_costs_itself_and_the_next_k_rows_of_a_context_of_k(talk: Talk, turn: int, rows: int) -> None:
    talk.change(f"b{turn}", text="well, happy")
    assert talk.extract() == {"alone": 1, "after": rows, "nameless": rows}
    assert talk.extract() == {}


def test_another_speaker_costs_the_stages_that_read_speakers_alone(talk: Talk) -> None:
    talk.change("b2", speaker="Dan")
    assert talk.extract() == {"after": 3}


def test_a_turn_moved_to_another_dialogue_costs_itself_and_the_next_k_rows_of_both(talk: Talk) -> None:
    for turn in range(3, TURNS):
        talk.change(f"b{turn}", turn=turn + 1)
    talk.change("a3", dialogue="b", turn=3)
    assert talk.extract() == {"after": 5, "nameless": 5}


def test_a_turn_moved_to_the_end_of_another_dialogue_costs_itself_and_the_next_k_rows_of_its_own(talk: Talk) -> None:
    talk.change("a3", dialogue="b", turn=TURNS)
    assert talk.extract() == {"after": 3, "nameless": 3}


def test_an_inserted_turn_costs_itself_and_the_next_k_rows(talk: Talk) -> None:
    for turn in range(3, TURNS):
        talk.change(f"b{turn}", turn=turn + 1)
    talk.add("b-new", "b", 3, "train")
    talk.change("b-new", text="happy, a new one")
    assert talk.extract() == {"alone": 1, "after": 3, "nameless": 3}


def test_a_removed_turn_costs_the_next_k_rows(talk: Talk) -> None:
    del talk.rows["b3"]
    talk.save()
    assert talk.extract() == {"after": 2, "nameless": 2}


def test_two_turns_that_change_places_cost_themselves_and_the_next_k_rows(talk: Talk) -> None:
    talk.change("b2", turn=3)
    talk.change("b3", turn=2)
    assert talk.extract() == {"after": 4, "nameless": 4}


def test_numbers_of_turns_labels_and_the_order_of_the_table_cost_nothing(talk: Talk) -> None:
    for row in talk.rows.values():
        row["turn"] = 10 + 3 * row["turn"]
    talk.rows = dict(reversed(talk.rows.items()))
    talk.change("b2", label="sad")
    assert talk.extract() == {}


def test_a_row_computed_after_an_edit_has_the_values_of_a_fresh_extraction(talk: Talk, tmp_path: Path) -> None:
    talk.change("b2", text="well, happy")
    talk.extract()
    found = talk.small.rows()
    talk.small.home = tmp_path / "fresh"
    assert talk.extract() == {"alone": EVERY, "after": EVERY, "nameless": EVERY}
    fresh = talk.small.rows()
    assert found.keys() == fresh.keys() and len(found) == EVERY
    for place, (key, track) in found.items():
        assert fresh[place][0] == key
        np.testing.assert_allclose(fresh[place][1].values, track.values, atol=1e-4)


def test_the_turns_before_may_lie_in_another_shard(tmp_path: Path) -> None:
    talk = Talk.write(tmp_path, {"a": "train"}, turns=300)
    assert talk.extract() == {"alone": 300, "after": 300, "nameless": 300}
    [first, second] = [job.rows for job in jobs(talk)]
    assert [row.id for row in (first[-1], second[0])] == ["a255", "a256"]
    talk.change("a255", text="well, happy")
    assert talk.extract() == {"alone": 1, "after": 3, "nameless": 3}


def jobs(talk: Talk) -> list[ExtractJob]:
    """The jobs of an empty home."""
    talk.small.home, home = talk.small.home.with_name("empty"), talk.small.home
    found = [job for job in talk.small.session().plan().jobs if isinstance(job, ExtractJob)]
    talk.small.home = home
    return found


def test_a_job_carries_the_turns_before_each_row_alone_where_a_stage_reads_them(talk: Talk) -> None:
    before = {name: [turn.id for turn in turns] for job in jobs(talk) for name, turns in job.before.items()}
    assert before.keys() == talk.rows.keys()
    assert (before["b0"], before["b1"], before["b4"]) == ([], ["b0"], ["b2", "b3"])
    talk.small.recipe, _, rest = talk.small.recipe.partition("[features.after.text]")
    assert rest and jobs(talk) and not any(job.before for job in jobs(talk))


# --- transcripts that are not there ----------------------------------------------------------------------------


def test_a_turn_without_a_transcript_is_absent_and_left_out_of_the_next_contexts(talk: Talk) -> None:
    talk.change("b2", text="")
    assert talk.extract() == {"alone": 1, "after": 3, "nameless": 3}
    assert talk.small.failed()["text"] == {"b2": "absent"}
    talk.change("b1", text="well, happy")  # the absent row reads no turn, whatever stands before it
    assert talk.extract() == {"alone": 1, "after": 2, "nameless": 2}


def test_keys_are_the_same_without_the_transcripts(talk: Talk) -> None:
    catalogue = talk.small.session().catalogue
    bare = catalogue.manifest.without_text()
    other = Catalogue(bare, catalogue.store, catalogue.target, catalogue.labels, catalogue.wanted)
    assert {rows.node: dict(rows.keys) for rows in catalogue} == {rows.node: dict(rows.keys) for rows in other}
    assert len({key for rows in catalogue for key in rows.keys.values()}) == 3 * EVERY


def test_what_is_missing_without_the_transcripts_is_said_before_a_run(talk: Talk) -> None:
    talk.change("b2", text="well, happy")
    session = talk.small.session(features=("after",))
    bare = replace(session.catalogue.manifest.without_text(), media=False)
    with pytest.raises(InputError, match="has no text to compute them from: text_roberta: 3 rows"):
        check_raw(bare, session.plan())


def test_a_row_whose_earlier_turn_was_left_out_waits_for_it_and_says_so(talk: Talk, tmp_path: Path) -> None:
    rows = {row.id: row for row in talk.small.session().corpus.manifest.rows}
    gone = replace(rows["b2"], text=None, text_digest="0" * 64)

    def read(*before: Utterance) -> Any:
        wanted = [[("mine", TextRoberta(context=2))]]
        [(_, found)] = decoded("dialogue", [rows["b3"]], tmp_path, wanted, tmp_path / "memo", {"b3": before})
        return found

    found = read(rows["b1"], gone)
    assert found.reason is Reason.IO_ERROR and found.detail == "the transcript of b2 is not here"
    turns = [(turn.text, turn.speaker) for turn in read(rows["b0"], rows["b1"], rows["b2"])["mine"]]
    assert turns == [("no b 1", "Bob"), ("this is sad b 2", "Cy"), ("happy day b 3", "Ann")]


# --- fits ------------------------------------------------------------------------------------------------------


def test_a_turn_costs_a_fit_if_a_train_or_valid_row_reads_it_and_else_its_own_rows_alone(talk: Talk) -> None:
    talk.small.recipe = talk.small.recipe.partition("[features.alone.text]")[0] + LEARNED
    assert talk.extract() == {"learned": EVERY}
    talk.change("d2", text="well, happy")
    assert talk.extract() == {"learned": 3}
    assert "text_roberta (fit)" not in talk.small.count("calls")
    talk.change("a0", label="")
    assert talk.extract() == {"learned": EVERY}, "another row to learn from"
    talk.change("a0", text="well, happy")
    assert talk.extract() == {"learned": EVERY}, "the turn has no label, and two train rows read it"
    assert talk.small.count("calls")["text_roberta (fit)"] == 1
