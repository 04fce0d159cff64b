"""A corpus against the published counts: what differs is told, and nothing is refused."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import pytest

from manifests.iemocap import Iemocap
from pipeline.cli.extract import extracted
from pipeline.corpus import published


@pytest.fixture
def stated(small, monkeypatch):
    """A session whose reader states some counts of the corpus as it is, and the session's labels."""
    found = small.session()
    here = published._counts(found.corpus)

    def state(**changes: int) -> None:
        monkeypatch.setattr(Iemocap, "expected", {"six": {name: here[name] for name in ("hap", "test")} | changes})

    return state


def test_a_copy_with_the_published_counts_says_nothing(small, stated, caplog):
    stated()
    assert published.differing(small.session().corpus) == []
    assert not [record for record in caplog.records if record.name == published.__name__]


def test_every_count_that_differs_is_a_warning_and_the_run_goes_on(small, stated, caplog, capsys):
    stated(hap=1000)
    small.path.write_text(small.recipe)
    with caplog.at_level(logging.WARNING):
        answer, failed = extracted(small.session(features=("sound",), workers=0))
    assert answer["differing"] == {"hap": 10 - 1000} and not failed
    assert "the published corpus has 1000" in caplog.text
    assert "1,000" in capsys.readouterr().err


def test_parts_are_those_of_the_official_split_and_of_classes_within_them(small):
    found = published._counts(small.session().corpus)
    assert sum(found[part] for part in ("train", "valid", "test")) == len(small.session().corpus.labels)
    assert found["test"] == sum(count for name, count in found.items() if name.startswith("test/"))


def test_parts_are_not_compared_under_a_protocol_that_has_none(small, stated):
    stated(**{"test/hap": 7})
    names = [each.name for each in published.compared(small.session(protocol="cv").corpus)]
    assert names == ["hap"]


def test_a_part_that_is_wholly_absent_is_told_with_none_found(small, stated):
    stated(**{"test/hap": 7})
    shutil.rmtree(small.root / "Session5")
    told = {each.name: each.found for each in published.differing(small.session().corpus)}
    assert told == {"hap": 8, "test": 0, "test/hap": 0}


def test_an_absent_part_is_told_under_any_protocol_where_rows_say_their_part(small, stated):
    stated()
    corpus = small.session(protocol="cv").corpus
    rows = tuple(replace(row, split="train") for row in corpus.manifest.rows)
    corpus = replace(corpus, manifest=replace(corpus.manifest, rows=rows))
    assert [(each.name, each.found) for each in published.differing(corpus)] == [("test", 0)]


def test_each_place_of_a_multilabel_label_counts_for_its_class(small):
    small.recipe = small.recipe.replace('labels   = "six"', 'labels   = "mulg4"')
    corpus = small.session().corpus
    found = published._counts(corpus)
    assert [found[name] for name in corpus.target.classes] == [10, 10, 10, 10]
