"""MultiEMO: what it reads and its losses, held against loops over dialogues and rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.multi_emo import MultiEMOConfig, contrast, correlation
from pipeline.objective import Objective
from pipeline.stage import Target
from tests.contracts.model_cases import DIMS, OUTPUTS, B, features, masks, talk
from tests.models.dialogue_cases import DIALOGUES, build, linear, vectors

SIZES = {"width": 4, "heads": 2, "layers": 2, "inner": 5}
NAMES = ("text", "audio", "visual")
CLASSES = Target("multiclass", ("a", "b", "c"))
LABELS = torch.tensor([0, 2, 1, 1, 0])


def normalised(norm: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def attended(part: Any, x: Tensor, other: Tensor, valid: Tensor) -> Tensor:
    """Two heads of width 2, of which only valid turns are seen: x [u, d], other [u, d], valid [u]."""
    q, k, v = linear(part.query, x), linear(part.key, other), linear(part.value, other)
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        weights = (torch.einsum("ud,vd->uv", q[:, h], k[:, h]) / math.sqrt(2)).exp() * valid
        heads.append(torch.einsum("uv,vd->ud", weights / weights.sum(1, keepdim=True).clamp(min=1e-30), v[:, h]))
    return linear(part.out, torch.cat(heads, dim=1))


def test_modalities_attend_to_the_turns_of_the_others_and_are_joined() -> None:
    model, x, steps, turns = build("multi_emo", **SIZES), vectors(), masks(missing="audio"), talk()
    prediction = model(features(), steps, turns)
    expected = torch.empty(B, OUTPUTS)
    for rows in DIALOGUES:
        there = {m: steps[m].any(1)[rows].float() for m in NAMES}
        speakers, whole = turns.speakers[rows].unsqueeze(0), torch.ones(1, len(rows), dtype=torch.bool)
        states = {m: model.states[m](linear(model.project[m], x[m][rows]).unsqueeze(0), speakers, whole)[0] for m in x}
        contexts = {m: linear(model.narrow[m], states[m]).relu() for m in NAMES}
        fused = []
        for m in NAMES:
            found = contexts[m]
            for layer in model.layers[m]:
                for n, attend, norm in zip([n for n in NAMES if n != m], layer.attend, layer.norms[:2], strict=True):
                    found = normalised(norm, found + attended(attend, found, contexts[n], there[n]))
                fed = linear(layer.feed[1], linear(layer.feed[0][0], found).relu())
                found = normalised(layer.norms[2], found + fed)
            fused.append(found * there[m].unsqueeze(1))
        expected[rows] = linear(model.head, linear(model.dense, linear(model.join, torch.cat(fused, 1))).relu())
    torch.testing.assert_close(prediction.logits, expected)


def test_states_before_a_turn_are_weighed_by_what_they_are() -> None:
    direction = build("multi_emo", **SIZES).states["text"].onward
    history = torch.randn(1, 3, 4)
    weights = torch.stack([direction.weigh.weight[0] @ state for state in history[0]]).softmax(0)
    expected = torch.einsum("t,tg->g", weights, history[0])
    torch.testing.assert_close(direction._context(torch.randn(1, 4), history)[0], expected)


def test_contrast_is_the_focal_loss_of_pairs_of_one_class_weighed_by_the_class() -> None:
    torch.manual_seed(0)
    x, weights, total = torch.randn(B, 3), torch.tensor([0.2, 0.5, 0.3]), 0.0
    unit = x / x.norm(dim=1, keepdim=True)
    for i in range(B):
        others = [j for j in range(B) if j != i]
        p = torch.stack([unit[i] @ unit[j] / 0.7 for j in others]).softmax(0)
        alike = [p[k] for k, j in enumerate(others) if LABELS[j] == LABELS[i]]
        if alike:
            total += float(weights[LABELS[i]] * torch.stack([a.log() * (1 - a) ** 2.5 for a in alike]).mean())
    torch.testing.assert_close(contrast(x, LABELS, weights, 0.7, 2.5), torch.tensor(-total / B))


@pytest.mark.parametrize("count", [1, 2])
def test_contrast_of_a_row_or_a_pair_has_a_finite_gradient(count: int) -> None:
    x = torch.randn(count, 3, requires_grad=True)
    contrast(x, torch.zeros(count, dtype=torch.int64), torch.ones(1), 0.8, 1.0).backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_correlation_is_the_inner_product_less_half_the_trace_of_covariances() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    trace = torch.einsum("ab,ba->", torch.cov(x), torch.cov(y))
    torch.testing.assert_close(correlation(x, y), (torch.einsum("bd,bd->", x, y) / 5 - trace / 5 / 2) / 5)
    assert correlation(x[:0], y[:0]) == 0


def test_the_loss_is_shared_by_the_task_the_contrast_and_the_correlation_of_pairs() -> None:
    model = build("multi_emo", **SIZES, contrast_share=0.3, correlation_share=0.5, rare=2.0)
    prediction = model(features(), masks(missing="audio"), talk())
    parts, task = prediction.parts, functional.cross_entropy(prediction.logits, LABELS)
    linked = 0.0
    for one, other in (("text", "audio"), ("text", "visual"), ("audio", "visual")):
        rows = [0, 2, 4] if "audio" in (one, other) else [0, 1, 2, 3, 4]
        linked = linked + correlation(parts[f"fused_{one}"][rows], parts[f"fused_{other}"][rows])
    loss = lambda: model.loss(prediction, LABELS, torch.arange(B), Objective(CLASSES))  # noqa: E731
    torch.testing.assert_close(loss(), 0.2 * task - 0.5 * linked)
    model.begin(B, torch.arange(B), LABELS, CLASSES)
    weights = torch.tensor([2.5, 2.5, 5.0]) ** 2
    weights = weights / weights.sum()
    separated = contrast(parts["joined"], LABELS, weights, 0.8, 2.4)
    torch.testing.assert_close(loss(), 0.2 * task + 0.3 * separated - 0.5 * linked)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"heads": 3}, "heads"), ({"contrast_share": 0.7}, "shares"), ({"focus": 0.5}, "focus")],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MultiEMOConfig(**settings)


def test_its_parameters_are_those_of_its_layers() -> None:
    d = 4
    direction = 3 * (3 * d * (2 * d + d + 2)) - 3 * d * d + d
    reads = sum(d * (dim + 1) for dim in DIMS.values()) + 3 * (2 * direction + d * (2 * d + 1))
    layer = 2 * 4 * d * d + 3 * 2 * d + 2 * 5 * d + 5 + d
    total = reads + 3 * 2 * layer + d * (3 * d + 1) + d * (d + 1) + OUTPUTS * (d + 1)
    assert sum(p.numel() for p in build("multi_emo", **SIZES).parameters()) == total
