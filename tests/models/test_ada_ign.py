"""AdaIGN: its edges and its output, held against loops over pairs of nodes, and its loss against a hand computation."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from models.ada_ign import AdaIGNConfig, _apart, _towards
from tests.contracts.model_cases import OUTPUTS, B, features, masks, talk
from tests.models.dialogue_cases import DIALOGUES, build, linear, vectors

SIZES: dict[str, Any] = {"context_hidden": 2, "context_layers": 1, "hidden": 3, "layers": 2, "places": 2}
NAMES = ("text", "audio", "visual")
Nodes = dict[tuple[int, int], Tensor]


def share(policies: Tensor, turn: int) -> Tensor:
    return policies[min(turn, len(policies) - 1)].softmax(0)[0]


def convolved(graph: Any, nodes: Nodes, weight: Any) -> Nodes:
    """The nodes (modality, turn) after two layers; `weight` of an edge from the second node to the first."""
    raw = {}
    for a, b in itertools.product(nodes, repeat=2):
        if a[0] == b[0] or a[1] == b[1]:
            cosine = nodes[a] @ nodes[b] / nodes[a].norm() / nodes[b].norm()
            raw[a, b] = (1 - math.acos(0.99999 * float(cosine)) / math.pi) * weight(a, b)
    degree = {a: sum(edge for (start, _), edge in raw.items() if start == a) for a in nodes}
    first = state = {a: linear(graph.enter, x).relu() for a, x in nodes.items()}
    for number, layer in enumerate(graph.layers, 1):
        theta, now = math.log(0.5 / number + 1), {}
        for a in nodes:
            near = sum(edge / (degree[a] * degree[b]) ** 0.5 * state[b] for (s, b), edge in raw.items() if s == a)
            both = linear(layer.weigh, torch.cat([near, first[a]]))
            now[a] = (theta * both + (1 - theta) * (0.8 * near + 0.2 * first[a])).relu()
        state = now
    return state


def weight(model: Any, speakers: list[int], chosen: bool, a: tuple[int, int], b: tuple[int, int]) -> float:
    """Of the edge from node b to node a: between modalities 1, within one nothing from a later turn."""
    if a[0] != b[0]:
        return 1.0
    own = float(share(model.own[NAMES[a[0]]], a[1]))
    among = (own if speakers[a[1]] == speakers[b[1]] else 1 - own) if chosen else 1.0
    return among if b[1] <= a[1] else 0.0


@torch.no_grad()
def test_the_logits_are_those_of_both_graphs_written_out_pair_by_pair() -> None:
    model, turns, steps = build("ada_ign", **SIZES), talk(), masks(missing="audio")
    x, expected = vectors(), torch.zeros(B, OUTPUTS)
    mix = float(share(model.mix, 0))
    for rows in DIALOGUES:
        graphs, speakers = [], [int(turns.speakers[row]) for row in rows]
        for graph, chosen in ((model.whole, False), (model.chosen, True)):
            nodes: Nodes = {}
            for i, m in enumerate(NAMES):
                scale = [float(share(model.keep[m], u)) if chosen and m != "text" else 1.0 for u in range(len(rows))]
                said = torch.stack([linear(graph.project[m], scale[u] * x[m][row]) for u, row in enumerate(rows)])
                said = graph.context.cell(said[None])[0][0] if m == "text" else said
                nodes |= {(i, u): said[u] for u, row in enumerate(rows) if steps[m][row].any()}
            graphs.append((nodes, convolved(graph, nodes, partial(weight, model, speakers, chosen))))
        for u, row in enumerate(rows):
            beside = []
            for i, part in enumerate((0.8, 0.1, 0.1)):
                if (i, u) in graphs[0][0]:
                    mixed = mix * graphs[0][1][i, u] + (1 - mix) * graphs[1][1][i, u]
                    beside.append(part * torch.cat([mixed, graphs[0][0][i, u]]))
                else:
                    alone = [linear(g.enter, torch.zeros(4)).relu() for g in (model.whole, model.chosen)]
                    states = [_lonely(g, first) for g, first in zip((model.whole, model.chosen), alone, strict=True)]
                    beside.append(part * torch.cat([mix * states[0] + (1 - mix) * states[1], torch.zeros(4)]))
            expected[row] = linear(model.head, torch.cat(beside).relu())
    torch.testing.assert_close(model(features(), steps, turns).logits, expected, rtol=1e-4, atol=1e-5)


def _lonely(graph: Any, first: Tensor) -> Tensor:
    """A node without edges after two layers."""
    state = first
    for number, layer in enumerate(graph.layers, 1):
        theta, near = math.log(0.5 / number + 1), torch.zeros(3)
        both = linear(layer.weigh, torch.cat([near, first]))
        state = (theta * both + (1 - theta) * 0.2 * first).relu()
    return state


def test_policies_are_drawn_in_training_alone() -> None:
    model = build("ada_ign", **(SIZES | {"dropout": 0.0}))
    given = (features(), masks(), talk())
    assert torch.equal(model(*given).logits, model(*given).logits)
    model.train()
    assert not torch.equal(model(*given).logits, model(*given).logits)


@torch.no_grad()
def test_a_policy_is_drawn_to_its_choices_and_to_the_others() -> None:
    a = torch.nn.Parameter(torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]))
    b = torch.nn.Parameter(torch.tensor([[1.0, 0.0], [math.log(3) - 2, 0.0]]))
    assert float(_towards(0, [a])) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert float(_towards(1, [a])) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert float(_apart([a, b])) == pytest.approx((0.5 * 1 + 1.0 * 2) / 2)
    assert float(_apart([a])) == 0


@pytest.mark.parametrize("settings", [{"alpha": 1.5}, {"decay": 0.0}, {"temperature": -1.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        AdaIGNConfig(**settings)  # type: ignore[arg-type]
