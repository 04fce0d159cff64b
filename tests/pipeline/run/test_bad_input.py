"""One bad clip costs itself: never the shard, the worker or the run."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipeline.cache import shards
from pipeline.cache.home import Home
from pipeline.cache.store import Store
from pipeline.media import decode
from pipeline.plan.catalogue import Catalogue
from pipeline.run.dask_workers import Workers
from pipeline.run.inline_workers import Inline
from tests import poison
from tests.small import driven, stored


def planner_of(small, node):
    corpus = small.session().corpus
    return Catalogue(corpus.manifest, Store(small.home / "cache"), corpus.target, corpus.labels, [(node, None)])


def tracks(catalogue):

    for node, scope in catalogue.wanted:
        for shard in catalogue.of(node, scope).shards:
            for name, _, track in shards.read(stored(catalogue, node, shard)):
                yield name, track


def reasons(catalogue):
    return {name: track.reason.value for name, track in tracks(catalogue) if track.reason is not None}


@pytest.mark.parametrize("how, reason", [("memory", "out_of_memory"), ("error", "stage_error")])
def test_an_utterance_that_a_stage_cannot_take_costs_itself(small, how, reason):
    victim = small.session().corpus.manifest.rows[7].id
    catalogue = planner_of(small, poison.node(victim, how))
    driven(catalogue, Inline())
    assert reasons(catalogue) == {victim: reason}
    assert sum(track.values is not None for _, track in tracks(catalogue)) == 59


def test_a_transient_reason_is_tried_again_and_good_rows_are_copied(small):
    victim = small.session().corpus.manifest.rows[7].id
    catalogue = planner_of(small, poison.node(victim, "memory"))
    driven(catalogue, Inline())
    again = driven(planner_of(small, poison.node(victim, "memory")), Inline()).total()
    assert again.computed["poisoned"] == 1 and again.copied["poisoned"] >= 15


@pytest.mark.parametrize("how", ["segfault", pytest.param("exit", marks=pytest.mark.slow)])
def test_an_utterance_that_kills_its_worker_costs_itself(small, how):
    victim = small.session().corpus.manifest.rows[7].id
    catalogue = planner_of(small, poison.node(victim, how))
    driven(catalogue, Workers(count=2))
    assert reasons(catalogue) == {victim: "worker_died"}
    assert sum(track.values is not None for _, track in tracks(catalogue)) == 59


@pytest.mark.parametrize("how, reason", [("segfault", "decoder_crashed"), ("hang", "decoder_hung")])
def test_a_decoder_that_crashes_or_hangs_costs_its_clip_alone(small, monkeypatch, how, reason):
    rows = small.session().corpus.manifest.rows[:5]
    monkeypatch.setattr(decode, "DEADLINE_S", 5.0)
    monkeypatch.setattr(decode, "read", CursedRead(rows[2].audio[0].path, how))
    began, wanted = time.monotonic(), [[("stage", None)]] * 5
    found = {row.id: got for row, got in decode.decoded("audio", rows, small.root, wanted, Home(small.home).memory)}
    assert time.monotonic() - began < 60
    got = {name: value.reason.value for name, value in found.items() if isinstance(value, decode.Unreadable)}
    assert got == {rows[2].id: reason}
    assert all(np.isfinite(v["stage"].samples).all() for v in found.values() if not isinstance(v, decode.Unreadable))


class CursedRead:
    """Stands in for `pipeline.media.decode.read` in the child process: one path misbehaves, all others are read."""

    def __init__(self, path, how):
        self.path, self.how = path, how

    def __call__(self, kind, stretches, root, stages):
        if self.path in [stretch.path for stretch in stretches]:
            poison.misbehave(self.how)
        return _read(kind, stretches, root, stages)


_read = decode.read
