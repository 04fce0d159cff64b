"""MCTN: words are translated to sound and back, what they were encoded to is translated to pictures, and the last code
decides the label, so that words alone are needed to predict.

H. Pham et al., "Found in Translation: Learning Robust Joint Representations by Cyclic Translations Between Modalities",
AAAI 2019, with the authors' code, whose widths and weights of losses are the defaults; its rate of 1e-4 is for 200
epochs. The code pads all modalities to one width, so that one encoder and one decoder translate there and back; here
each modality has a linear layer into the encoder and one out of the decoder. Its attention has no tanh, which cancels
the decoder's state in the softmax; Bahdanau's, which the paper cites, stands here.

Shapes: B rows of the batch, T steps of a target, S of a source, D features of a modality, h the hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._layers import PLAIN_ADAM, check_settings, expand, masked_softmax, valid_first
from pipeline.model import Input, Model, Prediction, zero_invalid


@dataclass(frozen=True, kw_only=True)
class MCTNConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    hidden: int = 32
    translation: float = 0.1  # weights of what translations miss
    cycle: float = 0.1
    second: float = 0.1

    def __post_init__(self) -> None:
        weights = ("translation", "cycle", "second")
        check_settings(self, *(f"{name} must be at least 0" for name in weights if not getattr(self, name) >= 0))


class MCTN(Model):
    """An encoder of the first modality, with three modalities a second encoder of its code, and an attentive LSTM.

    The first modality is text, or what takes its place; the others are the targets of translation, in order. With one
    modality nothing is translated. A row has a part in the loss of a translation if it has both ends of it.
    """

    config: MCTNConfig
    Config = MCTNConfig
    features: ClassVar[str] = "mulg"
    first_decides: ClassVar[bool] = True
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = PLAIN_ADAM

    def __init__(self, config: MCTNConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.source, *self.targets = self.inputs
        h, cycled = config.hidden, [*self.inputs][:2]
        self.into = nn.ModuleDict({m: nn.Linear(self.inputs[m].dim, h) for m in cycled})
        self.encode = nn.ModuleList(Encoder(h) for _ in range(max(len(self.targets), 1)))
        self.decode = nn.ModuleList(Decoder(h) for _ in self.targets)
        self.out = nn.ModuleDict({m: nn.Linear(h, self.inputs[m].dim) for m in self.inputs if self.targets})
        self.read = nn.LSTM(h, h, batch_first=True)
        self.weigh = nn.Linear(h, 1)
        self.head = nn.Linear(h, outputs)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs].

        The parts of the prediction are `code_0` and, of a second encoder, `code_1`, each [B, S, h], and for each
        modality `given_<modality>`, standardised [B, T, D], and `steps_<modality>`, bool [B, T]. The valid steps of the
        first modality are first.
        """
        parts = {}
        for m, x in self.standardise({m: values[m] for m in self.inputs}, masks).items():
            parts[f"given_{m}"], parts[f"steps_{m}"] = expand(x, masks[m], self.inputs[m].length)
        x, steps = valid_first(parts[f"given_{self.source}"], parts[f"steps_{self.source}"])
        parts |= {f"given_{self.source}": x, f"steps_{self.source}": steps}
        code = self.into[self.source](x)
        for level, encode in enumerate(self.encode):
            code = parts[f"code_{level}"] = encode(code, steps)
        states, _ = self.read(code)  # valid steps are first, and an LSTM sees no later one
        weights = masked_softmax(self.weigh(states).tanh(), steps.unsqueeze(2), dim=1)  # [B, S, 1]
        return Prediction(self.head((weights * states).sum(dim=1)), parts=parts)

    def loss(self, prediction: Prediction, labels: Tensor, rows: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        """The task's objective, and the weighted mean square errors of translating there, back, and to the third."""
        parts = prediction.parts
        assert parts is not None
        total = objective(prediction.logits, labels)
        for level, target in enumerate(self.targets):
            both = parts[f"steps_{self.source}"].any(dim=1) & parts[f"steps_{target}"].any(dim=1)
            if both.any():
                total = total + self._missed(level, target, {name: part[both] for name, part in parts.items()})
        return total

    def _missed(self, level: int, target: str, parts: Mapping[str, Tensor]) -> Tensor:
        """The weighted error of the translation to a target, and at level 0 of the way back, of rows that have both."""
        words, steps = parts[f"steps_{self.source}"], parts[f"steps_{target}"]
        there = self.out[target](self.decode[level](parts[f"code_{level}"], words, steps.shape[1]))  # [n, T, D]
        if level:
            return self.config.second * _error(there, parts[f"given_{target}"], steps)
        heard, known = valid_first(there, steps)
        code = self.encode[0](self.into[target](heard), known)
        back = self.out[self.source](self.decode[0](code, known, words.shape[1]))  # [n, S, D]
        missed = self.config.translation * _error(there, parts[f"given_{target}"], steps)
        return missed + self.config.cycle * _error(back, parts[f"given_{self.source}"], words)


class Encoder(nn.Module):
    """An LSTM in each direction over the valid steps, which are first; the sum of their states at each of them.

    They are not packed: a packed backward pass is quadratic in the steps on a CPU.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.onwards, self.backwards = (nn.LSTM(width, width, batch_first=True) for _ in range(2))

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """Maps x [B, S, h], steps [B, S] to the code [B, S, h], 0 at steps that are not valid."""
        place, count = torch.arange(x.shape[1], device=x.device), steps.sum(dim=1, keepdim=True)
        mirrored = torch.where(place < count, count - 1 - place, place)  # [B, S]: the last valid step first
        turned = mirrored.unsqueeze(2).expand_as(x)
        there, _ = self.onwards(x)
        back, _ = self.backwards(x.gather(1, turned))
        return zero_invalid(there + back.gather(1, turned), steps)


class Decoder(nn.Module):
    """An LSTM that at each step reads what its state attends to in a code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(width, width)
        self.state, self.code = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, code: Tensor, valid: Tensor, steps: int) -> Tensor:
        """Maps code [B, S, h], valid [B, S] to as many states as there are steps, [B, steps, h]."""
        keys, h = self.code(code), torch.zeros_like(code[:, 0])
        state, states = (h, h), []
        for _ in range(steps):
            scores = self.score((keys + self.state(state[0]).unsqueeze(1)).tanh())  # [B, S, 1]
            context = (masked_softmax(scores, valid.unsqueeze(2), dim=1) * code).sum(dim=1)  # [B, h]
            state = self.cell(context, state)
            states.append(state[0])
        return torch.stack(states, dim=1)


def _error(said: Tensor, given: Tensor, steps: Tensor) -> Tensor:
    """The mean square error of said and given [n, T, D] over the valid steps [n, T]."""
    return (said - given)[steps].square().mean()
