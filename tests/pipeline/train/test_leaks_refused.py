"""A fit refuses to learn from a row that its fold tests on, and a view refuses the features of a fit that did."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipeline.cache import shards
from pipeline.corpus.fit_scope import HeldOut
from pipeline.errors import InputError
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.jobs import FitJob
from pipeline.run import extraction
from pipeline.run.fit_job import fit
from pipeline.run.stage_calls import Knobs
from pipeline.views.build_view import build_columns
from tests.small import driven

# --- a fit refuses -----------------------------------------------------------------------------------------------


@pytest.fixture
def job(small) -> FitJob:
    """A fit as it is planned: word vectors on the official train rows."""
    [planned] = [job for job in small.session().plan().jobs if isinstance(job, FitJob)]
    return planned


def refused(small, job: FitJob) -> str:
    """Why a fit did not run; nothing is saved."""
    store = small.session().catalogue.store
    with pytest.raises(InputError) as caught:
        fit(job, store, Knobs())
    assert store.find(*job.keys[0]) is None
    return str(caught.value)


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_fit_given_a_test_row_refuses_to_run_whoever_planned_it(small, job, part):
    corpus = small.session().corpus
    test = next(row for row in corpus.manifest.rows if row.id == corpus.folds[0].test[0])
    wrong = replace(job, **{part: (*getattr(job, part), test)}, labels={**job.labels, test.id: 0})
    said = refused(small, wrong)
    assert f"text_word2vec is not fitted on official: {part} holds what is held out" in said
    assert f"utterances: {test.id}" in said


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_fit_given_a_test_row_as_a_turn_before_one_of_its_own_refuses_to_run(small, job, part):
    rows = {row.id: row for row in small.session().corpus.manifest.rows}
    wrong = replace(job, before={getattr(job, part)[0].id: (rows[min(job.held.ids)],)})
    assert f"{part} holds what is held out: " in refused(small, wrong)


@pytest.mark.parametrize("part", ["train", "valid"])
@pytest.mark.parametrize("group", ["dialogue", "session"])
def test_a_fit_given_another_row_of_a_test_group_refuses_to_run(small, job, part, group):
    rows = {row.id: row for row in small.session().corpus.manifest.rows}
    test = rows[min(job.held.ids)]
    stray = replace(rows[job.train[0].id], id="stray", **{group: getattr(test, group)})
    wrong = replace(job, **{part: (*getattr(job, part), stray)}, labels={**job.labels, "stray": 0})
    assert f"{group}s: {getattr(test, group)}" in refused(small, wrong)


def test_a_fit_of_a_part_of_crossfit_refuses_the_rows_it_makes_features_for(small):
    small.recipe = small.recipe.replace('protocol = "official"', 'protocol = "official"\ncrossfit = 2')
    jobs = {job.scope: job for job in small.session().plan().jobs if isinstance(job, FitJob)}
    wrong = replace(jobs["official/part-0"], train=jobs["official"].train, labels=jobs["official"].labels)
    assert "utterances: " in refused(small, wrong)


def test_a_run_whose_scope_was_widened_to_a_test_row_ends_with_the_refusal(small):
    session = small.session(features=("words",))
    corpus, catalogue = session.corpus, session.catalogue
    wide = [
        (node, replace(scope, train=(*scope.train, min(scope.held.ids))) if scope else None)
        for node, scope in catalogue.wanted
    ]
    wrong = Catalogue(corpus.manifest, catalogue.store, corpus.target, corpus.labels, wide)
    with pytest.raises(InputError, match="train holds what is held out"):
        driven(wrong, extraction.workers(session))


def test_every_scope_holds_out_its_test_rows_with_their_session_where_folds_are_made_by_it(small):
    for protocol in ("official", "cv"):
        corpus = small.session(protocol=protocol).corpus
        for fold in corpus.folds:
            test = [row for row in corpus.manifest.rows if row.id in fold.test]
            [scope] = corpus.scopes[fold.name]
            assert scope.held == HeldOut.of(test, "session")
            assert {("session", row.session) for row in test} < scope.held.groups


# --- a view refuses ----------------------------------------------------------------------------------------------


def view(small):
    """The column of the words in the official fold."""
    session = small.session(features=("words",))
    return build_columns(session.corpus, session.catalogue, "words", session.corpus.folds[0], small.home)["text"]


def place_of(small, stage: str):
    """A stage that is fitted, and its scope."""
    [place] = [place for place in small.session().catalogue.wanted if place[0].name == stage]
    return place


def state_record(small, **about: object) -> None:
    """Replaces entries of the record of the filters' state; None takes one away."""
    node, scope = place_of(small, "text_cnn")
    store = small.session().catalogue.store
    record = small.session().catalogue.of(node, scope).state
    entries = {name: value for name, value in {**record.about, **about}.items() if value is not None}
    store.action(record.stage, record.key).unlink()
    store.adopt(replace(record, about=entries))


