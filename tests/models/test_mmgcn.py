"""MMGCN: its edges and its layers, held against loops over pairs of nodes and against the equation of a layer."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from models._graph import GraphLayer, adjacency
from models.mmgcn import MMGCNConfig
from tests.contracts.model_cases import DIMS, OUTPUTS, B, features, masks, talk
from tests.models.dialogue_cases import DIALOGUES, build, linear, vectors

SIZES = {"project": 5, "context_hidden": 2, "context_layers": 1, "hidden": 3, "layers": 2, "speakers": 2}
NAMES = ("text", "audio", "visual")


def angle(a: torch.Tensor, b: torch.Tensor) -> float:
    return 1 - math.acos(0.99999 * float((a @ b / a.norm() / b.norm()).detach())) / math.pi


def edges_of(nodes: dict[tuple[int, int], torch.Tensor]) -> dict[tuple[tuple[int, int], tuple[int, int]], float]:
    """The normalised edges between nodes (modality, turn) -> vector."""
    raw = {
        (a, b): angle(nodes[a], nodes[b]) for a, b in itertools.product(nodes, repeat=2) if a[0] == b[0] or a[1] == b[1]
    }
    degree = {a: sum(weight for (start, _), weight in raw.items() if start == a) for a in nodes}
    return {(a, b): weight / math.sqrt(degree[a] * degree[b]) for (a, b), weight in raw.items()}


def test_nodes_of_one_modality_or_of_one_utterance_are_joined_by_their_angle() -> None:
    torch.manual_seed(0)
    nodes, present = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4) < 0.7
    found = adjacency(nodes, present)
    for c in range(2):
        known = {(m, u): nodes[c, m, u] for m in range(3) for u in range(4) if present[c, m, u]}
        expected = torch.zeros(12, 12)
        for (a, b), weight in edges_of(known).items():
            expected[a[0] * 4 + a[1], b[0] * 4 + b[1]] = weight
        torch.testing.assert_close(found[c], expected)
    assert not present.all() and found.isfinite().all()


def test_edges_have_a_finite_gradient_also_between_equal_nodes_and_at_missing_ones() -> None:
    nodes = torch.ones(1, 2, 2, 3).index_fill(2, torch.tensor([1]), 0.0).requires_grad_()
    adjacency(nodes, torch.tensor([[[True, False], [True, False]]])).sum().backward()
    assert nodes.grad is not None and nodes.grad.isfinite().all()


def test_a_layer_is_the_equation_of_gcnii() -> None:
    torch.manual_seed(0)
    layer = GraphLayer(hidden=3, alpha=0.2, decay=0.7, number=2)
    x, first, edges = torch.randn(2, 4, 3), torch.randn(2, 4, 3), torch.rand(2, 4, 4)
    near = torch.einsum("cmn,cnh->cmh", edges, x)
    theta = math.log(0.7 / 2 + 1)
    weighed = torch.einsum("oh,cnh->cno", layer.weigh.weight, torch.cat([near, first], dim=2))
    expected = theta * weighed + (1 - theta) * (0.8 * near + 0.2 * first)
    torch.testing.assert_close(layer(x, first, edges), expected)


def test_the_graph_of_each_dialogue_gives_the_logits_of_its_turns() -> None:
    model, steps, x = build("mmgcn", **SIZES), masks(missing="audio"), vectors()
    present = {m: steps[m].any(1) for m in NAMES}
    speakers, expected = talk().speakers, torch.empty(B, OUTPUTS)
    for rows in DIALOGUES:
        text = (
            model.context.cell(linear(model.project["text"], x["text"][rows]))[0] + model.embed.weight[speakers[rows]]
        )
        of = {"text": text, **{m: linear(model.project[m], x[m][rows]) for m in NAMES[1:]}}
        nodes = {(i, u): of[m][u] for i, m in enumerate(NAMES) for u, row in enumerate(rows) if present[m][row]}
        edges = edges_of(nodes)
        absent = [(i, u) for i in range(3) for u in range(len(rows)) if (i, u) not in nodes]
        given = {**nodes, **{node: torch.zeros(4) for node in absent}}
        first = {node: linear(model.enter, vector).relu() for node, vector in given.items()}
        state = first
        for layer in model.layers:
            near = {a: sum((w * state[b] for (s, b), w in edges.items() if s == a), torch.zeros(3)) for a in given}
            state = {
                a: (
                    layer.theta * layer.weigh.weight @ torch.cat([near[a], first[a]])
                    + (1 - layer.theta) * (0.9 * near[a] + 0.1 * first[a])
                ).relu()
                for a in given
            }
        for u, row in enumerate(rows):
            beside = torch.cat([part for i in range(3) for part in (given[i, u], state[i, u])])
            expected[row] = linear(model.head, beside.relu())
    torch.testing.assert_close(model(features(), steps, talk()).logits, expected)


def test_speakers_beyond_the_last_embedding_share_it() -> None:
    model, turns = build("mmgcn", **SIZES), talk()
    many, two = (turns._replace(speakers=turns.speakers * number) for number in (7, 1))
    assert torch.equal(model(features(), masks(), many).logits, model(features(), masks(), two).logits)
    one = turns._replace(speakers=turns.speakers * 0)
    assert not torch.equal(model(features(), masks(), one).logits, model(features(), masks(), two).logits)


@pytest.mark.parametrize("settings", [{"alpha": 1.5}, {"decay": 0.0}])
def test_impossible_shares_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        MMGCNConfig(**settings)  # type: ignore[arg-type]


def test_its_parameters_are_those_of_its_layers() -> None:
    h, n = 3, 4
    project = 5 * (DIMS["text"] + 1) + sum(n * (DIMS[m] + 1) for m in NAMES[1:])
    context = 2 * 4 * 2 * (5 + 2 + 2)
    graph = h * (n + 1) + 2 * (2 * h * h)
    total = project + context + 2 * n + graph + OUTPUTS * (3 * (n + h) + 1)
    assert sum(p.numel() for p in build("mmgcn", **SIZES).parameters()) == total
