"""Self-MM: beside the label, each modality learns a label of its own, which training derives from distances to centres.

W. Yu et al., "Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for Multimodal
Sentiment Analysis", AAAI 2021. Labels are derived as in the authors' code (relative distances by the positive centre).
Settings are those that MMSA publishes for MOSI; it trains with a learning rate for each part, and this loop with one.
The paper fine-tunes BERT; here an LSTM reads text as it reads sound and pictures, and MMSA's linear layer behind the
LSTMs of sound and pictures is left out.

Shapes: B rows of the batch, N rows of the view, T steps, D features of a modality, M modalities, d width of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._cross_modal import Front
from models._layers import PLAIN_ADAM, LastState, check_settings
from pipeline.model import Input, Model, Prediction
from pipeline.stage import Target

FUSION = "fusion"
TINY = 1e-8


@dataclass(frozen=True, kw_only=True)
class SelfMMConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    text_hidden: int = 64
    audio_hidden: int = 16
    visual_hidden: int = 32
    text_post: int = 32
    audio_post: int = 16
    visual_post: int = 32
    fused: int = 128
    dropout: float = 0.1  # of text and sound alone
    limit: float = 3.0  # of the derived labels, which are from -limit to limit
    cross_modal: bool = False  # X20: directed attention between modalities before the LSTMs

    def __post_init__(self) -> None:
        check_settings(self, "" if self.limit > 0 else f"limit must be above 0, got {self.limit}")


class Task(nn.Module):
    """A state, and what it says: [B, width] -> [B, d], [B, outputs]."""

    def __init__(self, width: int, d: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, d), nn.ReLU())
        self.last = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, outputs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x [B, width] to the state [B, d] and the prediction [B, outputs]."""
        state = self.first(x)
        return state, self.last(state)


class SelfMM(Model):
    """An LSTM for each modality, a task for each and one for all of them side by side.

    It learns one number whose sign has a meaning: of classes and of several numbers it can predict, but not train.
    """

    config: SelfMMConfig
    Config = SelfMMConfig
    features: ClassVar[str] = "mulg"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {**PLAIN_ADAM, "batch_size": 16, "weight_decay": 0.001}
    )

    def __init__(self, config: SelfMMConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.front = Front(self.inputs, config.cross_modal)
        hidden = {"text": config.text_hidden, "audio": config.audio_hidden, "visual": config.visual_hidden}
        post = {"text": config.text_post, "audio": config.audio_post, "visual": config.visual_post}
        self.widths = {FUSION: config.fused, **{m: post[m] for m in self.inputs}}
        self.read = nn.ModuleDict({m: LastState(nn.LSTM, dim, hidden[m], 1) for m, dim in self.front.dims.items()})
        dropout = {"text": config.dropout, "audio": config.dropout, "visual": 0.0}
        self.tasks = nn.ModuleDict({m: Task(hidden[m], post[m], outputs, dropout[m]) for m in self.inputs})
        self.fuse = Task(sum(hidden[m] for m in self.inputs), config.fused, outputs, 0.0)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs].

        The parts of the prediction are `state_<task>` [B, d], and for a modality `said_<modality>` [B, outputs] and
        `present_<modality>`, bool [B].
        """
        x, steps, maps = self.front(self.standardise({m: values[m] for m in self.inputs}, masks), masks, self.maps)
        last = {m: self.read[m](x[m], steps[m]) for m in self.inputs}  # [B, h]
        parts = {}
        parts[f"state_{FUSION}"], logits = self.fuse(torch.cat(list(last.values()), dim=1))
        for m, state in last.items():
            parts[f"state_{m}"], parts[f"said_{m}"] = self.tasks[m](state)
            parts[f"present_{m}"] = steps[m].any(dim=1)
        return Prediction(logits, attention=maps, parts=parts)

    def begin(self, count: int, rows: Tensor, labels: Tensor, target: Target) -> None:
        """Begins with the row's label for every modality."""
        for name in (FUSION, *self.inputs):
            self._keep(f"label_{name}", torch.zeros(count).index_put((rows,), labels))
            self._keep(f"state_{name}", torch.zeros(count, self.widths[name]))
            self._keep(f"known_{name}", torch.zeros(count, dtype=torch.bool))
        self._keep("visits", torch.zeros(count))

    @classmethod
    def learns(cls, target: Target) -> bool:
        """Labels are derived from the sign of one number, so the target is one."""
        return target.task == "regression" and not target.several

    def _keep(self, name: str, content: Tensor) -> None:
        self.register_buffer(name, content.to(next(self.parameters()).device), persistent=False)

    def loss(self, prediction: Prediction, labels: Tensor, rows: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        """The task's objective, and for each modality the weighted error of what it says.

        The weight is the hyperbolic tangent of the distance between the modality's label and the row's. From the second
        epoch on, labels of modalities move as training proceeds.
        """
        parts = prediction.parts
        assert parts is not None
        total = objective(prediction.logits, labels)
        for m in self.inputs:
            own = self.get_buffer(f"label_{m}")[rows]
            weight = (own - labels).abs().tanh() * parts[f"present_{m}"]
            total = total + (weight * (parts[f"said_{m}"].squeeze(1) - own).abs()).mean()
        self._learn({name: part.detach() for name, part in parts.items()}, rows)
        return total

    @torch.no_grad()
    def _learn(self, parts: Mapping[str, Tensor], rows: Tensor) -> None:
        """From the second visit of a row on derives its labels anew, then keeps its states."""
        again = self.get_buffer("visits")[rows] > 0  # [B]
        epoch = self.get_buffer("visits")[rows] + 1
        label, base = self.get_buffer(f"label_{FUSION}")[rows], self._nearness(FUSION, parts)
        for m in self.inputs:
            kept, limit = self.get_buffer(f"label_{m}"), self.config.limit
            derived = derive(label, self._nearness(m, parts), base).clamp(-limit, limit)
            moved = (epoch - 1) / (epoch + 1) * kept[rows] + 2 / (epoch + 1) * derived
            kept[rows] = torch.where(again & parts[f"present_{m}"] & moved.isfinite(), moved, kept[rows])
        for name in (FUSION, *self.inputs):
            self.get_buffer(f"state_{name}")[rows] = parts[f"state_{name}"]
            self.get_buffer(f"known_{name}")[rows] = parts.get(f"present_{name}", torch.ones_like(again))
        self.get_buffer("visits")[rows] = epoch

    def _nearness(self, name: str, parts: Mapping[str, Tensor]) -> Tensor:
        """How much nearer states [B, d] are to the centre of the positive rows than to that of the negative, [B]."""
        kept, label = self.get_buffer(f"state_{name}"), self.get_buffer(f"label_{name}")
        known = self.get_buffer(f"known_{name}")
        centres = (kept[known & (label > 0)].mean(dim=0), kept[known & (label < 0)].mean(dim=0))  # nan without rows
        to_positive, to_negative = ((parts[f"state_{name}"] - centre).norm(dim=1) for centre in centres)
        return (to_negative - to_positive) / (to_positive + TINY)


def derive(label: Tensor, nearness: Tensor, base: Tensor) -> Tensor:
    """The label of a modality: the mean of the row's label scaled, and shifted, by its nearness beside that of all."""
    return 0.5 * label * nearness / (base + TINY) + 0.5 * (label + nearness - base)
