"""No stage that reads the turns before an utterance reads those of another part of its fold."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dialogue import Dialogues
from pipeline.errors import InputError
from tests.talk import LEARNED, RECIPE, Talk

ALONE = LEARNED.replace("context = 2\n", "")


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    found = Talk.write(tmp_path)
    found.small.recipe = RECIPE + LEARNED
    return found


def cut(talk: Talk, turn: int, split: str) -> None:
    """Puts the end of a dialogue of train into another part."""
    for number in range(turn, 7):
        talk.change(f"b{number}", split=split)


@pytest.mark.parametrize("protocol", ["official", "cv", "holdout"])
def test_the_turns_before_an_utterance_are_of_its_own_part_or_of_none(talk: Talk, protocol: str) -> None:
    talk.change("a3", label="")
    talk.change("a0", speaker="")  # so that `cv` goes by dialogue
    corpus = talk.small.session(protocol=protocol).corpus
    dialogues = Dialogues(corpus.manifest.rows)
    assert corpus.folds
    for fold in corpus.folds:
        part = {row: name for name in ("train", "valid", "test") for row in getattr(fold, name)}
        assert part.keys() == talk.rows.keys() - {"a3"}
        for row in part:
            assert {part[turn.id] for turn in dialogues.before(row, 9) if turn.id in part} <= {part[row]}


def test_a_split_that_cuts_a_dialogue_is_refused_where_a_stage_reads_the_turns_before(talk: Talk) -> None:
    cut(talk, 4, "valid")
    with pytest.raises(InputError, match="fold official: two of its parts share dialogues: b. .*text_roberta reads"):
        talk.small.extract()


def test_the_same_split_serves_where_no_stage_reads_them(talk: Talk) -> None:
    cut(talk, 4, "valid")
    talk.small.recipe = RECIPE + ALONE
    [fold] = talk.small.session().corpus.folds
    assert "b3" in fold.train and "b4" in fold.valid


def test_a_list_of_folds_that_cuts_a_dialogue_is_refused_too(talk: Talk) -> None:
    lines = [f"{row},{'valid' if row in ('a5', 'a6') else cells['split']}" for row, cells in talk.rows.items()]
    (talk.small.path.parent / "ours.csv").write_text("\n".join(["utterance,split", *lines]))
    talk.small.recipe = talk.small.recipe.replace('protocol = "official"', 'protocol = "own"\nfolds = "ours.csv"')
    with pytest.raises(InputError, match="share dialogues: a"):
        _ = talk.small.session().corpus.folds
    talk.small.recipe = talk.small.recipe.replace("context = 2\n", "")
    assert talk.small.session().corpus.folds


@pytest.mark.parametrize("context", [0, 2])
def test_a_dialogue_in_test_and_in_another_part_is_refused_whatever_is_read(talk: Talk, context: int) -> None:
    talk.small.recipe = RECIPE + (LEARNED if context else ALONE)
    cut(talk, 4, "test")
    with pytest.raises(InputError, match="share dialogues: b"):
        _ = talk.small.session().corpus.folds


def test_a_part_that_crossfit_leaves_out_shares_no_dialogue_with_the_rows_of_its_fit(talk: Talk) -> None:
    talk.small.recipe = talk.small.recipe.replace('protocol = "official"', 'protocol = "official"\ncrossfit = 2')
    catalogue = talk.small.session().catalogue
    scopes = [scope for _, scope in catalogue.wanted if scope is not None and "/part-" in scope.name]
    assert len(scopes) == 2
    for scope in scopes:
        nodes = [node for node, wanted in catalogue.wanted if wanted is scope]
        rows = [catalogue.rows[i] for i in (*scope.train, *scope.valid)]
        read = {turn.id for turns in catalogue.before(rows, nodes).values() for turn in turns}
        assert read and not read & {*scope.apply, *scope.held.ids}
