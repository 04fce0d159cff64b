"""The training loop selects and stops on validation alone, and its settings mean what they say."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import InputError
from pipeline.model import Input
from pipeline.objective import Objective
from pipeline.train import loop
from pipeline.train import train_fold as train
from pipeline.train.model_file import load_model
from pipeline.train.train_fold import train_fold
from pipeline.views.dataset import Dataset, statistics
from pipeline.views.view import open_view
from tests.tiny import CLASSES, FOLD, IDS, LABELS, WILD, N, Tiny, TinyConfig, epochs, weights, write_view


def by_hand(columns) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The tiny model trained with its defaults by a loop without any options: its best weights, its losses."""
    view = open_view(IDS, columns)
    dataset = Dataset(view, LABELS, CLASSES, cut=True)
    train, valid = (rows[view.usable[rows]] for rows in map(view.rows, (FOLD.train, FOLD.valid)))
    torch.manual_seed(3)
    model = Tiny(TinyConfig(), {m: Input(column.dim, column.length) for m, column in view.columns.items()}, 3)
    for m, column in view.columns.items():
        model.standardise.set(m, *map(torch.from_numpy, statistics(column, train)))
    adam, loss_of = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-4), Objective(CLASSES)
    losses, best = [], {}
    for epoch in range(6):
        adam.param_groups[0]["lr"] = 0.02 * 0.5 ** (epoch // 2)
        seed = 3 + (epoch << 32)
        torch.manual_seed(seed)
        order = np.random.default_rng(seed).permutation(train)
        model.train()
        for start in range(0, len(order), 8):
            batch = dataset.gather(torch.from_numpy(order[start : start + 8]))
            adam.zero_grad()
            loss_of(model(batch.values, batch.masks).logits, batch.labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
        model.eval()
        total = torch.zeros(())
        for start in range(0, len(valid), 8):
            batch = dataset.gather(torch.from_numpy(valid[start : start + 8]))
            with torch.no_grad():
                loss = loss_of(model(batch.values, batch.masks).logits, batch.labels)
            total += loss * len(batch.rows)
        losses.append(float(total / len(valid)))
        if losses[-1] == min(losses):
            best = {name: value.clone() for name, value in model.state_dict().items()}
    return best, losses


def test_weights_and_losses_equal_those_of_a_loop_written_by_hand_to_the_bit(request_of, columns):
    request = request_of()
    train_fold(request)
    best, losses = by_hand(columns)
    trained = load_model(request.run).state_dict()
    assert trained.keys() == best.keys() and all(torch.equal(trained[name], best[name]) for name in best)
    assert [float(row["valid_loss"]) for row in epochs(request.run)] == losses


# --- selection -------------------------------------------------------------------------------------------------


def test_selection_never_reads_test(request_of, tmp_path):
    train_fold(request_of(run=tmp_path / "1"))
    shuffled = {**LABELS, **{name: (LABELS[name] + 1) % 3 for name in FOLD.test}}
    train_fold(request_of(run=tmp_path / "2", labels=shuffled))
    moved = write_view(tmp_path / "moved", change=range(46, N))
    train_fold(request_of(run=tmp_path / "3", columns=moved))
    assert weights(tmp_path / "1") == weights(tmp_path / "2") == weights(tmp_path / "3")


def test_watching_test_changes_no_weight_and_keeps_the_best_score_of_any_epoch_marked_as_not_for_selection(
    request_of, tmp_path
):
    wrong = {**LABELS, **{name: (LABELS[name] + 1) % 3 for name in FOLD.test}}  # the better a model is, the lower
    plain = train_fold(request_of(run=tmp_path / "a", labels=wrong))
    watched = train_fold(request_of(run=tmp_path / "b", labels=wrong, best_test_epoch=True))
    assert weights(tmp_path / "a") == weights(tmp_path / "b") and plain.metrics == watched.metrics
    seen = [float(row["not_for_selection_test_accuracy"]) for row in epochs(tmp_path / "b")]
    assert seen[watched.best_epoch] == watched.metrics["accuracy"] < max(seen) == watched.best_test["accuracy"]
    assert plain.best_test == {} and not any("test" in name for name in epochs(tmp_path / "a")[0])


def test_a_finished_fold_is_trained_again_for_its_test_scores_but_not_for_want_of_them(request_of):
    train_fold(request_of())
    watched = train_fold(request_of(best_test_epoch=True))
    assert watched.best_test and train_fold(request_of()) == watched


def test_the_model_kept_is_that_of_the_epoch_with_the_lowest_validation_loss(request_of, tmp_path):
    long = {"learning_rate": 0.3, "epochs": 12, "patience": 0, "decay_every": 0}
    result = train_fold(request_of(run=tmp_path / "long", training=long))
    losses = [float(row["valid_loss"]) for row in epochs(tmp_path / "long")]
    assert result.best_epoch == int(np.argmin(losses)) < 11 and result.epochs == 12
    train_fold(request_of(run=tmp_path / "short", training={**long, "epochs": result.best_epoch + 1}))
    assert weights(tmp_path / "long") == weights(tmp_path / "short")


def test_training_stops_when_patience_ends_but_not_before_the_least_number_of_epochs(request_of, tmp_path):
    result = train_fold(request_of(run=tmp_path / "a", training=WILD))
    assert result.epochs == result.best_epoch + 1 + 3 < 40
    longer = train_fold(request_of(run=tmp_path / "b", training={**WILD, "min_epochs": 30}))
    assert longer.epochs >= 30


def test_the_learning_rate_decays_by_steps_of_epochs(request_of):
    request = request_of()
    train_fold(request)
    rates = [float(row["learning_rate"]) for row in epochs(request.run)]
    assert rates == pytest.approx([0.02, 0.02, 0.01, 0.01, 0.005, 0.005])


def test_a_run_that_diverges_says_so(request_of):
    with pytest.raises(InputError, match="no epoch had a finite validation loss"):
        train_fold(request_of(training={"learning_rate": 1e30, "clip_norm": 0, "epochs": 2}))


def test_class_weights_change_the_model(request_of, tmp_path):
    labels = {name: 0 if i % 2 else label for i, (name, label) in enumerate(LABELS.items())}
    train_fold(request_of(run=tmp_path / "1", labels=labels))
    train_fold(request_of(run=tmp_path / "2", labels=labels, training={"class_weights": True}))
    assert weights(tmp_path / "1") != weights(tmp_path / "2")


def test_fusion_starts_from_the_reductions_that_pretraining_left(request_of, monkeypatch):
    started = {}

    def look(model, job):
        if job.directory.name == "fusion":
            started.update({name: part.weight.clone() for name, part in model.reductions().items()})
        history = loop.fit(model, job)
        if job.directory.name != "fusion":
            started[f"pretrained {job.directory.name}"] = model.reduce.weight.clone()
        return history

    monkeypatch.setattr("pipeline.train.pretrain.fit", look)
    monkeypatch.setattr(train, "fit", look)
    request = request_of(training={"unimodal_pretrain": True, "pretrain_epochs": 3})
    result = train_fold(request)
    assert result.pretrain["text"]["epochs"] == 3 and set(result.pretrain) == {"text", "audio"}
    assert len(epochs(request.run, "epochs-audio.csv")) == 3
    for modality in ("text", "audio"):
        assert torch.equal(started[modality], started[f"pretrained {modality}"])


def test_statistics_of_the_train_rows_stand_in_the_model(request_of, columns):
    request = request_of()
    train_fold(request)
    text = open_view(IDS, columns).columns["text"]
    steps = text.values[:36][text.mask[:36]]
    assert np.allclose(load_model(request.run).standardise.mean_text, steps.mean(0), atol=1e-6)


def test_standardisation_by_speaker_is_labelled_transductive_and_needs_speakers(request_of):
    training = {"normalize": "speaker"}
    result = train_fold(request_of(training=training, speakers={name: name[-1] for name in IDS}))
    assert result.transductive and result.normalize == "speaker"
    with pytest.raises(InputError, match="needs the speaker of every utterance"):
        train_fold(request_of(training=training, speakers={"u00": "x"}, digest="d2"))


def test_without_standardisation_features_reach_the_model_as_they_are(request_of):
    request = request_of(training={"normalize": "none"})
    train_fold(request)
    assert not load_model(request.run).standardise.mean_text.any()


# --- how it is computed ----------------------------------------------------------------------------------------


class Watched(Tiny):
    """Notes what the loop has switched on while it trains."""

    seen: ClassVar[set[tuple[bool, torch.dtype, bool]]] = set()

    def forward(self, values, masks):
        prediction = super().forward(values, masks)
        self.seen.add((self.training, prediction.logits.dtype, torch.are_deterministic_algorithms_enabled()))
        return prediction


@pytest.fixture
def watched(monkeypatch, request_of):
    monkeypatch.setattr(Watched, "seen", set())
    monkeypatch.setattr("pipeline.corpus.recipe_training.find", lambda package, name, kind: Watched)
    return request_of


def test_mixed_precision_is_for_training_steps_alone(watched):
    result = train_fold(watched(training={"precision": "bfloat16"}))
    assert Watched.seen == {(True, torch.bfloat16, False), (False, torch.float32, False)}
    assert result.metrics["accuracy"] > 0.5


def test_only_deterministic_algorithms_are_allowed_while_a_model_trains_and_any_afterwards(watched):
    train_fold(watched(training={"deterministic": True}))
    assert (True, torch.float32, True) in Watched.seen and not torch.are_deterministic_algorithms_enabled()
