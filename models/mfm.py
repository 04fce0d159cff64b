"""MFM: one factor of all modalities decides the label, and with a factor of its own it rebuilds each modality.

Y.-H. H. Tsai et al., "Learning Factorized Multimodal Representations", ICLR 2019, with the authors' code: a Memory
Fusion Network (A. Zadeh et al., AAAI 2018) infers the common factor, LSTMs infer the others, LSTMs decode, and the
maximum mean discrepancy stands for the divergence from the prior. Settings are those that MMSA publishes for MOSI; its
trainer never reads the learning rate beside them, so Adam's own stands here.

Shapes: B rows of the batch, L steps, D features of a modality, H widths of all states in sum, n and k samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._aligned import Cells, one_length
from models._cross_modal import Front
from models._layers import PLAIN_ADAM, LastState, check_settings
from pipeline.model import Input, Model, Prediction


@dataclass(frozen=True, kw_only=True)
class MFMConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    text_hidden: int = 128
    audio_hidden: int = 32
    visual_hidden: int = 128
    memory: int = 64
    attend_inner: int = 32
    attend_dropout: float = 0.7
    change_inner: int = 64
    keep_inner: int = 32
    add_inner: int = 64
    add_dropout: float = 0.5
    common_latent: int = 80
    text_latent: int = 64
    audio_latent: int = 80
    visual_latent: int = 80
    common_factor: int = 64
    text_factor: int = 32
    audio_factor: int = 16
    visual_factor: int = 64
    common_dropout: float = 0.5
    text_dropout: float = 0.5
    audio_dropout: float = 0.7
    visual_dropout: float = 0.5
    prior: float = 100.0  # weight of the discrepancy of latents from a normal distribution
    text_rebuilt: float = 0.5  # weights of what decoding misses
    audio_rebuilt: float = 0.01
    visual_rebuilt: float = 0.5
    cross_modal: bool = False  # X20: directed attention between modalities before the LSTMs

    def __post_init__(self) -> None:
        weights = ("prior", "text_rebuilt", "audio_rebuilt", "visual_rebuilt")
        check_settings(self, *(f"{name} must be at least 0" for name in weights if not getattr(self, name) >= 0))


class MFM(Model):
    """A Memory Fusion Network to the common latent and factor, two layers to the logits; all else serves the loss.

    All modalities have one length, since a step holds all of them. Raises ValueError if the lengths differ. A modality
    that is not valid at a step leaves its state as it is, and one that a row lacks has no part in the losses.
    """

    config: MFMConfig
    Config = MFMConfig
    features: ClassVar[str] = "hjcag"
    fixed_length: ClassVar[bool] = True
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {**PLAIN_ADAM, "batch_size": 64, "weight_decay": 0.001}
    )

    def __init__(self, config: MFMConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        one_length(self.inputs)
        self.front = Front(self.inputs, config.cross_modal)
        dims, common = self.front.dims, config.common_factor
        hidden, latent, factor = (
            {m: getattr(config, f"{m}_{part}") for m in dims} for part in ("hidden", "latent", "factor")
        )
        self.fuse = MemoryFusion(config, dims, hidden)
        self.latent = nn.Linear(self.fuse.width, config.common_latent)
        self.factor = _Factor(config.common_latent, common, config.common_dropout)
        self.head = nn.Sequential(nn.Linear(common, common), nn.ReLU(), nn.Linear(common, outputs))
        self.read = nn.ModuleDict({m: LastState(nn.LSTM, dims[m], latent[m], 1) for m in dims})
        self.own_latent = nn.ModuleDict({m: nn.Linear(latent[m], latent[m]) for m in dims})
        self.own_factor = nn.ModuleDict(
            {m: _Factor(latent[m], factor[m], getattr(config, f"{m}_dropout")) for m in dims}
        )
        self.decode = nn.ModuleDict({m: Decoder(common + factor[m], self.inputs[m].dim) for m in dims})

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, L or 1, D], masks: modality -> bool [B, L or 1] -> logits [B, outputs].

        The parts of the prediction are the common `latent` and `factor`, [B, width], and for each modality
        `given_<modality>`, which is to be rebuilt, [B, L or 1, D], `read_<modality>` [B, L, D] and `steps_<modality>`,
        bool [B, L].
        """
        given = self.standardise({m: values[m] for m in self.inputs}, masks)
        x, steps, maps = self.front(given, masks, self.maps)
        latent = self.latent(self.fuse(x, steps))
        factor = self.factor(latent)
        parts = {"latent": latent, "factor": factor}
        for name, part in {"given": given, "read": x, "steps": steps}.items():
            parts |= {f"{name}_{m}": part[m] for m in self.inputs}
        return Prediction(self.head(factor), attention=maps, parts=parts)

    def loss(self, prediction: Prediction, labels: Tensor, rows: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        """The task's objective, and over the rows that have them: discrepancy of latents, error of rebuilt steps."""
        parts, config = prediction.parts, self.config
        assert parts is not None
        total = objective(prediction.logits, labels)
        some = torch.stack([parts[f"steps_{m}"].any(dim=1) for m in self.inputs]).any(dim=0)
        if some.any():
            total = total + config.prior * _from_normal(parts["latent"][some])
        for m in self.inputs:
            here = parts[f"steps_{m}"].any(dim=1)
            if here.any():
                latent, error = self._rebuilt(m, {name: part[here] for name, part in parts.items()})
                total = total + config.prior * _from_normal(latent) + getattr(config, f"{m}_rebuilt") * error
        return total

    def _rebuilt(self, m: str, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The latent of a modality, [n, width], and the mean square error of its decoded steps, a scalar."""
        steps = parts[f"steps_{m}"]
        latent = self.own_latent[m](self.read[m](parts[f"read_{m}"], steps))
        decoded = self.decode[m](torch.cat([parts["factor"], self.own_factor[m](latent)], dim=1), steps.shape[1])
        return latent, (decoded - parts[f"given_{m}"]).square()[steps].mean()  # [n, L, D] -> [valid, D]


class MemoryFusion(nn.Module):
    """LSTM cells side by side, and a memory that their attended cell states, before and after a step, change.

    width: of what comes out, H + memory.
    """

    def __init__(self, config: MFMConfig, dims: Mapping[str, int], hidden: Mapping[str, int]) -> None:
        super().__init__()
        self.cells, self.memory = Cells(dims, hidden), config.memory
        whole = sum(hidden.values())
        both, self.width = 2 * whole + self.memory, whole + self.memory
        self.attend = _layers(2 * whole, config.attend_inner, 2 * whole, config.attend_dropout)
        self.change = _layers(2 * whole, config.change_inner, self.memory, 0.0)
        self.keep = _layers(both, config.keep_inner, self.memory, 0.0)
        self.add = _layers(both, config.add_inner, self.memory, config.add_dropout)

    def forward(self, x: Mapping[str, Tensor], steps: Mapping[str, Tensor]) -> Tensor:
        """Maps x and steps, modality -> [B, L, D] and [B, L], to the last hidden states and memory, [B, H + memory]."""
        first = next(iter(x.values()))
        states, memory = self.cells.begin(first[:, 0]), first.new_zeros(len(first), self.memory)
        for t in range(first.shape[1]):
            valid = {m: steps[m][:, t] for m in x}
            after = self.cells({m: x[m][:, t] for m in x}, valid, states)
            seen = torch.cat([c for part in (states, after) for _, c in part.values()], dim=1)  # [B, 2 H]
            some = torch.stack(list(valid.values())).any(dim=0)
            memory = torch.where(some.unsqueeze(1), self._changed(memory, seen), memory)
            states = after
        return torch.cat([*(h for h, _ in states.values()), memory], dim=1)

    def _changed(self, memory: Tensor, seen: Tensor) -> Tensor:
        attended = self.attend(seen).softmax(dim=1) * seen
        both = torch.cat([attended, memory], dim=1)
        changed: Tensor = self.keep(both).sigmoid() * memory + self.add(both).sigmoid() * self.change(attended).tanh()
        return changed


class Decoder(nn.Module):
    """An LSTM that reads a factor and then what it said itself, and a linear layer: [B, h] -> [B, steps, D]."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(width, width), nn.Linear(width, dim)

    def forward(self, factor: Tensor, steps: int) -> Tensor:
        """Maps the factor [B, h] to that many steps, [B, steps, D]."""
        said, state, states = factor, (torch.zeros_like(factor), torch.zeros_like(factor)), []
        for _ in range(steps):
            state = self.cell(said, state)
            said = state[0]
            states.append(said)
        out: Tensor = self.out(torch.stack(states, dim=1))
        return out


class _Factor(nn.Sequential):
    """From a latent to its factor: two rectified layers."""

    def __init__(self, latent: int, width: int, dropout: float) -> None:
        super().__init__(*_layers(latent, width, width, dropout), nn.ReLU())


def _layers(dim: int, inner: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, out))


def discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """The maximum mean discrepancy of samples x [n, d] and y [k, d] under the kernel exp(-|x - y|^2 / d^2)."""
    return _kernel(x, x).mean() + _kernel(y, y).mean() - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    apart = (x.unsqueeze(1) - y.unsqueeze(0)).square().sum(dim=2)  # [n, k]
    return (-apart / x.shape[1] ** 2).exp()


def _from_normal(latent: Tensor) -> Tensor:
    """The discrepancy of latents [n, d] from as many draws of the prior."""
    return discrepancy(latent, torch.randn_like(latent))
