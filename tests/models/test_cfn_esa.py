"""CFN-ESA: its layers and its loss of emotion shift, held against einsums over one dialogue at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.cfn_esa import CFNESAConfig
from pipeline.objective import Objective
from pipeline.stage import Target
from tests.contracts.model_cases import DIMS, OUTPUTS, B, features, masks, talk
from tests.models.dialogue_cases import DIALOGUES, build, linear, vectors

SIZES = {"width": 4, "heads": 2, "layers": 2, "context_layers": 2, "shift_hidden": 3}
NAMES = ("text", "audio", "visual")
CLASSES, NUMBER = Target("multiclass", ("a", "b", "c")), Target("regression", ())
LABELS = torch.tensor([0, 2, 1, 1, 0])


def normalised(norm: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def fed(part: Any, x: Tensor) -> Tensor:
    return linear(part[1], linear(part[0][0], x).relu())


def attended(part: Any, x: Tensor, source: Tensor, valid: Tensor) -> Tensor:
    """Two heads of width 2, of which only valid turns are seen: x [u, d], source [u, d], valid [u]."""
    q, k, v = linear(part.query, x), linear(part.key, source), linear(part.value, source)
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        weights = (torch.einsum("ud,vd->uv", q[:, h], k[:, h]) / math.sqrt(2)).exp() * valid
        heads.append(torch.einsum("uv,vd->ud", weights / weights.sum(1, keepdim=True).clamp(min=1e-30), v[:, h]))
    return linear(part.out, torch.cat(heads, dim=1))


def recurrent(part: Any, x: Tensor) -> Tensor:
    read = normalised(part.norms[0], x + linear(part.narrow, part.context.cell(x)[0]))
    return normalised(part.norms[1], x + read + fed(part.feed, read))


def crossing(part: Any, x: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
    own = {m: normalised(part.norms[m][0], f + attended(part.itself[m], f, f, valid[m])) for m, f in x.items()}
    seen = [attended(part.look[m], own["text"], own[m], valid[m]) for m in NAMES[1:]]
    crossed = {m: attended(part.back[m], own[m], own["text"], valid["text"]) for m in NAMES[1:]}
    crossed["text"] = linear(part.mix, torch.cat(seen, dim=1)).relu()
    joined = {m: normalised(part.norms[m][1], x[m] + own[m] + crossed[m]) for m in NAMES}
    return {m: normalised(part.norms[m][2], x[m] + joined[m] + fed(part.feed[m], joined[m])) for m in NAMES}


def test_recurrences_are_shared_and_attention_is_centred_on_text() -> None:
    model, given, steps = build("cfn_esa", **SIZES), vectors(), masks(missing="audio")
    expected = torch.empty(B, OUTPUTS)
    for rows in DIALOGUES:
        valid = {m: steps[m].any(1)[rows].float() for m in NAMES}
        x = {m: linear(model.project[m], given[m][rows]) for m in NAMES}
        for layer in model.recurrent:
            x = {m: recurrent(layer, turn) for m, turn in x.items()}
        for layer in model.crossing:
            x = crossing(layer, x, valid)
        joined = linear(model.join, torch.cat([x[m] * valid[m].unsqueeze(1) for m in NAMES], dim=1)).relu()
        expected[rows] = linear(model.head, joined)
    torch.testing.assert_close(model(features(), steps, talk()).logits, expected)


@pytest.mark.parametrize(("target", "labels", "differ"), [
    (CLASSES, LABELS, lambda a, b: a != b),
    (Target("multilabel", ("a", "b")), torch.tensor([[0, 1], [0, 0], [0, 1], [1, 1], [1, 1]]), lambda a, b: a != b),
    (NUMBER, torch.tensor([-2.0, 0.5, 1.0, 3.0, 0.6]), lambda a, b: (a > 0.62) != (b > 0.62)),
], ids=["classes", "heads", "numbers"])  # fmt: skip
def test_each_two_turns_of_a_dialogue_say_whether_the_label_shifts(target: Target, labels: Tensor, differ: Any) -> None:
    model = build("cfn_esa", **SIZES, shift_weight=0.7)
    model.begin(B, torch.arange(B), labels, target)
    prediction = model(features(), masks(), talk())
    joined, losses = prediction.parts["joined"], []
    for c, rows in enumerate(DIALOGUES):
        for u, one in enumerate(rows):
            for v, other in enumerate(rows):
                pair = torch.cat([joined[c, u], joined[c, v]])
                said = linear(model.shift, linear(model.pair, pair).relu())
                shift = torch.as_tensor(differ(labels[one], labels[other])).any()
                losses.append(-said.log_softmax(0)[int(shift)])
    task = torch.tensor(2.5)
    loss = model.loss(prediction, labels, torch.arange(B), lambda *_: task)
    assert len(losses) == 9 + 4
    torch.testing.assert_close(loss, task + 0.7 * torch.stack(losses).mean())


def test_in_training_a_pair_holds_each_turn_under_another_dropout() -> None:
    model = build("cfn_esa", **SIZES)
    assert torch.equal(*(model(features(), masks(), talk()).parts[name] for name in ("joined", "again")))
    parts = model.train()(features(), masks(), talk()).parts
    assert not torch.allclose(parts["joined"], parts["again"])


def test_without_emotion_shift_the_loss_is_the_tasks() -> None:
    model = build("cfn_esa", **SIZES, shift_weight=0.0)
    prediction = model(features(), masks(), talk())
    loss = model.loss(prediction, LABELS, torch.arange(B), Objective(CLASSES))
    torch.testing.assert_close(loss, functional.cross_entropy(prediction.logits, LABELS))


@pytest.mark.parametrize("settings", [{"heads": 3}, {"shift_weight": -1.0}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        CFNESAConfig(**settings)


def test_its_parameters_are_those_of_its_layers() -> None:
    d, h = 4, 3
    feed = 2 * d * (d + 1) + d * (2 * d + 1)
    shared = 2 * (2 * 3 * d * (2 * d + 2) + d * (2 * d + 1) + feed + 2 * 2 * d)
    crossed = 2 * (7 * 4 * d * d + d * (2 * d + 1) + 3 * (feed + 3 * 2 * d))
    ends = sum(d * (dim + 1) for dim in DIMS.values()) + d * (3 * d + 1) + OUTPUTS * (d + 1)
    total = shared + crossed + ends + h * (2 * d + 1) + 2 * (h + 1)
    assert sum(p.numel() for p in build("cfn_esa", **SIZES).parameters()) == total
