"""MultiEMO: DialogueRNN reads each modality, attention to all turns joins them, contrast separates the classes.

T. Shi and S. Huang, "MultiEMO: An Attention-Based Correlation-Aware Multimodal Fusion Framework for Emotion Recognition
in Conversations", ACL 2023. Settings and details are those of the authors' public code for IEMOCAP, with these
differences: attention has no biases and sees no padding; the learning rate does not fall on a plateau; a modality that
an utterance lacks is no source of attention, and 0 where the modalities are joined. The contrastive loss is for one
class of several: other targets are learned without it.

Shapes: B rows of the batch, C dialogues of U turns, D features of a modality, d the width of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._dialogue import SpeakerStates, StateSizes
from models._layers import PLAIN_ADAM, FeedForward, MultiHeadAttention, check_settings
from pipeline.model import DialogueModel, Input, Prediction, Turns
from pipeline.stage import Target


@dataclass(frozen=True, kw_only=True)
class MultiEMOConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    width: int = 256
    heads: int = 4
    layers: int = 6  # the code has 2 for MELD
    inner: int = 1024  # of the feed-forward networks
    rec_dropout: float = 0.0
    dropout: float = 0.0
    attend: bool = True
    contrast_share: float = 0.4  # of the loss
    correlation_share: float = 0.4  # of the loss; the task has the rest
    temperature: float = 0.8
    focus: float = 2.4  # how much more pairs count that are hard to tell; at least 1
    rare: float = 1.1  # the power of a class's inverse frequency that is its weight

    def __post_init__(self) -> None:
        uneven = self.heads > 0 and self.width % self.heads
        shares = (self.contrast_share, self.correlation_share)
        check_settings(
            self,
            f"{self.heads} heads do not divide a width of {self.width}" if uneven else "",
            ""
            if min(shares) >= 0 and sum(shares) < 1
            else f"shares must not be negative, and below 1 in sum: {shares}",
            "" if self.temperature > 0 else f"temperature must be above 0, got {self.temperature}",
            "" if self.focus >= 1 else f"focus must be at least 1, got {self.focus}",
        )


class Layer(nn.Module):
    """A modality attends to each other one in turn; a LayerNorm follows each step and the feed-forward network."""

    def __init__(self, config: MultiEMOConfig, others: int) -> None:
        super().__init__()
        d, dropout = config.width, config.dropout
        self.attend = nn.ModuleList(MultiHeadAttention(d, config.heads, 0.0) for _ in range(others))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(others + 1))
        self.feed = FeedForward(d, config.inner, 0.0, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, others: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Maps x [C, U, d] and, of each other modality, its turns [C, U, d] and the valid ones [C, U], to [C, U, d]."""
        for attend, norm, (other, valid) in zip(self.attend, self.norms[:-1], others, strict=True):
            x = norm(x + self.drop(attend(x, other, valid)[0]))
        fed: Tensor = self.norms[-1](x + self.drop(self.feed(x)))
        return fed


