"""The models that scikit-learn solves for, held against scikit-learn called by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pipeline.corpus.recipe_training import model_class, resolve
from pipeline.errors import InputError
from pipeline.linear import STRENGTHS
from pipeline.model import Batch, Input
from pipeline.objective import prior, targets
from pipeline.stage import Target

N, T = 60, 4
DIMS = {"text": 3, "audio": 4}
THREE = Target("multiclass", ("a", "b", "c"))
KINDS = [
    (Target("multiclass", ("a", "b")), [i % 2 for i in range(N)]),
    (THREE, [i % 3 for i in range(N)]),
    (Target("multilabel", ("a", "b")), [(i % 2, i % 3 // 2) for i in range(N)]),
    (Target("regression", ()), [i % 5 - 2.0 for i in range(N)]),
    (Target("regression", ("valence", "arousal")), [(i % 5 - 2.0, 1.0 * (i % 3)) for i in range(N)]),
]


def batches(labels: Tensor, seed: int) -> list[Batch]:
    """Sixty rows in three batches: text and sound say something of the label; each lacks some rows and steps."""
    random = torch.Generator().manual_seed(seed)
    values = {m: torch.randn(N, T, d, generator=random) for m, d in DIMS.items()}
    for m in values:
        values[m][:, :, 0] += labels.reshape(N, -1)[:, :1].float()
    masks = {m: torch.rand(N, T, generator=random) < 0.6 for m in DIMS}
    masks = {m: mask & (torch.rand(N, 1, generator=random) < 0.8) for m, mask in masks.items()}

    def batch(rows: Tensor) -> Batch:
        return Batch(
            rows, {m: x[rows] for m, x in values.items()}, {m: x[rows] for m, x in masks.items()}, labels[rows]
        )

    return [batch(rows) for rows in torch.arange(N).split(20)]


def solved(name: str, target: Target, labels: Any) -> tuple[Any, list[Batch], list[Batch]]:
    kind = model_class(name)
    model = kind(kind.Config(), {m: Input(d, T) for m, d in DIMS.items()}, target.outputs)
    train, valid = (batches(targets(labels, target), seed) for seed in (0, 1))
    model.solve(train, valid, target)
    return model.eval(), train, valid


def vectors(rows: list[Batch], m: str) -> tuple[Any, Any]:
    """Mean and deviation over valid steps by numpy, nan for a row that lacks the modality; and the labels."""
    found = []
    for batch in rows:
        for x, mask in zip(batch.values[m].double().numpy(), batch.masks[m].numpy(), strict=True):
            x = x[mask] if mask.any() else np.full((1, x.shape[1]), np.nan)
            found.append(np.concatenate([x.mean(0), x.std(0)]))
    return np.array(found), torch.cat([batch.labels for batch in rows]).numpy()


def logits(model: Any, rows: list[Batch]) -> Any:
    return torch.cat([model(batch.values, batch.masks).logits for batch in rows]).numpy()


def best_logistic(train: tuple[Any, Any], valid: tuple[Any, Any]) -> Any:
    fits = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200)).fit(*train) for c in STRENGTHS]
    loss = [-fit.predict_log_proba(valid[0])[np.arange(len(valid[1])), valid[1]].mean() for fit in fits]
    return fits[int(np.argmin(loss))]


def test_linear_is_a_logistic_regression_on_all_modalities_side_by_side() -> None:
    model, train, valid = solved("linear", THREE, KINDS[1][1])
    usual = {m: np.nanmean(vectors(train, m)[0], axis=0) for m in DIMS}

    def beside(rows: list[Batch]) -> tuple[Any, Any]:
        parts = [vectors(rows, m) for m in DIMS]
        filled = [np.where(np.isnan(x), usual[m], x) for m, (x, _) in zip(DIMS, parts, strict=True)]
        return np.concatenate(filled, axis=1), parts[0][1]

    expected = best_logistic(beside(train), beside(valid)).predict_log_proba(beside(valid)[0])
    found = torch.from_numpy(logits(model, valid)).log_softmax(-1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_late_fusion_adds_the_log_probabilities_of_the_modalities_that_a_row_has() -> None:
    model, train, valid = solved("late_fusion", THREE, KINDS[1][1])
    expected = np.zeros((N, 3))
    for m in DIMS:
        (x, y), (v, w) = vectors(train, m), vectors(valid, m)
        here, there = ~np.isnan(x).any(1), ~np.isnan(v).any(1)
        fit = best_logistic((x[here], y[here]), (v[there], w[there]))
        expected[there] += fit.predict_log_proba(v[there])
        assert not here.all()
    np.testing.assert_allclose(logits(model, valid), expected, atol=1e-4)


def test_late_fusion_of_numbers_is_the_mean_of_ridge_regressions() -> None:
    target, labels = KINDS[3]
    model, train, valid = solved("late_fusion", target, labels)
    guesses = np.full((2, N), np.nan)
    for i, m in enumerate(DIMS):
        (x, y), (v, w) = vectors(train, m), vectors(valid, m)
        here, there = ~np.isnan(x).any(1), ~np.isnan(v).any(1)
        fits = [make_pipeline(StandardScaler(), Ridge(alpha=1 / c)).fit(x[here], y[here]) for c in STRENGTHS]
        errors = [np.abs(fit.predict(v[there]) - w[there]).mean() for fit in fits]
        guesses[i, there] = fits[int(np.argmin(errors))].predict(v[there])
    some = ~np.isnan(guesses).all(0)
    np.testing.assert_allclose(logits(model, valid)[some, 0], np.nanmean(guesses[:, some], axis=0), atol=1e-4)


def test_the_majority_is_the_prior_of_the_train_labels_for_every_row() -> None:
    labels = [0] * 40 + [2] * 20
    model, _, valid = solved("majority", THREE, labels)
    np.testing.assert_allclose(logits(model, valid), np.tile(prior(labels, THREE), (N, 1)), rtol=1e-6)


@pytest.mark.parametrize("name", ["linear", "late_fusion", "majority"])
@pytest.mark.parametrize(("target", "labels"), KINDS, ids=["two", "three", "heads", "number", "numbers"])
def test_every_kind_of_target_is_solved_for(name: str, target: Target, labels: Any) -> None:
    model, _, valid = solved(name, target, labels)
    found = logits(model, valid)
    assert found.shape == (N, target.outputs) and np.isfinite(found).all()
    numbers = {"majority": 0, "linear": 14 + 1, "late_fusion": 14 + 2}[name]  # mean and deviation of 3 + 4 dimensions
    assert sum(p.numel() for p in model.parameters()) == numbers * target.outputs


def test_a_class_without_a_train_row_is_never_predicted() -> None:
    for name in ("linear", "late_fusion"):
        model, _, valid = solved(name, THREE, [2 * (i % 2) for i in range(N)])
        assert 1 not in logits(model, valid).argmax(-1)


def test_a_setting_of_the_loop_that_it_does_not_read_is_refused() -> None:
    with pytest.raises(InputError, match=r"linear\.epochs: this model is solved for at once"):
        resolve(model_class("linear"), {}, {"epochs": 3})
    assert resolve(model_class("linear"), {}, {"batch_size": 8})[1].batch_size == 8