@pytest.mark.parametrize("train", [None, "everyone", [1, 2]])
def test_a_state_that_does_not_say_who_it_learned_from_is_refused(extracted, train):
    state_record(extracted, train=train)
    with pytest.raises(InputError, match="the state of text_cnn does not say which rows it saw"):
        view(extracted)


def test_a_state_that_learned_from_a_row_outside_its_scope_is_refused(extracted):
    [scope] = {scope for _, scope in extracted.session().catalogue.wanted if scope}
    state_record(extracted, valid=[*scope.valid, "somebody"])
    with pytest.raises(InputError, match="the state of text_cnn saw rows beyond official: somebody"):
        view(extracted)


def test_with_crossfit_a_state_that_saw_the_rows_it_makes_features_for_is_refused(small):
    small.recipe = small.recipe.replace('protocol = "official"', 'protocol = "official"\ncrossfit = 2')
    small.extract(features=("words",))
    assert view(small)
    catalogue = small.session(features=("words",)).catalogue
    for node, scope in catalogue.wanted:
        if node.name == "text_cnn" and scope.name == "official/part-0":
            record = catalogue.of(node, scope).state
            catalogue.store.action(record.stage, record.key).unlink()
            catalogue.store.adopt(replace(record, about={**record.about, "train": [*scope.train, scope.apply[0]]}))
    with pytest.raises(InputError, match="saw rows beyond official/part-0"):
        view(small)


@pytest.mark.parametrize("length", ["12", '"auto"'])
@pytest.mark.parametrize("state", ["0" * 64, None])
def test_shards_of_two_states_make_no_view(extracted, state, length):
    extracted.recipe = extracted.recipe.replace("length = 12", f"length = {length}")
    node, scope = place_of(extracted, "text_cnn")
    catalogue = extracted.session().catalogue
    shard = catalogue.of(node, scope).shards[-1]
    relabel(catalogue, catalogue.of(node, scope).final(shard), state)
    with pytest.raises(InputError, match="a shard of text_cnn is of another state"):
        view(extracted)


def test_a_shard_without_a_fit_that_says_it_is_of_a_state_makes_no_view(extracted):
    catalogue = extracted.session().catalogue
    [(node, scope)] = [place for place in catalogue.wanted if place[0].name == "audio_mfcc"]
    relabel(catalogue, catalogue.of(node, scope).final(catalogue.of(node, scope).shards[0]), "0" * 64)
    session = extracted.session(features=("sound",))
    with pytest.raises(InputError, match="a shard of audio_mfcc is of another state"):
        build_columns(session.corpus, session.catalogue, "sound", session.corpus.folds[0], extracted.home)


def relabel(catalogue, record, state) -> None:
    """Puts in a shard's place one with the same rows that says it is of another state."""
    table = shards.open_table(catalogue.store.open(record))
    about = json.loads(table.schema.metadata[shards.RECIPE])
    about["recipe"]["state"] = state
    other = table.replace_schema_metadata({shards.RECIPE: json.dumps(about)})
    catalogue.store.action(record.stage, record.key).unlink()
    catalogue.store.save(
        record.stage, record.key, lambda path: shards.write(other, path), suffix=".parquet", rows=record.rows
    )