class MultiEMO(DialogueModel):
    """Recurrences of each modality over the turns, layers of attention to the others, and two layers to the logits."""

    config: MultiEMOConfig
    Config = MultiEMOConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {
            **PLAIN_ADAM,
            "epochs": 100,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "weight_decay": 1e-5,
        }
    )
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "w/o MultiAttn": {"attend": False},
            "w/o SWFC": {"contrast_share": 0.0},
            "w/o Soft-HGR": {"correlation_share": 0.0},
        }
    )

    def __init__(self, config: MultiEMOConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        d, names = config.width, list(self.inputs)
        self.project = nn.ModuleDict({m: nn.Linear(given.dim, d) for m, given in self.inputs.items()})
        sizes = StateSizes(d, d, d)
        self.states = nn.ModuleDict({m: SpeakerStates(d, sizes, config.rec_dropout, matched=False) for m in names})
        self.narrow = nn.ModuleDict({m: nn.Linear(2 * d, d) for m in names})
        self.drop = nn.Dropout(config.dropout)
        layers = config.layers if config.attend else 0
        stacks = {m: nn.ModuleList(Layer(config, len(names) - 1) for _ in range(layers)) for m in names}
        self.layers = nn.ModuleDict(stacks)
        self.join = nn.Linear(len(names) * d, d)
        self.dense, self.head = nn.Linear(d, d), nn.Linear(d, outputs)
        self.register_buffer("class_weights", torch.zeros(0), persistent=False)

    def begin(self, count: int, rows: Tensor, labels: Tensor, target: Target) -> None:
        """Weighs each class by its inverse frequency among the train rows; without classes there is no contrast."""
        if target.task == "multiclass":
            counts = labels.long().bincount(minlength=len(target.classes)).clamp(min=1)
            weights = (counts.sum() / counts) ** self.config.rare
            self.class_weights = (weights / weights.sum()).to(next(self.parameters()).device)

    def forward(  # type: ignore[override]
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], turns: Turns
    ) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs].

        The parts of the prediction are `joined` [B, d], and for a modality `fused_<modality>` [B, d] and
        `present_<modality>`, bool [B].
        """
        present = {m: masks[m].any(dim=1) for m in self.inputs}  # [B]
        valid = {m: turns.of_rows(p) for m, p in present.items()}  # [C, U]
        x = self._contexts(self.vectors(values, masks, turns), turns)
        fused = {m: turns.to_rows(self._fused(m, x, valid)) * present[m].unsqueeze(1) for m in self.inputs}  # [B, d]
        joined = self.join(torch.cat(list(fused.values()), dim=1))  # [B, d]
        parts = {"joined": joined, **{f"fused_{m}": f for m, f in fused.items()}}
        parts |= {f"present_{m}": p for m, p in present.items()}
        return Prediction(self.head(self.drop(self.dense(joined).relu())), parts=parts)

    def _contexts(self, vectors: Mapping[str, Tensor], turns: Turns) -> dict[str, Tensor]:
        """Modality -> [C, U, D] to its turns among the others of the dialogue, [C, U, d]."""
        speakers, contexts = turns.of_rows(turns.speakers), {}
        for m in self.inputs:
            states = self.states[m](self.project[m](vectors[m]), speakers, turns.mask)  # [C, U, 2 d]
            contexts[m] = self.drop(self.narrow[m](states)).relu()
        return contexts

    def _fused(self, modality: str, x: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """The turns of a modality after its attention to those of the others, [C, U, d]."""
        others = [(x[m], valid[m]) for m in self.inputs if m != modality]
        fused = x[modality]
        for layer in self.layers[modality].children():
            fused = layer(fused, others)
        return fused

    def loss(self, prediction: Prediction, labels: Tensor, rows: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        """The task's objective, the contrast between classes, and the correlation of modalities, by their shares."""
        parts, config = prediction.parts, self.config
        assert parts is not None
        task = 1 - config.contrast_share - config.correlation_share
        total = task * objective(prediction.logits, labels)
        if len(self.class_weights):
            contrasted = contrast(parts["joined"], labels, self.class_weights, config.temperature, config.focus)
            total = total + config.contrast_share * contrasted
        for one, other in combinations(self.inputs, 2):
            both = parts[f"present_{one}"] & parts[f"present_{other}"]
            correlated = correlation(parts[f"fused_{one}"][both], parts[f"fused_{other}"][both])
            total = total - config.correlation_share * correlated
        return total


def contrast(x: Tensor, labels: Tensor, class_weights: Tensor, temperature: float, focus: float) -> Tensor:
    """The sample-weighted focal contrastive loss of rows x [B, d] with classes `labels` [B].

    Each row takes the others of the batch with probabilities by their cosine; log(p) (1 - p)^focus is averaged over
    those of its class, and weighed by the class.
    """
    x = functional.normalize(x, dim=1)
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    scores = (x @ x.mT / temperature).masked_fill(itself, torch.finfo(x.dtype).min)
    log_p = scores.log_softmax(dim=1)
    alike = (labels.unsqueeze(1) == labels) & ~itself
    hard = (log_p * (1 - log_p.exp()).clamp(min=0) ** focus).masked_fill(~alike, 0.0)
    return -(hard.sum(dim=1) / alike.sum(dim=1).clamp(min=1) * class_weights[labels]).mean()


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """The soft correlation of rows x, y [b, d] as the code has it; 0 without rows.

    It is the mean inner product, less half the trace of the product of the rows' covariances [b, b] over b, over b.
    """
    count = max(len(x), 1)
    inner = (x * y).sum() / count
    both = (x - x.mean(dim=1, keepdim=True)).mT @ (y - y.mean(dim=1, keepdim=True)) / (x.shape[1] - 1)  # [d, d]
    return (inner - both.square().sum() / count / 2) / count
