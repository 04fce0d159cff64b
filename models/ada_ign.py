"""AdaIGN: a graph of the dialogue as it is, and one in which learned policies choose nodes and edges.

G. Tu et al., "Adaptive Graph Learning for Multimodal Conversational Emotion Detection", AAAI 2024. The parts and the
settings are those of the authors' public code and its script for IEMOCAP: edges within a modality go onward in time;
a node-level policy weakens the sound and the pictures of a turn, an edge-level policy weighs the turns of its speaker
against those of others, and a graph-level policy mixes both graphs. Text counts .8, each other modality .1.

Differences from the code: a policy belongs to a turn's place in its dialogue, where the code has another one for each
place in the batch, so that a row depends on its batch. Predictions take the policies' probabilities, where the code
draws. The temperature stays. All weights are learned by one optimiser; the code turns to the policies every other
epoch. The weighted terms of its loss of policies are means and not sums over turns. There are no pseudo labels,
which keep some nodes from being chosen. The objective is the task's, not a focal loss.

Shapes: B rows of the batch, C dialogues of U turns, M modalities, N = M U nodes of a dialogue, D features of a
modality, n the width of a node, h of the convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._dialogue import Context
from models._graph import GraphLayer, adjacency
from models._layers import PLAIN_ADAM, check_settings
from pipeline.model import DialogueModel, Input, Prediction, Turns

TEXT_SHARE, OTHER_SHARE = 0.8, 0.1


@dataclass(frozen=True, kw_only=True)
class AdaIGNConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    context_hidden: int = 100  # of each direction of the recurrence; a node has twice as many
    context_layers: int = 2
    hidden: int = 100
    layers: int = 16
    alpha: float = 0.2  # the share of the first layer in each
    decay: float = 0.5  # lambda, as in `mmgcn`
    places: int = 200  # turns with policies of their own; all further ones share the last
    temperature: float = 5.0  # of the Gumbel softmax
    maintain: float = 0.6  # weights of the loss: nodes and the whole graph are kept
    sparse: float = 0.1  # or left out
    importance: float = 0.9  # the speaker's own turns count
    not_importance: float = 0.2  # or those of others
    dropout: float = 0.4

    def __post_init__(self) -> None:
        alpha = "" if 0 <= self.alpha <= 1 else f"alpha must be from 0 to 1, got {self.alpha}"
        above = [name for name in ("decay", "temperature") if getattr(self, name) <= 0]
        check_settings(self, alpha, *(f"{name} must be above 0, got {getattr(self, name)}" for name in above))


class _Graph(nn.Module):
    """Nodes of the modalities and the convolution over them."""

    def __init__(self, config: AdaIGNConfig, inputs: Mapping[str, Input]) -> None:
        super().__init__()
        n = 2 * config.context_hidden
        self.project = nn.ModuleDict({m: nn.Linear(given.dim, n) for m, given in inputs.items()})
        context = Context("gru", n, config.context_hidden, config.context_layers, config.dropout)
        self.context = context if "text" in inputs else None
        self.enter = nn.Linear(n, config.hidden)
        self.layers = nn.ModuleList(
            GraphLayer(config.hidden, config.alpha, config.decay, number + 1) for number in range(config.layers)
        )
        self.drop = nn.Dropout(config.dropout)

    def nodes(self, x: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Modality -> [C, U, D] to the nodes [C, M, U, n]; text alone has a recurrence, in both directions."""
        nodes = {m: self.project[m](x[m]) for m in self.project}
        if self.context is not None:
            nodes["text"] = self.context(nodes["text"], mask)
        return torch.stack(list(nodes.values()), dim=1)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Nodes [C, M, U, n] and edges [C, N, N] to [C, M, U, h]."""
        first = self.enter(self.drop(nodes.flatten(1, 2))).relu()
        state = self.drop(first)
        for layer in self.layers:
            state = self.drop(layer(state, first, edges).relu())
        return state.unflatten(1, nodes.shape[1:3])


class AdaIGN(DialogueModel):
    """Both graphs, mixed by the graph-level policy, beside the nodes of the first one, through one linear layer."""

    config: AdaIGNConfig
    Config = AdaIGNConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {**PLAIN_ADAM, "epochs": 60, "batch_size": 32, "learning_rate": 3e-4, "weight_decay": 1e-4}
    )

    def __init__(self, config: AdaIGNConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.whole, self.chosen = _Graph(config, self.inputs), _Graph(config, self.inputs)
        self.keep = nn.ParameterDict({m: _policies(config.places) for m in self.inputs if m != "text"})  # node level
        self.own = nn.ParameterDict({m: _policies(config.places) for m in self.inputs})  # edge level
        self.mix = _policies(1)  # graph level
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(len(self.inputs) * (2 * config.context_hidden + config.hidden), outputs)
        shares = [TEXT_SHARE if m == "text" else OTHER_SHARE for m in self.inputs]
        self.register_buffer("shares", torch.tensor(shares).view(-1, 1, 1), persistent=False)

    def forward(  # type: ignore[override]
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], turns: Turns
    ) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs]."""
        x, size = self.vectors(values, masks, turns), turns.mask.shape
        present = torch.stack([turns.of_rows(masks[m].any(dim=1)) for m in self.inputs], dim=1)  # [C, M, U]
        kept = {m: x[m] * self._drawn(self.keep[m], *size).unsqueeze(2) if m in self.keep else x[m] for m in x}
        own = torch.stack([self._drawn(self.own[m], *size) for m in self.inputs], dim=1)  # [C, M, U]
        nodes = self.whole.nodes(x, turns.mask) * present.unsqueeze(3)  # [C, M, U, n]
        chosen = self.chosen.nodes(kept, turns.mask) * present.unsqueeze(3)
        whole_edges = adjacency(nodes, present, onward(torch.ones_like(own), turns))
        chosen_edges = adjacency(chosen, present, onward(own, turns, by_speaker=True))
        mix = self._drawn(self.mix, 1, 1)
        mixed = mix * self.whole(nodes, whole_edges) + (1 - mix) * self.chosen(chosen, chosen_edges)  # [C, M, U, h]
        beside = torch.cat([mixed, nodes], dim=3) * self.get_buffer("shares")
        rows = turns.to_rows(beside.transpose(1, 2).flatten(2))  # [B, M (h + n)]
        return Prediction(self.head(self.drop(rows).relu()))

    def _drawn(self, policies: Tensor, dialogues: int, turns: int) -> Tensor:
        """The share [C, U] of the first choice of policies [places, 2]: drawn in training, else its probability."""
        places = torch.arange(turns, device=policies.device).clamp(max=len(policies) - 1)
        logits = policies[places].expand(dialogues, -1, -1)
        if self.training:
            return functional.gumbel_softmax(logits, self.config.temperature)[..., 0]
        return logits.softmax(dim=2)[..., 0]

    def loss(self, prediction: Prediction, labels: Tensor, rows: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        """The task's objective, and what draws the policies to one choice or the other and to each other."""
        c, keep, own = self.config, list(self.keep.values()), list(self.own.values())
        return (
            objective(prediction.logits, labels)
            + c.maintain * (_towards(0, [*keep, self.mix]) + _apart(keep))
            + c.sparse * _towards(1, [*keep, self.mix])
            + c.importance * (_towards(0, own) + _apart(own))
            + c.not_importance * _towards(1, own)
        )


def _policies(places: int) -> nn.Parameter:
    return nn.Parameter(0.1 * torch.randn(places, 2))


def _towards(choice: int, policies: list[nn.Parameter]) -> Tensor:
    """The cross entropy of policies [places, 2] against one choice, the mean over places, summed over policies."""
    return torch.stack([-p.log_softmax(dim=1)[:, choice].mean() for p in policies]).sum()


def _apart(policies: list[nn.Parameter]) -> Tensor:
    """How far the first logits of each two policies are apart, later places counting more, the mean over places."""
    apart = [(a[:, 0] - b[:, 0]).abs() for a, b in combinations(policies, 2)]  # [places]
    pairs = [(d * torch.arange(1, len(d) + 1, device=d.device) / len(d)).mean() for d in apart]
    return torch.stack(pairs).sum() if pairs else torch.zeros(())


def onward(own: Tensor, turns: Turns, by_speaker: bool = False) -> Tensor:
    """Weights of the edges [C, N, N]: 1 between modalities, within one from earlier turns and the turn itself alone.

    own: the share [C, M, U] that the turns of its speaker have for a turn; those of others have the rest. by_speaker:
    without it, every earlier turn has 1.
    """
    size, count = own.shape[2], own.shape[1]
    earlier = torch.ones(size, size, device=own.device).tril().expand(len(own), count, size, size)  # [C, M, U, U]
    if by_speaker:
        speakers = turns.of_rows(turns.speakers)  # [C, U]
        same = (speakers.unsqueeze(2) == speakers.unsqueeze(1)).unsqueeze(1)  # [C, 1, U, U]
        earlier = earlier * torch.where(same, own.unsqueeze(3), 1 - own.unsqueeze(3))
    modality = torch.eye(count, device=own.device).view(1, count, 1, count, 1)
    within = modality * earlier.unsqueeze(3)  # [C, M, U, M, U]
    return (within + (1 - modality)).flatten(3, 4).flatten(1, 2)
