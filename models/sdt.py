"""SDT: each modality attends to itself and to every other one over a dialogue, gates fuse them, and the whole teaches
each modality.

H. Ma et al., "A Transformer-Based Model With Self-Distillation for Multimodal Emotion Recognition in Conversations",
IEEE Transactions on Multimedia 2024. The settings are those of the authors' public code for IEMOCAP, but for biases of
attention, so that attention to a modality that the dialogue lacks is 0. As in the code, the soft labels of the teacher
have a gradient too. The paper has classes; numbers are distilled by their squared difference.

Shapes: B rows of the batch, C dialogues of U turns, M modalities, D features of a modality, d the hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._dialogue import speaker_numbers
from models._layers import PLAIN_ADAM, MultiHeadAttention, check_settings, masked_softmax, sinusoids
from pipeline.model import DialogueModel, Input, Prediction, Turns
from pipeline.stage import Target


@dataclass(frozen=True, kw_only=True)
class SDTConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    hidden: int = 1024
    heads: int = 8
    layers: int = 1
    speakers: int = 9  # all further speakers of a dialogue share the last embedding
    dropout: float = 0.5
    temperature: float = 1.0  # of the soft labels; the code has 8 for MELD
    teach_labels: float = 1.0  # the weight of each modality's own loss
    teach_soft: float = 1.0  # the weight of the distance to the soft labels

    def __post_init__(self) -> None:
        uneven = self.heads > 0 and self.hidden % self.heads
        check_settings(
            self,
            f"{self.heads} heads do not divide a hidden width of {self.hidden}" if uneven else "",
            "" if self.temperature > 0 else f"temperature must be above 0, got {self.temperature}",
            *(f"{name} must not be negative" for name in ("teach_labels", "teach_soft") if getattr(self, name) < 0),
        )


class Layer(nn.Module):
    """Attention of a target to a source, then a feed-forward network; all but the first layer normalise the target."""

    def __init__(self, config: SDTConfig, number: int) -> None:
        super().__init__()
        d = config.hidden
        self.attend = MultiHeadAttention(d, config.heads, config.dropout)
        self.norm = nn.LayerNorm(d, eps=1e-6) if number else nn.Identity()
        self.drop = nn.Dropout(config.dropout)
        widen = nn.Sequential(nn.LayerNorm(d, eps=1e-6), nn.Linear(d, d), nn.GELU("tanh"), nn.Dropout(config.dropout))
        self.feed = nn.Sequential(widen, nn.Linear(d, d), nn.Dropout(config.dropout))

    def forward(self, target: Tensor, source: Tensor | None, valid: Tensor) -> Tensor:
        """Maps target [C, U, d], source [C, U, d] (None: the target itself), its valid [C, U] to [C, U, d]."""
        x = self.norm(target)
        attended, _ = self.attend(x, x if source is None else source, valid)
        x = self.drop(attended) + x
        fed: Tensor = self.feed(x) + x
        return fed


class Transformer(nn.Module):
    """A modality's turns as another one's, or its own, add to them, through a gate of their own."""

    def __init__(self, config: SDTConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.layers))
        self.gate = nn.Linear(config.hidden, config.hidden, bias=False)

    def forward(self, target: Tensor, source: Tensor | None, valid: Tensor) -> Tensor:
        """Maps as `Layer` does."""
        x = target
        for layer in self.layers:
            x = layer(x, source, valid)
        gated: Tensor = self.gate(x).sigmoid() * x
        return gated


class SDT(DialogueModel):
    """Transformers of all pairs of modalities, a gate over modalities, a classifier for each and for all of them."""

    config: SDTConfig
    Config = SDTConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {
            **PLAIN_ADAM,
            "epochs": 150,
            "batch_size": 16,
            "learning_rate": 1e-4,
            "weight_decay": 1e-5,
        }
    )
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "w/o self-distillation": {"teach_labels": 0.0, "teach_soft": 0.0},
            "w/o hard labels": {"teach_labels": 0.0},
            "w/o soft labels": {"teach_soft": 0.0},
        }
    )

    def __init__(self, config: SDTConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        d = config.hidden
        self.project = nn.ModuleDict({m: nn.Linear(given.dim, d, bias=False) for m, given in self.inputs.items()})
        self.embed = nn.Embedding(config.speakers, d)
        self.drop = nn.Dropout(config.dropout)
        pairs = {f"{source}->{target}": (source, target) for target, source in product(self.inputs, repeat=2)}
        self.pairs, self.read = pairs, nn.ModuleDict({pair: Transformer(config) for pair in pairs})
        self.reduce = nn.ModuleDict({m: nn.Linear(len(self.inputs) * d, d) for m in self.inputs})
        self.gate = nn.Linear(d, d, bias=False)
        student = {m: nn.Sequential(nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(d, outputs)) for m in self.inputs}
        self.students, self.head = nn.ModuleDict(student), nn.Linear(d, outputs)
        self.heads: int | None = 1  # distributions in the logits; None for numbers

    def begin(self, count: int, rows: Tensor, labels: Tensor, target: Target) -> None:
        """Remembers what the outputs are."""
        self.heads = {"multiclass": 1, "multilabel": len(target.classes), "regression": None}[target.task]

    def forward(  # type: ignore[override]
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], turns: Turns
    ) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs], gates.

        The parts of the prediction are what each modality says alone, `said_<modality>` [B, outputs], and
        `present_<modality>`, bool [B].
        """
        present = {m: masks[m].any(dim=1) for m in self.inputs}  # [B]
        x = self._read(self.vectors(values, masks, turns), {m: turns.of_rows(p) for m, p in present.items()}, turns)
        rows = torch.stack([turns.to_rows(x[m]) for m in self.inputs], dim=1)  # [B, M, d]
        there = torch.stack(list(present.values()), dim=1).unsqueeze(2)  # [B, M, 1]
        shares = masked_softmax(self.gate(rows), there, dim=1)  # [B, M, d]
        gates = shares.detach() + ~there.any(dim=1, keepdim=True) / len(self.inputs)  # equal if nothing is there
        parts = {f"said_{m}": self.students[m](rows[:, i]) for i, m in enumerate(self.inputs)}
        parts |= {f"present_{m}": p for m, p in present.items()}
        logits = self.head((shares * rows).sum(dim=1))
        return Prediction(logits, dict(zip(self.inputs, gates.mean(dim=2).unbind(1), strict=True)), parts=parts)

    def _read(self, vectors: Mapping[str, Tensor], valid: Mapping[str, Tensor], turns: Turns) -> dict[str, Tensor]:
        """Modality -> [C, U, D] to modality -> [C, U, d], each beside all others; valid: modality -> [C, U]."""
        who = self.embed(speaker_numbers(turns, self.config.speakers))  # [C, U, d]
        where = sinusoids(who.shape[1], who.shape[2], like=who)
        x = {m: self.drop(self.project[m](vectors[m]) + where + who) for m in self.inputs}
        seen = {
            pair: self.read[pair](x[target], None if source == target else x[source], valid[source])
            for pair, (source, target) in self.pairs.items()
        }
        return {m: self.reduce[m](torch.cat([seen[f"{n}->{m}"] for n in self.inputs], dim=2)) for m in self.inputs}

    def loss(self, prediction: Prediction, labels: Tensor, rows: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        """The task's objective of all modalities and of each, and the distance of each to all of them."""
        total = objective(prediction.logits, labels)
        for m in self.inputs:
            assert prediction.parts is not None
            said, present = prediction.parts[f"said_{m}"], prediction.parts[f"present_{m}"]
            if present.any():
                total = total + self.config.teach_labels * objective(said[present], labels[present])
                total = total + self.config.teach_soft * self._distance(said[present], prediction.logits[present])
        return total

    def _distance(self, said: Tensor, taught: Tensor) -> Tensor:
        """The mean distance of said [b, outputs] to taught [b, outputs]: of distributions by Kullback and Leibler."""
        if self.heads is None:
            return functional.mse_loss(said, taught)
        student, teacher = (
            (x / self.config.temperature).unflatten(1, (self.heads, -1)).log_softmax(dim=2) for x in (said, taught)
        )
        return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=2).mean()
