"""Targets of each kind train, and several folds are scored as one."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.reader import Fold
from pipeline.score import predictions
from pipeline.stage import Target
from pipeline.train.fold_result import read_result, summarise
from pipeline.train.train_fold import train_fold
from tests.tiny import FOLD, IDS, NOTHING, NUMBERS, VAD, epochs


def test_a_multilabel_and_a_regression_target_train_too(request_of, tmp_path):
    heads = {name: (i % 3 == 0, i % 3 == 1) for i, name in enumerate(IDS)}
    heads = {name: tuple(map(int, pair)) for name, pair in heads.items()}
    several = train_fold(
        request_of(run=tmp_path / "h", labels=heads, target=Target("multilabel", ("x", "y")), training={"epochs": 20})
    )
    assert several.metrics["accuracy"] > several.metrics["majority_accuracy"] and set(several.gates) == {
        "all",
        "x",
        "y",
    }
    values = {name: float(i % 3 - 1) for i, name in enumerate(IDS)}
    number = train_fold(
        request_of(run=tmp_path / "r", labels=values, target=Target("regression", ()), training={"epochs": 20})
    )
    assert number.metrics["corr"] > 0.5 and number.metrics["majority_corr"] is None


def test_several_numbers_are_learned_at_once_by_one_head_of_as_many_outputs(request_of):
    result = train_fold(
        request_of(labels=NUMBERS, target=VAD, training={"epochs": 60, "learning_rate": 0.1, "patience": 0})
    )
    assert result.target == {"task": "regression", "classes": ["valence", "arousal", "dominance"]}
    heads = result.metrics["heads"]
    assert min(head["corr"] for head in heads.values()) > 0.5
    assert all(heads[name]["mae"] < result.metrics["majority_heads"][name]["mae"] for name in VAD.classes)
    assert result.parameters == (3 + 1) * 4 + (5 + 1) * 4 + (4 + 1) * 3
    assert result.answers == {"": [2.0, 4.0, 2.0]} and set(result.gates) == {"all"}


def test_the_validation_loss_of_several_numbers_is_their_mean_absolute_error(request_of):
    request = request_of(labels=NUMBERS, target=VAD)
    result = train_fold(request)
    part = predictions.read(request.run / predictions.FILE, "valid")
    usable = [i for i, name in enumerate(part.ids) if name not in {f"u{n:02}" for n in NOTHING}]
    error = np.abs(part.logits - np.array(part.labels))[usable].mean()
    assert float(epochs(request.run)[result.best_epoch]["valid_loss"]) == pytest.approx(error, rel=1e-5)


def test_folds_of_several_numbers_are_pooled_with_the_medians_of_each(request_of, tmp_path):
    turned = Fold("two", IDS[24:], IDS[14:24], IDS[:14])
    results = [
        train_fold(request_of(run=tmp_path / fold.name, fold=fold, labels=NUMBERS, target=VAD))
        for fold in (FOLD, turned)
    ]
    pooled = summarise(results)["pooled"]
    errors = [
        [np.abs(np.subtract(NUMBERS[name], result.answers[""])) for name in fold.test]
        for fold, result in zip((FOLD, turned), results, strict=True)
    ]
    assert pooled["majority_mae"] == pytest.approx(np.concatenate(errors).mean())
    assert set(pooled["heads"]) == set(pooled["majority_heads"]) == set(VAD.classes)
    assert read_result(tmp_path / "one").metrics == results[0].metrics


def test_class_weights_of_several_numbers_are_refused(request_of):
    with pytest.raises(InputError, match="class_weights needs classes"):
        train_fold(request_of(labels=NUMBERS, target=VAD, training={"class_weights": True}))


def test_folds_are_pooled_by_their_predictions_and_averaged_by_their_scores(request_of, tmp_path):
    other = Fold("two", IDS[24:], IDS[14:24], IDS[:14])
    folds = [train_fold(request_of(run=tmp_path / f.name, fold=f)) for f in (FOLD, other)]
    found = summarise(folds)
    right = [fold.metrics["accuracy"] * 14 for fold in folds]
    assert found["pooled"]["accuracy"] == pytest.approx(sum(right) / 28) and found["folds"] == 2
    assert sum(map(sum, found["pooled"]["confusion"])) == 28
    accuracies = [fold.metrics["accuracy"] for fold in folds]
    assert found["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["std"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    majorities = [fold.metrics["majority_accuracy"] for fold in folds]
    assert found["pooled"]["majority_accuracy"] == pytest.approx(np.mean(majorities))


def test_one_fold_has_no_deviation(request_of):
    found = summarise([train_fold(request_of(training={"epochs": 1}))])
    assert found["std"]["accuracy"] is None and found["mean"]["accuracy"] is not None
