"""All folds of a model train as one run: what they need stays until the last of them is done."""

from __future__ import annotations

import os
import time

from pipeline.cache import gc, in_use
from pipeline.cli.train import trained
from pipeline.train import train_models
from tests.small import RECIPE as EXTRACTED

RECIPE = """
[dataset]
reader   = "iemocap"
labels   = "six"
protocol = "cv"

[features.hjcag]
audio = { stage = "audio_mfcc", n_mfcc = 3, deltas = 0, rate_hz = 5.0, align = { mode = "pad", length = "auto" } }

[train.hjcag]
epochs = 1
pretrain_epochs = 1
d_model = 4
audio_dim = 4
"""


def test_dialogues_decide_the_runs_of_models_that_read_them_and_no_others(extracted):
    extracted.recipe = EXTRACTED.replace("[features.sound]", "[features.hjcag]")
    session = extracted.session(features=("hjcag",))
    rows = session.corpus.manifest.rows
    before = {name: train_models.prepare(session, name, 0).jobs[0].request for name in ("bc_lstm", "hjcag")}
    assert before["bc_lstm"].dialogues == {row.id: row.dialogue for row in rows} and before["hjcag"].dialogues == {}
    for row in rows:
        object.__setattr__(row, "dialogue", "another " + row.dialogue)
    after = {name: train_models.prepare(session, name, 0).jobs[0].request for name in before}
    assert after["hjcag"].digest == before["hjcag"].digest and after["bc_lstm"].digest != before["bc_lstm"].digest


def test_gc_deletes_no_column_of_a_queued_fold_while_another_one_trains(small, monkeypatch):
    small.recipe = RECIPE
    small.extract()
    session, real = small.session(features=("hjcag",)), train_models.train_fold
    pinned, deleted = [], []

    def train_while_gc_runs(request):
        months_ago = time.time() - 60 * gc.DAY
        for note in (small.home / "views").glob("*/column.json"):
            os.utime(note, (months_ago, months_ago))
        pinned.append(in_use.live(session.home.cache))
        deleted.extend(gc.delete(session.home, days=30).views)
        return real(request)

    monkeypatch.setattr(train_models, "train_fold", train_while_gc_runs)
    [answer], _ = trained(session, ["hjcag"], 0, extract=False)
    used = {name for node, _ in session.catalogue.wanted for name in (node.digest, node.family)}
    assert pinned == [used] * 5 and deleted == []
    assert len(answer["folds"]) == 5
    assert len(gc.delete(session.home, days=30).views) > 0, "without a pin gc deletes what is as old"
