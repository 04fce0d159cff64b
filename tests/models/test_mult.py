"""MulT, held against its layers written out in einsum.

Letters of the einsums: b row, h head, t s steps of target and source, k channel of a head.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.models.baseline_cases import build, masked
from tests.models.mulg_cases import DIFFERENT, LENGTHS, VALID, Tensors, features

SMALL: dict[str, Any] = {"width": 4, "heads": 2, "layers": 2, "memory_layers": 1}
NAMES = ("text", "audio", "visual")


def positioned(x: Tensor) -> Tensor:
    width, half = x.shape[-1], math.ceil(x.shape[-1] / 2)
    rates = torch.exp(-math.log(10_000.0) * torch.arange(half) / max(half - 1, 1))
    angles = torch.arange(x.shape[1])[:, None] * rates
    return math.sqrt(width) * x + torch.cat([angles.sin(), angles.cos()], 1)[:, :width]


def norm(layer: Any, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], layer.weight, layer.bias)


def attention(part: Any, x: Tensor, source: Tensor, seen: Tensor) -> Tensor:
    def heads(weight: Tensor, of: Tensor) -> Tensor:
        return torch.einsum("bsd,ed->bse", of, weight).unflatten(-1, (part.heads, -1))

    q, k, v = heads(part.query.weight, x), heads(part.key.weight, source), heads(part.value.weight, source)
    scores = torch.einsum("bthk,bshk->bhts", q, k) / math.sqrt(q.shape[-1])
    weights = scores.exp() * seen[:, None]
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)
    attended = torch.einsum("bhts,bshk->bthk", weights, v).flatten(2)
    return torch.einsum("btd,ed->bte", attended, part.out.weight)


def transformer(part: Any, target: Tensor, source: Tensor | None, valid: Tensor) -> Tensor:
    steps, width = target.shape[1], valid.shape[1]
    reach = torch.arange(width)[None] <= torch.arange(steps)[:, None] + abs(width - steps)
    seen = valid[:, None] & (reach if part.causal else torch.ones_like(reach))
    x = positioned(target)
    for layer in part.layers:
        other = x if source is None else positioned(source)
        x = x + attention(layer.attend, norm(layer.norms[0], x), norm(layer.norms[0], other), seen)
        rectified, out = layer.feed[0][0], layer.feed[1]
        y = torch.einsum("btd,ed->bte", norm(layer.norms[1], x), rectified.weight) + rectified.bias
        x = x + torch.einsum("bte,de->btd", y.relu(), out.weight) + out.bias
    return norm(part.norm, x)


def expected(model: Any, values: Tensors, masks: Tensors) -> Tensor:
    x = {m: torch.einsum("btd,ed->bte", v, model.project[m].weight) for m, v in masked(values, masks).items()}
    last = []
    for m in NAMES:
        sources = [n for n in NAMES if n != m]
        ends = [transformer(model.attend[f"{n}->{m}"], x[m], x[n], masks[n]) for n in sources]
        states = transformer(model.memory[m], torch.cat(ends, -1), None, masks[m])
        for row, valid in zip(states, masks[m], strict=True):
            last.append(row[valid][-1] if valid.any() else torch.zeros_like(row[0]))
    h = torch.cat([torch.stack(last[3 * i : 3 * i + 3]) for i in range(3)], dim=1)
    first, second = model.fuse[0], model.fuse[3]
    fused = (h @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias
    return (fused + h) @ model.head.weight.T + model.head.bias


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masks", [VALID, DIFFERENT], ids=["all valid", "ragged"])
def test_the_model_is_its_layers_written_out(masks: Tensors, causal: bool) -> None:
    model = build("mult", causal=causal, **SMALL)
    torch.testing.assert_close(
        model(features(), masks).logits, expected(model, features(), masks), rtol=1e-4, atol=1e-5
    )


def test_a_causal_target_sees_no_later_step_of_its_source_beyond_their_difference_in_length() -> None:
    model = build("mult", **SMALL)
    model.maps = True
    maps = model(features(), VALID).attention
    for pair, weights in maps.items():
        source, target = pair.split("->")
        further = abs(LENGTHS[source] - LENGTHS[target])
        for step in range(LENGTHS[target]):
            assert (
                weights[:, step, : step + further + 1].gt(0).all() and not weights[:, step, step + further + 1 :].any()
            )


def test_a_single_modality_attends_to_itself_alone() -> None:
    model = build("mult", modalities="audio", **SMALL)
    prediction = model({"audio": features()["audio"]}, {"audio": DIFFERENT["audio"]})
    assert prediction.attention is None and not model.attend and prediction.logits.isfinite().all()


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a width of 4"):
        build("mult", width=4, heads=3)
