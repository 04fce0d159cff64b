"""RMFN: at every step, stages highlight a part of all states and fuse it, and what they find feeds each LSTM.

P. P. Liang et al., "Multimodal Language Analysis with Recurrent Multistage Fusion", EMNLP 2018: LSTHM cells (eqs. of
its section 3.3) read the modalities, and HIGHLIGHT, FUSE and SUMMARIZE make the vector z that all of them read at the
next step. HIGHLIGHT is an LSTM whose memory begins as a function of all states and whose output goes through a softmax;
FUSE is an LSTM whose states begin at 0. What these functions are is our choice, as are the widths, those of `mfm`, and
the three stages: no settings are published.

Shapes: B rows of the batch, L steps, K stages, M modalities, D features of a modality, H widths of all states in sum,
z width of the fused vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._aligned import Cells, one_length
from models._cross_modal import Front
from models._layers import PLAIN_ADAM, check_settings, masked_softmax
from pipeline.model import Input, Model, Prediction


@dataclass(frozen=True, kw_only=True)
class RMFNConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    text_hidden: int = 128
    audio_hidden: int = 32
    visual_hidden: int = 128
    stages: int = 3
    fused: int = 64  # width of z, and of the state of FUSE
    dropout: float = 0.3
    cross_modal: bool = False  # X20: directed attention between modalities before the LSTMs

    def __post_init__(self) -> None:
        check_settings(self)


class RMFN(Model):
    """LSTHM cells, multistage fusion at each step, and a linear layer on the last states beside the last z.

    All modalities have one length, since a step holds all of them. Raises ValueError if the lengths differ. A modality
    that is not valid at a step leaves its state as it is, a step without any changes nothing, and before its first
    valid step a modality is not highlighted. The gates of a prediction are the shares of HIGHLIGHT's weights, over
    stages and steps.
    """

    config: RMFNConfig
    Config = RMFNConfig
    features: ClassVar[str] = "hjcag"
    fixed_length: ClassVar[bool] = True
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = PLAIN_ADAM

    def __init__(self, config: RMFNConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        one_length(self.inputs)
        self.front = Front(self.inputs, config.cross_modal)
        hidden = {m: getattr(config, f"{m}_hidden") for m in self.inputs}
        self.cells = Cells(self.front.dims, hidden, beside=config.fused)
        self.fusion = MultistageFusion(sum(hidden.values()), config.fused, config.stages)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(sum(hidden.values()) + config.fused, outputs)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, L or 1, D], masks: modality -> bool [B, L or 1] -> logits [B, outputs], gates."""
        x, steps, maps = self.front(self.standardise({m: values[m] for m in self.inputs}, masks), masks, self.maps)
        valid = torch.stack([steps[m] for m in self.inputs], dim=2)  # [B, L, M]
        last, highlights = self._read(x, valid)
        shares = _shares(highlights.detach(), valid.any(dim=2))
        gates = dict(zip(self.inputs, shares.unbind(dim=1), strict=True))
        return Prediction(self.head(self.drop(last)), gates=gates, attention=maps)

    def _read(self, x: Mapping[str, Tensor], valid: Tensor) -> tuple[Tensor, Tensor]:
        """The last states and z, [B, H + z], and how much HIGHLIGHT gives to each modality at each step, [B, L, M]."""
        first = next(iter(x.values()))
        states, z = self.cells.begin(first[:, 0]), first.new_zeros(len(first), self.config.fused)
        begun = valid.int().cumsum(dim=1) > 0  # [B, L, M]
        highlights = []
        for t in range(first.shape[1]):
            beside = {m: torch.cat([x[m][:, t], z], dim=1) for m in x}  # [B, D + z]
            states = self.cells(beside, dict(zip(x, valid[:, t].unbind(dim=1), strict=True)), states)
            known = torch.cat([begun[:, t, [i]].expand_as(h) for i, (h, _) in enumerate(states.values())], dim=1)
            fused, weights = self.fusion(torch.cat([h for h, _ in states.values()], dim=1), known)
            z = torch.where(valid[:, t].any(dim=1, keepdim=True), fused, z)
            parts = weights.split(list(self.cells.hidden.values()), dim=1)
            highlights.append(torch.stack([part.sum(dim=1) for part in parts], dim=1))  # [B, M]
        return torch.cat([*(h for h, _ in states.values()), z], dim=1), torch.stack(highlights, dim=1)


class MultistageFusion(nn.Module):
    """K stages: HIGHLIGHT weighs the states by what it weighed before, FUSE adds them to its own, SUMMARIZE reads all.

    a_k = softmax(u_k), where LSTM maps h, a_k-1 and the memory c_k-1 to u_k and c_k, from a_0 = 0 and c_0 = tanh(M h);
    s_k = LSTM(a_k * h, s_k-1); z = tanh(S [s_1; ...; s_K]).
    """

    def __init__(self, width: int, fused: int, stages: int) -> None:
        super().__init__()
        self.stages = stages
        self.memory, self.highlight = nn.Linear(width, width), nn.LSTMCell(width, width)
        self.fuse = nn.LSTMCell(width, fused)
        self.summarise = nn.Linear(stages * fused, fused)

    def forward(self, h: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Maps states [B, H], of which only the `known`, bool [B, H], may be highlighted, to z [B, z] and the mean
        weights over stages [B, H]."""
        highlighted, memory, fuse = torch.zeros_like(h), self.memory(h).tanh(), None
        weights, states = [], []
        for _ in range(self.stages):
            output, memory = self.highlight(h, (highlighted, memory))
            highlighted = masked_softmax(output, known)
            weights.append(highlighted)
            fuse = self.fuse(highlighted * h, fuse)
            states.append(fuse[0])
        z: Tensor = self.summarise(torch.cat(states, dim=1)).tanh()
        return z, torch.stack(weights).mean(dim=0)


def _shares(highlights: Tensor, some: Tensor) -> Tensor:
    """highlights [B, L, M] -> their mean over the steps `some` [B, L]; equal shares for a row without any, [B, M]."""
    count = some.sum(dim=1, keepdim=True)
    mean = (highlights * some.unsqueeze(2)).sum(dim=1) / count.clamp(min=1)
    return torch.where(count > 0, mean, 1 / highlights.shape[2])
