"""SDT: what it reads, its gates and its losses, held against einsums over one dialogue at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models._layers import sinusoids
from models.sdt import SDTConfig
from pipeline.objective import Objective
from pipeline.stage import Target
from tests.contracts.model_cases import DIMS, OUTPUTS, B, features, masks, talk
from tests.models.dialogue_cases import DIALOGUES, build, linear, vectors

SIZES = {"hidden": 6, "heads": 2, "speakers": 2}
NAMES = ("text", "audio", "visual")
CLASSES = Target("multiclass", ("a", "b", "c"))
NUMBERS = Target("regression", ("valence", "arousal", "dominance"))
LABELS = torch.tensor([0, 2, 1, 1, 0])


def normalised(norm: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight + norm.bias


def layer(part: Any, x: Tensor, source: Tensor | None, valid: Tensor, first: bool) -> Tensor:
    """A layer on one dialogue: x [u, d], source [u, d], valid [u]."""
    x = x if first else normalised(part.norm, x)
    source = x if source is None else source
    q, k, v = (
        linear(w, s) for w, s in ((part.attend.query, x), (part.attend.key, source), (part.attend.value, source))
    )
    heads = []
    for h in range(part.attend.heads):
        mine = slice(h * 3, h * 3 + 3)
        scores = (torch.einsum("ud,vd->uv", q[:, mine], k[:, mine]) / math.sqrt(3)).exp() * valid
        heads.append(torch.einsum("uv,vd->ud", scores / scores.sum(1, keepdim=True).clamp(min=1e-30), v[:, mine]))
    x = linear(part.attend.out, torch.cat(heads, dim=1)) + x
    inner = linear(part.feed[0][1], normalised(part.feed[0][0], x))
    gelu = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
    return linear(part.feed[1], gelu) + x


@pytest.mark.parametrize("layers", [1, 2])
def test_pairs_of_modalities_are_gated_reduced_and_weighed(layers: int) -> None:
    model, x, steps, turns = build("sdt", **SIZES, layers=layers), vectors(), masks(missing="audio"), talk()
    prediction = model(features(), steps, turns)
    for rows in DIALOGUES:
        there = {m: steps[m].any(1)[rows] for m in NAMES}
        added = sinusoids(len(rows), 6, like=x["text"]) + model.embed.weight[turns.speakers[rows]]
        given = {m: linear(model.project[m], x[m][rows]) + added for m in NAMES}
        fused = {}
        for target in NAMES:
            beside = []
            for source in NAMES:
                part, found = model.read[f"{source}->{target}"], given[target]
                for i, one in enumerate(part.layers):
                    found = layer(
                        one, found, None if source == target else given[source], there[source].float(), i == 0
                    )
                beside.append(torch.sigmoid(linear(part.gate, found)) * found)
            fused[target] = linear(model.reduce[target], torch.cat(beside, dim=1))
            said = linear(model.students[target][2], fused[target].relu())
            torch.testing.assert_close(prediction.parts[f"said_{target}"][rows], said)
        raw = torch.stack([linear(model.gate, fused[m]).exp() * there[m].unsqueeze(1) for m in NAMES])
        shares = raw / raw.sum(0)
        whole = torch.einsum("mud,mud->ud", shares, torch.stack([fused[m] for m in NAMES]))
        torch.testing.assert_close(prediction.logits[rows], linear(model.head, whole))
        for share, m in zip(shares.mean(2), NAMES, strict=True):
            torch.testing.assert_close(prediction.gates[m][rows], share)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_whole_teaches_each_modality_of_the_rows_that_have_it(temperature: float) -> None:
    model = build("sdt", **SIZES, temperature=temperature, teach_labels=0.5, teach_soft=2.0)
    model.begin(B, torch.arange(B), LABELS, CLASSES)
    prediction = model(features(), masks(missing="audio"), talk())
    expected = functional.cross_entropy(prediction.logits, LABELS)
    for m in NAMES:
        rows = [0, 2, 4] if m == "audio" else [0, 1, 2, 3, 4]
        said, taught = prediction.parts[f"said_{m}"][rows], prediction.logits[rows]
        p, q = ((z / temperature).exp() / (z / temperature).exp().sum(1, keepdim=True) for z in (taught, said))
        expected = expected + 0.5 * functional.cross_entropy(said, LABELS[rows])
        expected = expected + 2.0 * torch.einsum("bo,bo->b", p, (p / q).log()).mean()
    torch.testing.assert_close(model.loss(prediction, LABELS, torch.arange(B), Objective(CLASSES)), expected)


def test_several_heads_and_numbers_are_taught_as_what_they_are() -> None:
    model = build("sdt", **SIZES)
    said, taught = torch.tensor([[0.5, -1.0, 2.0, 0.0]]), torch.tensor([[1.0, 1.0, -1.0, 0.5]])
    model.begin(B, torch.arange(B), LABELS, Target("multilabel", ("a", "b")))
    p, q = (z.view(2, 2).softmax(1) for z in (taught, said))
    torch.testing.assert_close(model._distance(said, taught), (p * (p / q).log()).sum() / 2)
    model.begin(B, torch.arange(B), LABELS, NUMBERS)
    torch.testing.assert_close(model._distance(said, taught), torch.tensor((0.25 + 4 + 9 + 0.25) / 4))


def test_a_modality_that_no_row_has_teaches_nothing() -> None:
    model = build("sdt", **SIZES)
    silent = {m: mask & (m != "audio") for m, mask in masks().items()}
    prediction = model(features(), silent, talk())
    loss = model.loss(prediction, LABELS, torch.arange(B), Objective(CLASSES))
    loss.backward()
    assert loss.isfinite() and not prediction.gates["audio"].any()
    assert all(p.grad is None for p in model.students["audio"].parameters())


@pytest.mark.parametrize("settings", [{"heads": 7}, {"temperature": 0.0}, {"teach_soft": -1.0}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SDTConfig(**settings)


def test_its_parameters_are_those_of_its_layers() -> None:
    d = SIZES["hidden"]
    pair = 4 * d * d + 2 * d + 2 * d * (d + 1) + d * d
    total = 9 * pair + d * sum(DIMS.values()) + 2 * d + 3 * d * (3 * d + 1) + d * d + 4 * OUTPUTS * (d + 1)
    assert sum(p.numel() for p in build("sdt", **SIZES).parameters()) == total
