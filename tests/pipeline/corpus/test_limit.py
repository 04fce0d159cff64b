"""A limit keeps the first dialogues of each part of the folds: the same folds, the same keys, the same cache."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.corpus import published
from pipeline.errors import InputError
from pipeline.reader import PARTS, Labels
from pipeline.transfer import final_records

LIMITED = ("dataset.limit=1",)


def dialogues(ids):
    return list(dict.fromkeys(name.rpartition("_")[0] for name in ids))


def test_each_part_has_the_first_dialogues_of_its_own(small):
    whole, part = small.session().corpus, small.session(changes=LIMITED).corpus
    [fold], [cut] = whole.folds, part.folds
    for name in PARTS:
        ids = getattr(cut, name)
        assert dialogues(ids) == dialogues(getattr(fold, name))[:1]
        assert ids == tuple(i for i in getattr(fold, name) if i in ids)
    assert {row.dialogue for row in part.manifest.rows} == set(dialogues([*cut.train, *cut.valid, *cut.test]))


def test_under_cross_validation_no_part_of_a_fold_is_empty_and_no_row_changes_its_part(small):
    whole = small.session(protocol="cv").corpus
    for part in (
        small.session(protocol="cv", changes=LIMITED).corpus,
        small.session(changes=LIMITED).under("cv").corpus,
    ):
        for fold, cut in zip(whole.folds, part.folds, strict=True):
            assert all(getattr(cut, name) and set(getattr(cut, name)) <= set(getattr(fold, name)) for name in PARTS)


def test_of_a_corpus_without_labels_the_first_dialogues_are_kept(small):
    corpus = small.session().corpus
    unlabelled = replace(corpus.recipe, limit=2, labels=Labels("regression", (), lambda row: None))
    limited = replace(corpus, recipe=unlabelled).limited().manifest.rows
    names = list(dict.fromkeys(row.dialogue for row in corpus.manifest.rows))[:2]
    assert limited == tuple(row for row in corpus.manifest.rows if row.dialogue in names)


def test_a_limit_and_the_whole_share_every_row_that_depends_on_no_fit(small):
    few = small.extract(features=("sound",), changes=LIMITED)
    rows = len(small.session(changes=LIMITED).corpus.manifest.rows)
    assert few == {"audio_mfcc": rows}
    assert small.extract(features=("sound",)) == {"audio_mfcc": 60 - rows}
    assert small.extract(features=("sound",), changes=LIMITED) == {}


def test_the_counts_of_a_limited_corpus_are_not_compared_with_published_ones(small):
    assert published.compared(small.session().corpus)
    assert published.compared(small.session(changes=LIMITED).corpus) == []


def test_a_lock_refuses_a_limit_and_none_is_written_under_one(small):
    small.extract(features=("sound",))
    with pytest.raises(InputError, match=r"small\.lock\.json names .*limit = 1 asks for a part"):
        small.session(changes=LIMITED, locked=True)
    with pytest.raises(InputError, match=r"of a whole corpus, and limit = 1 .*dataset\.limit=0"):
        final_records.relock(small.session(changes=LIMITED, features=("sound",)))
    final_records.relock(small.session(features=("sound",)))
    assert small.session(features=("sound",), locked=True, changes=(*LIMITED, "dataset.limit=0")).corpus.whole is None


def test_a_negative_limit_is_refused_with_its_place_in_the_recipe(small):
    small.recipe = small.recipe.replace("[dataset]", "[dataset]\nlimit = -1")
    with pytest.raises(InputError, match=r":3: dataset.limit: .*greater than or equal to 0"):
        small.session()
