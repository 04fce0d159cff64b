"""Directed attention as a front of other models (X20)."""

from __future__ import annotations

import pytest
import torch

from models._cross_modal import WIDTH, Front, with_positions
from pipeline.model import Input
from tests.models.baseline_cases import build
from tests.models.mulg_cases import DIFFERENT, DIMS, LENGTHS, features, spoiled

INPUTS = {m: Input(DIMS[m], LENGTHS[m]) for m in DIMS}
EACH = pytest.mark.parametrize("name", ["ef_lstm", "lf_lstm", "tfn", "lmf", "gmu", "misa", "raven"])


def test_without_attention_the_features_pass_unchanged_at_all_their_steps() -> None:
    front = Front(INPUTS, cross_modal=False)
    x, steps, maps = front(features(), DIFFERENT, True)
    assert front.dims == DIMS and maps is None and not list(front.parameters())
    assert all(torch.equal(x[m], features()[m]) and torch.equal(steps[m], DIFFERENT[m]) for m in DIMS)


def test_a_target_is_what_it_takes_from_each_other_modality_side_by_side() -> None:
    torch.manual_seed(0)
    front = Front(INPUTS, cross_modal=True).eval()
    x, steps, maps = front(features(), DIFFERENT, True)
    projected = {m: front.project[m](features()[m]) for m in DIMS}
    expected = [
        front.attend[f"{n}->audio"](projected["audio"], projected[n], DIFFERENT[n], False)[0]
        for n in ("text", "visual")
    ]
    torch.testing.assert_close(x["audio"], torch.cat(expected, dim=-1))
    assert front.dims == dict.fromkeys(DIMS, 2 * WIDTH) and len(maps) == 6
    assert all(
        weights.shape[1:] == (LENGTHS[p.split("->")[1]], LENGTHS[p.split("->")[0]]) for p, weights in maps.items()
    )


def test_one_modality_has_nothing_to_attend_to() -> None:
    front = Front({"audio": INPUTS["audio"]}, cross_modal=True)
    assert not front.pairs and front.dims == {"audio": DIMS["audio"]}


@EACH
def test_with_attention_every_model_reads_other_modalities_and_no_invalid_step(name: str) -> None:
    model = build(name, equal=name == "ef_lstm", cross_modal=True)
    model.maps = True
    values = {m: torch.randn(3, 4, d) for m, d in DIMS.items()} if name == "ef_lstm" else features()
    masks = {m: torch.rand(3, x.shape[1]) < 0.7 for m, x in values.items()}
    prediction = model(values, masks)
    assert prediction.attention.keys() == {f"{n}->{m}" for m in DIMS for n in DIMS if n != m}
    for junk in (1e6, float("nan")):
        torch.testing.assert_close(model(spoiled(values, masks, junk), masks).logits, prediction.logits)


@EACH
def test_with_attention_every_parameter_learns(name: str) -> None:
    model = build(name, equal=name == "ef_lstm", cross_modal=True).train()
    lengths = dict.fromkeys(DIMS, 4) if name == "ef_lstm" else LENGTHS
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        values = {m: torch.randn(3, lengths[m], d, generator=generator) for m, d in DIMS.items()}
        masks = {m: torch.ones(3, n).bool() for m, n in lengths.items()}
        loss = model.loss(model(values, masks), None, None, lambda logits, _: logits.square().sum())
        loss.backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_equal_positions_are_as_large_as_the_content_whatever_its_scale() -> None:
    x = torch.randn(2, 5, WIDTH) * torch.tensor([0.01, 100.0]).view(2, 1, 1)
    placed = with_positions(x, equal=True)
    positions = with_positions(torch.zeros_like(x), equal=True)
    content = placed - positions
    torch.testing.assert_close(content.std(dim=-1, correction=0), torch.ones(2, 5), rtol=0.1, atol=0)
    assert 0.9 < positions.square().mean().sqrt() < 1.1
    torch.testing.assert_close(with_positions(x) - with_positions(torch.zeros_like(x)), WIDTH**0.5 * x)
