"""A train row that fails for a reason that may pass: its fit tries three times, then goes without it and says so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from pipeline.cache.keys import digest
from pipeline.cache.store import Store
from pipeline.cli.extract import extracted
from pipeline.corpus.recipe import Node
from pipeline.plan import session
from pipeline.plan.catalogue import Catalogue
from pipeline.reason import Reason, Unreadable
from pipeline.run import fit_job as fit
from pipeline.run.inline_workers import Inline
from pipeline.stage import Item, Spec, Stage, State, Track
from pipeline.transfer.final_records import final_records
from stages.text_word2vec import TextWord2vec
from tests.clips import sounds, talk
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.small import driven

CNN_SET = """
[features.words.text]
stage = "text_cnn"
epochs = 1
channels = 2
input.text_word2vec = { vectors = "$PLACE/words.txt" }
align = { mode = "pad", length = 8 }
"""
VICTIM = "d00_000"


@pytest.fixture
def spoken(tmp_path):
    return talk(tmp_path, dialogues=10, turns=4, sets=CNN_SET)


@pytest.fixture
def unlucky(monkeypatch):
    """While it is told so, one train row fails in the stage that a fit stands on."""
    trouble, real = {"on": True, "calls": 0}, TextWord2vec.transform

    def transform(self, loaded, state, batch):
        if trouble["on"] and any(item.id == VICTIM for item in batch):
            trouble["calls"] += len(batch) == 1
            raise RuntimeError("the service is away")
        return real(self, loaded, state, batch)

    monkeypatch.setattr(TextWord2vec, "transform", transform)
    return trouble


def extract(made):
    return extracted(made.session(workers=0))


def the_state(made):
    catalogue = made.session().catalogue
    [(node, scope)] = [place for place in catalogue.wanted if place[0].name == "text_cnn"]
    return catalogue.of(node, scope).state


def test_a_fit_goes_without_a_row_whose_failure_lasts_and_every_other_row_has_features(spoken, unlucky):
    answer, _ = extract(spoken)
    assert answer["left_out"] == {"text_cnn on official": {VICTIM: "stage_error"}} and answer["waiting"] == []
    assert answer["failed"] == {"text": {"stage_error": 1}} and answer["view"]["words"]
    assert VICTIM not in the_state(spoken).about["train"] and len(the_state(spoken).about["train"]) == 23
    assert sum(track.values is not None for (name, _), (_, track) in spoken.rows().items() if "cnn" in name) == 39


def test_a_row_is_waited_for_in_every_round_but_the_last(spoken, unlucky):
    extract(spoken)
    assert unlucky["calls"] == 3


def test_a_row_that_is_there_in_the_second_round_is_in_the_fit(spoken, unlucky, monkeypatch):
    def once(*arguments, **options):
        unlucky["on"] = unlucky["calls"] == 0
        return real(*arguments, **options)

    real = session.plan
    monkeypatch.setattr(session, "plan", once)
    answer, _ = extract(spoken)
    assert answer["left_out"] == {} and answer["failed"] == {} and VICTIM in the_state(spoken).about["train"]


def test_while_the_row_fails_again_the_state_stays_and_no_row_but_it_is_computed(spoken, unlucky):
    extract(spoken)
    state, unlucky["calls"] = the_state(spoken), 0
    answer, _ = extract(spoken)
    assert the_state(spoken) == state and unlucky["calls"] == 1
    assert answer["computed"] == {"text_word2vec": 1, "text_cnn": 1} and "text_cnn (fit)" not in answer["calls"]
    assert answer["left_out"] == {"text_cnn on official": {VICTIM: "stage_error"}}


def test_once_the_row_is_there_the_fit_is_made_again_and_its_rows_stand_on_another_state(spoken, unlucky):
    extract(spoken)
    before, state = spoken.rows(), the_state(spoken)
    unlucky["on"] = False
    answer, _ = extract(spoken)
    assert answer["left_out"] == {} and answer["calls"]["text_cnn (fit)"] == 1
    assert VICTIM in the_state(spoken).about["train"] and the_state(spoken).object != state.object
    keys = [{key for (name, _), (key, _) in rows.items() if "cnn" in name} for rows in (before, spoken.rows())]
    assert len(keys[0]) == len(keys[1]) == 40 and keys[0].isdisjoint(keys[1])
    assert spoken.extract() == {} and spoken.last.jobs == 0


def test_neither_a_state_that_left_a_row_out_nor_what_stands_on_it_is_shared(spoken, unlucky):
    extract(spoken)
    found = final_records(spoken.session())
    assert found.incomplete["text_cnn"] == 40 and the_state(spoken).stage not in found.indexes
    unlucky["on"] = False
    extract(spoken)
    assert (
        not final_records(spoken.session()).incomplete
        and the_state(spoken).stage in final_records(spoken.session()).indexes
    )


def test_what_a_fit_still_waits_for_is_named_with_exit_code_3_and_the_answer(spoken, affectory, monkeypatch):  # noqa: F811
    def lost(*arguments):
        raise Unreadable(Reason.DECODER_HUNG, "no answer within 60 s")

    monkeypatch.setenv("AFFECTORY_HOME", str(spoken.home))
    spoken.session()
    monkeypatch.setattr("stages.text_cnn.TextCnn.fit", lost)
    code, out, err = affectory("extract", *options(spoken, "--workers", "0", "--json"))
    message = "the fit of text_cnn on official lost a clip on the way: decoder_hung"
    assert code == 3 and message in " ".join(err.split())
    answer = json.loads(out)
    assert answer["view"] == {} and [line[: len(message)] for line in answer["waiting"]] == [message]


# --- a fit on raw input ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Loudness(Stage):
    """The mean level of a sound, less that of the train rows."""

    version: ClassVar[int] = 1
    modality: ClassVar = "audio"
    inputs: ClassVar[tuple[str, ...]] = ("audio",)

    @property
    def fitted(self):
        return True

    def fit(self, train, valid, target, device):
        return State({"mean": np.array([np.abs(item["audio"].samples).mean() for item in train.items]).mean()[None]})

    def spec(self, loaded: Any) -> Spec:
        return Spec(1)

    def transform(self, loaded: Any, state: State | None, batch: list[Item]) -> list[Track]:
        return [
            Track.of(np.float32(np.abs(item["audio"].samples).mean() - state.tensors["mean"])[None]) for item in batch
        ]


def test_a_fit_on_raw_input_tries_the_row_it_left_out_before_it_decodes_all_others(tmp_path, monkeypatch):
    made = sounds(tmp_path)
    for number, line in enumerate(made.lines):
        line |= {"split": ("train", "valid", "test")[number // 8], "mood": ("low", "high")[number % 2]}
    opened, decoded = made.session(), []

    def watched(kind, rows, *rest):
        for row, found in real(kind, rows, *rest):
            decoded.append(row.id)
            yield row, Unreadable(Reason.DECODER_HUNG) if row.id == "u02" and trouble else found

    def fitted():
        decoded.clear()
        corpus = opened.corpus
        node = Node("loudness", Loudness(), {}, ("audio",), digest("loudness"))
        places = [(node, scope) for scope in corpus.scopes_of(node)]
        catalogue = Catalogue(corpus.manifest, Store(made.home / "cache"), corpus.target, corpus.labels, places)
        report = driven(catalogue, Inline())
        return catalogue.of(*places[0]).state, report

    real, trouble = fit.decoded, True
    monkeypatch.setattr(fit, "decoded", watched)
    state, report = fitted()
    assert state.reasons == {"u02": "decoder_hung"} and not report.waiting
    again, report = fitted()
    assert decoded == ["u02"] and again == state and report.total().calls == {}
    trouble = False
    final, _ = fitted()
    assert final.reasons == {} and len(final.about["train"]) == 8
    assert fitted()[1].jobs == 0
