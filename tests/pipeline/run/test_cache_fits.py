"""What a fit and the rows that stand on it cost: whose edits move a state, and that no two states are ever mixed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cache import shards
from tests.clips import LEARNED_SET, Clips, talk

STAGE = "text_word2vec"
FIT = f"{STAGE} (fit)"


@pytest.fixture
def learned(tmp_path: Path) -> Clips:
    """A smaller talk whose vectors are fitted on its train transcripts."""
    made = talk(tmp_path, dialogues=20, sets=LEARNED_SET)
    assert made.extract() == {STAGE: 160}
    return made


def test_a_test_row_moves_no_fit_and_costs_itself(learned):
    row = next(line for line in learned.lines if line["split"] == "test")
    row["text"] += " so"
    assert learned.extract() == {STAGE: 1}
    assert learned.count("calls") == {STAGE: 1}


def test_a_row_that_a_fit_learned_from_costs_the_fit_and_every_row_and_copies_none(learned):
    learned.line("d00_000")["text"] += " so"
    assert learned.extract() == {STAGE: 160} and learned.count("copied") == {}
    assert learned.count("calls")[FIT] == 1


def test_a_fit_that_learns_the_same_again_costs_no_row_but_the_edited_one(learned):
    row = next(line for line in learned.lines if line["split"] == "valid")
    row["text"] += " so"
    assert learned.extract() == {STAGE: 1}
    assert learned.count("calls")[FIT] == 1


def test_no_two_rows_of_a_fitted_stage_stand_on_two_states(learned):
    learned.line("d00_000")["text"] += " so"
    learned.extract()
    catalogue = learned.session().catalogue
    [(node, scope)] = catalogue.wanted
    states = {shards.about(found)["recipe"]["state"] for found in learned.tables()}
    assert states == {catalogue.of(node, scope).state.object}


def test_an_edit_taken_back_finds_the_first_state_and_its_rows_again(learned):
    row = learned.line("d00_000")
    before, row["text"] = row["text"], "so"
    learned.extract()
    row["text"] = before
    assert learned.extract() == {} and learned.last.jobs == 0


def test_a_label_of_a_row_that_a_fit_saw_costs_the_fit_and_one_of_a_test_row_costs_nothing(learned):
    test = next(line for line in learned.lines if line["split"] == "test")
    test["mood"] = "low" if test["mood"] == "high" else "high"
    assert learned.extract() == {} and learned.last.jobs == 0
    train = learned.line("d00_000")
    train["mood"] = "low" if train["mood"] == "high" else "high"
    learned.extract()
    assert learned.count("calls")[FIT] == 1


def test_each_fold_has_a_state_and_rows_of_its_own(learned):
    learned.recipe = learned.recipe.replace('protocol = "official"', 'protocol = "cv"')
    folds = len(learned.session().corpus.folds)
    assert learned.extract() == {STAGE: 160 * folds} and learned.count("calls")[FIT] == folds
    catalogue = learned.session().catalogue
    assert len({catalogue.of(node, scope).state.key for node, scope in catalogue.wanted}) == folds
    learned.recipe = learned.recipe.replace('protocol = "cv"', 'protocol = "official"')
    assert learned.extract() == {} and learned.last.jobs == 0
