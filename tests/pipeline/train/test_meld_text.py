"""What text alone tells of MELD's emotions: the table of `tests.bench.meld_text` over the real tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.recipe import Align
from pipeline.views.view import Column
from tests.bench import meld_text
from tests.bench.meld_text import Line, Scores, highest, table


def scores(line: Line) -> Scores:
    [only] = line.scores
    return only


def test_the_majority_answer_is_that_of_the_published_tables(kit: Path) -> None:
    with meld_text.opened(kit) as session:
        line = meld_text.majority(session.corpus)
    assert str(line) == "| majority | .3127 | .4812 |"


def test_the_table_gives_mean_and_deviation_of_seeds_and_says_why_a_line_is_empty() -> None:
    several = Line("several", [Scores(0.5, 0.6), Scores(0.52, 0.64)])
    assert list(table([Line("one", [Scores(0.25, 1.0)]), several, Line("none", why="skipped: no package")])) == [
        "| MELD test, emotion from text | weighted F1 | accuracy |",
        "|---|---|---|",
        "| one | .2500 | 1.0000 |",
        "| several, 2 seeds | .5100 ± .0141 | .6200 ± .0283 |",
        "| none | skipped: no package | |",
    ]


def test_the_maximum_is_that_of_valid_steps_and_a_text_without_any_has_zeros() -> None:
    values = np.array([[[-1.0, 2.0], [9.0, 9.0]], [[3.0, -4.0], [1.0, -2.0]], [[5.0, 5.0], [5.0, 5.0]]], np.float32)
    mask = np.array([[True, False], [True, True], [False, False]])
    column = Column(values, mask, mask.sum(axis=1).astype(np.int32), Align("pad", 2))
    np.testing.assert_array_equal(highest(column, np.array([2, 0, 1])), [[0, 0], [-1, 2], [3, -2]])


@pytest.mark.slow
def test_words_and_their_pairs_reach_558_weighted_f1(kit: Path) -> None:
    with meld_text.opened(kit) as session:
        found = scores(meld_text.tfidf(session.corpus))
    assert found.f1 == pytest.approx(0.558, abs=0.01)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "bar"), [("word2vec + CNN", 0.52), ("random RoBERTa", 0.48)])
def test_features_that_learn_from_the_train_transcripts_alone_pass_their_bar(kit: Path, name: str, bar: float) -> None:
    found = scores(meld_text.learned(kit, name, seeds=1))
    assert found.f1 >= bar and found.accuracy > 0.4812


@pytest.mark.slow
def test_frozen_published_weights_read_from_a_path_tell_more_than_the_majority(kit: Path) -> None:
    pytest.importorskip(meld_text.PUBLISHED)
    found = scores(meld_text.minilm(kit))
    assert found.f1 > 0.48 and found.accuracy > 0.4812
