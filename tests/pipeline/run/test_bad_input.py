"""One bad clip costs itself: never the shard, the worker or the run."""

from __future__ import annotations

import re
import time

import numpy as np
import psutil
import pytest

from pipeline.cache import shards
from pipeline.cache.home import Home
from pipeline.cache.store import Store
from pipeline.errors import MachineError, SpaceError
from pipeline.media import decode
from pipeline.media.child import Bound, Child
from pipeline.plan.catalogue import Catalogue
from pipeline.reason import Reason
from pipeline.run import extract_job, stage_calls
from pipeline.run.dask_workers import Workers
from pipeline.run.inline_workers import Inline
from pipeline.run.stage_calls import Knobs
from pipeline.stage import Item
from tests import clips, poison
from tests.pipeline.run.test_cache_rules import same
from tests.small import driven, stored


def planner_of(small, node):
    corpus = small.session().corpus
    return Catalogue(corpus.manifest, Store(small.home / "cache"), corpus.target, corpus.labels, [(node, None)])


def tracks(catalogue, there=False):
    """Every row; with `there` only those of shards that were saved."""
    for node, scope in catalogue.wanted:
        for shard in catalogue.of(node, scope).shards:
            if there and catalogue.store.find(node.digest, shard.key) is None:
                continue
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
    catalogue = planner_of(small, poison.node(victim, "error"))
    driven(catalogue, Inline())
    again = driven(planner_of(small, poison.node(victim, "error")), Inline()).total()
    assert again.computed["poisoned"] == 1 and again.copied["poisoned"] >= 15


def test_an_utterance_that_takes_all_memory_in_three_runs_is_too_large_and_not_tried_again(small):
    victim = small.session().corpus.manifest.rows[7].id
    seen = []
    for _ in range(3):
        catalogue = planner_of(small, poison.node(victim, "memory"))
        driven(catalogue, Inline())
        seen.append(reasons(catalogue))
    assert seen == [{victim: "out_of_memory"}, {victim: "out_of_memory"}, {victim: "too_large"}]
    assert driven(planner_of(small, poison.node(victim, "memory")), Inline()).jobs == 0
    [message] = [record.messages[victim] for _, record in catalogue.store.records() if victim in record.messages]
    assert message == "out_of_memory in 3 tries: MemoryError:"


@pytest.mark.parametrize(
    "how, reason",
    [
        ("segfault", "worker_died"),
        pytest.param("kill", "out_of_memory", marks=pytest.mark.slow),
        pytest.param("exit", "worker_died", marks=pytest.mark.slow),
    ],
)
def test_an_utterance_that_kills_its_worker_costs_itself_and_is_computed_once_row_by_row(small, how, reason):
    victim = small.session().corpus.manifest.rows[7].id
    catalogue = planner_of(small, poison.node(victim, how))
    counts = driven(catalogue, Workers(count=2))
    assert reasons(catalogue) == {victim: reason} and counts.waiting == {}
    assert sum(track.values is not None for _, track in tracks(catalogue)) == 59
    total = counts.total()
    assert total.computed["poisoned"] + total.copied["poisoned"] <= 60, "a shard was run again"


def test_an_utterance_that_takes_the_memory_of_its_own_process_costs_itself_and_is_ended_in_time():
    victim = "b"
    poisoned = poison.node(victim, "eat")
    with Child(bound=Bound(400 * 2**20, Reason.OUT_OF_MEMORY, "a shorter clip")) as child:
        call = stage_calls.in_child(child, poisoned, "cpu", None)
        found = call.transform([Item(name, {"text": "five."}) for name in "abc"])
    assert [track.reason for track in found] == [None, Reason.OUT_OF_MEMORY, None]
    assert "GiB of memory: a shorter clip" in found[1].message
    assert found[2].values.tolist() == [[5.0]]


def test_an_utterance_alone_may_take_what_is_free_and_what_its_container_allows(tmp_path, monkeypatch):
    bound = stage_calls.alone_bound()
    assert 0 < bound.most_bytes < psutil.virtual_memory().total and bound.reason.transient
    (tmp_path / "limit").write_text("1073741824\n")
    monkeypatch.setattr(stage_calls, "CONTAINER_LIMIT", tmp_path / "limit")
    assert stage_calls.alone_bound().most_bytes == 3 * 2**28


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("how, kind", [("library", MachineError), ("full", SpaceError), ("barred", MachineError)])
def test_what_the_machine_lacks_ends_the_run_with_a_message_and_is_no_reason_of_a_row(small, how, kind, isolated):
    victim = small.session().corpus.manifest.rows[7].id
    catalogue = planner_of(small, poison.node(victim, how))
    with pytest.raises(kind, match=re.escape(str(poison.MACHINE[how]))):
        driven(catalogue, Inline(), Knobs(isolated=isolated))
    assert victim not in {name for name, _ in tracks(catalogue, there=True)}


def test_a_batch_holds_no_more_sound_than_fits_and_values_do_not_depend_on_it(tmp_path, monkeypatch):
    whole, parts = clips.sounds(tmp_path / "whole"), clips.sounds(tmp_path / "parts")
    whole.extract()
    monkeypatch.setattr(extract_job, "BATCH_BYTES", 3 * 4 * round(0.3 * clips.RATE_HZ))
    parts.extract()
    assert whole.count("calls")["audio_mfcc"] == 1 and parts.count("calls")["audio_mfcc"] == 8
    assert same(whole.rows(), parts.rows())


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
