"""MISA, held against its equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from models.misa import MISAConfig, discrepancy, overlap
from tests.models.baseline_cases import build, linear, lstm, masked
from tests.models.mulg_cases import DIFFERENT, VALID, features

NAMES = ("text", "audio", "visual")


def states(model, values, masks):
    """Whole, private and shared parts by modality, written out."""
    x, whole = masked(values, masks), {}
    for m in NAMES:
        layer, norm = model.project[m][0], model.project[m][2]
        h = linear(layer, lstm(model.read[m].cell, x[m], masks[m])).relu()
        whole[m] = functional.layer_norm(h, h.shape[-1:], norm.weight, norm.bias)
    private = {m: linear(model.private[m], whole[m]).sigmoid() for m in NAMES}
    return whole, private, {m: linear(model.shared, whole[m]).sigmoid() for m in NAMES}


def test_the_parts_of_all_modalities_attend_to_each_other_and_two_layers_read_them_side_by_side() -> None:
    model = build("misa", hidden=6, heads=1)
    _, private, shared = states(model, features(), VALID)
    x = torch.stack([*private.values(), *shared.values()], dim=1)  # [b, 6, d]
    layers = (model.attend.query, model.attend.key, model.attend.value)
    q, k, v = (torch.einsum("od,bsd->bso", layer.weight, x) for layer in layers)
    weights = (torch.einsum("btd,bsd->bts", q, k) / math.sqrt(6)).softmax(-1)
    mixed = torch.einsum("od,btd->bto", model.attend.out.weight, torch.einsum("bts,bsd->btd", weights, v))
    x = model.residual.norms[0](x + mixed)
    x = model.residual.norms[1](x + model.feed(x))
    expected = linear(model.head, linear(model.fuse[0], x.flatten(1)).relu())
    torch.testing.assert_close(model(features(), VALID).logits, expected)


def test_the_loss_adds_similarity_difference_and_reconstruction_over_the_rows_that_have_a_modality() -> None:
    model = build("misa", hidden=6, similarity=2.0, difference=3.0, reconstruction=5.0)
    whole, private, shared = states(model, features(), DIFFERENT)
    here = {m: DIFFERENT[m].any(1) for m in NAMES}
    pairs = [("text", "audio"), ("text", "visual"), ("audio", "visual")]
    similarity = sum(discrepancy(shared[a][here[a]], shared[b][here[b]]) for a, b in pairs) / 3
    difference = sum(overlap(private[m][here[m]], shared[m][here[m]]) for m in NAMES)
    for a, b in pairs:
        both = here[a] & here[b]
        difference = difference + overlap(private[a][both], private[b][both])
    missed = [linear(model.decode[m], private[m] + shared[m]) - whole[m] for m in NAMES]
    reconstruction = sum(x[here[m]].square().mean() for m, x in zip(NAMES, missed, strict=True)) / 3
    prediction = model(features(), DIFFERENT)
    loss = model.loss(prediction, None, None, lambda logits, labels: torch.tensor(7.0))
    torch.testing.assert_close(loss, 7 + 2 * similarity + 3 * difference + 5 * reconstruction)
    assert not here["audio"].all() and min(similarity, difference, reconstruction) > 0


def test_the_discrepancy_is_of_the_mean_and_four_central_moments() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [0.5]])
    moments = 0.25 + 0.0 + 0.0625 + 0.0  # of x: the second and fourth; its mean is that of y
    torch.testing.assert_close(discrepancy(x, y), torch.tensor(moments), atol=1e-5, rtol=0)
    torch.testing.assert_close(discrepancy(y, y + 0.25), torch.tensor(0.25), atol=1e-5, rtol=0)


def test_parts_that_never_vary_together_do_not_overlap() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert overlap(x, torch.ones(2, 2)) == 0
    assert overlap(x, x) == pytest.approx((2 / 4) * 2)  # one of four products is 2, its square 4, the mean 1


def test_heads_that_do_not_divide_the_width_and_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 heads do not divide a width of 8\nsimilarity must be at least 0"):
        MISAConfig(hidden=8, heads=3, similarity=-1.0)
