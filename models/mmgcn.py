"""MMGCN: a graph whose nodes are the modalities of each utterance, weighed by their angles, under a deep convolution.

J. Hu et al., "MMGCN: Multimodal Fusion via Deep Graph Convolution Network for Emotion Recognition in Conversation",
ACL 2021. As in the authors' public code: text alone has a recurrence before the graph and the speaker's embedding, and
the settings are those of its script for IEMOCAP, but for `layers`, where the script has the 4 of the paper and the code
64 whatever the script says. Speakers are numbered within a dialogue here; the code has an embedding for each of the two
of IEMOCAP, and for each of the roles of MELD. A modality that an utterance lacks is a node without edges.

Shapes: B rows of the batch, C dialogues of U turns, M modalities, N = M U nodes of a dialogue, D features of a
modality, n the width of a node, h of the convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models._dialogue import Context, speaker_numbers
from models._graph import GraphLayer, adjacency
from models._layers import PLAIN_ADAM, check_settings
from pipeline.model import DialogueModel, Input, Prediction, Turns


@dataclass(frozen=True, kw_only=True)
class MMGCNConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    project: int = 200
    context_hidden: int = 100  # of each direction of the recurrence; a node has twice as many
    context_layers: int = 2
    hidden: int = 100
    layers: int = 4
    alpha: float = 0.1  # the share of the first layer in each
    decay: float = 0.5  # lambda: layer l is log(decay / l + 1) of its weights, the rest is what it gets
    speakers: int = 9  # all further speakers of a dialogue share the last embedding
    embed_speakers: bool = True
    dropout: float = 0.4

    def __post_init__(self) -> None:
        alpha = "" if 0 <= self.alpha <= 1 else f"alpha must be from 0 to 1, got {self.alpha}"
        check_settings(self, alpha, "" if self.decay > 0 else f"decay must be above 0, got {self.decay}")


class MMGCN(DialogueModel):
    """Nodes, their edges, layers of convolution over both, and each modality's node side by side before the logits."""

    config: MMGCNConfig
    Config = MMGCNConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {
            **PLAIN_ADAM,
            "epochs": 60,
            "batch_size": 16,
            "learning_rate": 3e-4,
            "weight_decay": 3e-5,
        }
    )
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"w/o speaker embedding": {"embed_speakers": False}}
    )

    def __init__(self, config: MMGCNConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        n = 2 * config.context_hidden
        widths = {m: config.project if m == "text" else n for m in self.inputs}
        self.project = nn.ModuleDict({m: nn.Linear(given.dim, widths[m]) for m, given in self.inputs.items()})
        context = Context("lstm", config.project, config.context_hidden, config.context_layers, config.dropout)
        self.context = context if "text" in self.inputs else None
        self.embed = nn.Embedding(config.speakers, n) if config.embed_speakers else None
        self.enter = nn.Linear(n, config.hidden)
        self.layers = nn.ModuleList(
            GraphLayer(config.hidden, config.alpha, config.decay, number + 1) for number in range(config.layers)
        )
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear((n + config.hidden) * len(self.inputs), outputs)

    def forward(  # type: ignore[override]
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], turns: Turns
    ) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs]."""
        present = torch.stack([turns.of_rows(masks[m].any(dim=1)) for m in self.inputs], dim=1)  # [C, M, U]
        nodes = self._nodes(self.vectors(values, masks, turns), turns) * present.unsqueeze(3)  # [C, M, U, n]
        edges = adjacency(nodes, present)  # [C, N, N]
        x = self.drop(nodes.flatten(1, 2))  # [C, N, n]
        first = state = self.enter(x).relu()
        for layer in self.layers:
            state = layer(self.drop(state), first, edges).relu()
        beside = torch.cat([x, self.drop(state)], dim=2).unflatten(1, nodes.shape[1:3])  # [C, M, U, n + h]
        rows = turns.to_rows(beside.transpose(1, 2).flatten(2))  # [B, M (n + h)]
        return Prediction(self.head(self.drop(rows).relu()))

    def _nodes(self, x: Mapping[str, Tensor], turns: Turns) -> Tensor:
        """Modality -> [C, U, D] to the nodes [C, M, U, n]; the first modality, text if it is there, has the speaker."""
        nodes = {m: self.project[m](x[m]) for m in self.inputs}
        if self.context is not None:
            nodes["text"] = self.context(nodes["text"], turns.mask)
        if self.embed is not None:
            nodes[next(iter(nodes))] += self.embed(speaker_numbers(turns, self.config.speakers))
        return torch.stack(list(nodes.values()), dim=1)
